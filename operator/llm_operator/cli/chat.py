"""`kubectl llm chat`: a conversation with a served model, through the API server's proxy; no port is opened."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_operator.cli.cluster import Cluster, RequestRefusedError
from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import UnreadableError, read_json

JSON = dict[str, Any]

READ_SECONDS = 300
"""Longest silence of an engine that is prefilling a long prompt."""
LINE_BYTES = 1 << 20
STDIN_CHARACTERS = 4 << 20
_HELP = "/system TEXT  /reset  /save FILE  /help  /exit; a line that ends with \\ goes on; Ctrl-C stops the answer"


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("chat", help="talk to a served model", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("-m", "--message", metavar="TEXT", help="one question; without it and without a terminal: stdin")
    line.add_argument("--system", metavar="TEXT", help="system prompt")
    line.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer")
    line.add_argument("--temperature", type=float, metavar="T", help="0: always the likeliest token")
    add_where(line)


def run(chosen: argparse.Namespace) -> int:
    """Ask once, or talk until the end of input.

    Raises:
        BadInputError: no such object, it does not serve, or the engine refuses.
    """
    cluster, namespace = connected(chosen)
    chat = Chat(cluster, cluster.object(str(namespace), chosen.name), chosen)
    if chosen.message is not None or not sys.stdin.isatty():
        question = chosen.message if chosen.message is not None else sys.stdin.read(STDIN_CHARACTERS).strip()
        if not question:
            raise BadInputError(["there is no question: give -m, or write it to standard input"])
        try:
            chat.ask(question)
        except KeyboardInterrupt:
            return 130
        return 0
    return _talk(chat)


class Chat:
    """A conversation. What was stopped half-way stays in it, as the user has seen it."""

    def __init__(self, cluster: Cluster, body: JSON, chosen: argparse.Namespace) -> None:
        self._cluster = cluster
        meta, spec = body["metadata"], body["spec"]
        self.name = meta["name"]
        if (spec.get("engine") or {}).get("apiKey"):
            # The API server takes the Authorization header for its own and never passes it on.
            raise BadInputError(
                [
                    f"{self.name} needs an API key (spec.engine.apiKey), which the API server's proxy drops: "
                    f"run kubectl -n {meta['namespace']} port-forward service/{self.name} 8000:80 "
                    "and use any OpenAI client"
                ]
            )
        ready = _condition(body, "Available")
        if ready.get("status") == "False":
            why = _condition(body, "Ready")
            raise BadInputError(
                [
                    f"{self.name} does not serve: {why.get('reason', 'Unknown')}: {why.get('message', '')}; "
                    f"see kubectl llm status {self.name}"
                ]
            )
        self._base = f"/api/v1/namespaces/{meta['namespace']}/services/{self.name}:http/proxy/v1"
        self._options = {"max_tokens": chosen.max_tokens, "temperature": chosen.temperature}
        self._model = self._served()
        self.system: str | None = chosen.system
        self.messages: list[JSON] = []

    def _served(self) -> str:
        try:
            found = self._cluster.get(f"{self._base}/models", f"ask {self.name} for its model")
            return str(found["data"][0]["id"])
        except (KeyError, IndexError, TypeError):
            raise BadInputError([f"{self.name} does not answer like an OpenAI API: it names no model"]) from None
        except RequestRefusedError as error:
            if error.status == 503:
                raise BadInputError([f"{self.name} is not ready: {error.said}; see kubectl llm status"]) from None
            raise

    def ask(self, question: str) -> None:
        """Print the answer as it comes, then its speed.

        Raises:
            BadInputError: the engine refuses, or the stream ends with an error.
        """
        start = time.monotonic()
        first: float | None = None
        answer, tokens, thinking = "", 0, False
        messages = [*self.messages, {"role": "user", "content": question}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self._model,
            "messages": [*system, *messages],
            "stream": True,
            **{name: value for name, value in self._options.items() if value is not None},
        }
        try:
            for thought, text in self._stream(body):
                first = first or time.monotonic()
                tokens += 1
                if thought != thinking:
                    print("\n[thinks] " if thought else "\n[answers] ", end="")
                    thinking = thought
                answer += "" if thought else text
                # A model must not steer the terminal.
                print(re.sub(r"[^\n\t]+", lambda part: one_line(part[0]), text), end="", flush=True)
        finally:
            print()
            self.messages = [*messages, {"role": "assistant", "content": answer}] if answer else self.messages
        end = time.monotonic()
        if first is not None and sys.stderr.isatty():
            rate = (tokens - 1) / (end - first) if tokens > 1 and end > first else 0.0
            print(f"[{tokens} pieces, first after {first - start:.2f} s, then {rate:.1f}/s]", file=sys.stderr)

    def _stream(self, body: JSON) -> Iterator[tuple[bool, str]]:
        """Whether it is a thought, and the text, of each piece."""
        text = json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        path = f"{self._base}/chat/completions"
        with self._cluster.open("POST", path, f"ask {self.name}", text, headers, READ_SECONDS) as answer:
            for event in self._events(answer):
                if not event.startswith(b"data:"):
                    continue
                data = event[5:].strip()
                if data == b"[DONE]":
                    return
                yield from _pieces(data, self.name)
        raise self._broken_off()

    def _events(self, answer: Any) -> Iterator[bytes]:
        try:
            yield from self._cluster.lines(answer, LINE_BYTES)
        except BadInputError:
            # The answer had begun, so the API server was there: what ended is the engine or the way to it.
            raise self._broken_off() from None

    def _broken_off(self) -> BadInputError:
        return BadInputError(
            [f"{self.name} broke off in the middle of the answer: the engine may have restarted; ask again"]
        )


def _pieces(data: bytes, name: str) -> Iterator[tuple[bool, str]]:
    try:
        chunk = read_json(data, LINE_BYTES)
    except UnreadableError as error:
        raise BadInputError([f"{name} sent a piece that is not JSON: {error}"]) from None
    if not isinstance(chunk, dict):
        return
    if chunk.get("error") or chunk.get("object") == "error":
        problem = chunk.get("error") or chunk
        said = problem.get("message") if isinstance(problem, dict) else problem
        raise BadInputError([f"{name} stopped with an error: {said}"])
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        for key, thought in (("reasoning_content", True), ("reasoning", True), ("content", False)):
            if isinstance(delta.get(key), str) and delta[key]:
                yield thought, delta[key]


def _condition(body: JSON, kind: str) -> JSON:
    for entry in (body.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            return dict(entry)
    return {}


def _talk(chat: Chat) -> int:
    import readline  # noqa: F401, PLC0415 - gives input() its history and line editing

    print(f"{chat.name}: {_HELP}")
    while True:
        try:
            text = _read()
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        try:
            if text.startswith("/"):
                if not _command(chat, text):
                    return 0
            elif text:
                chat.ask(text)
        except KeyboardInterrupt:
            print("[stopped]")
        except BadInputError as error:
            print(f"kubectl llm chat: {one_line(str(error))}", file=sys.stderr)


def _read() -> str:
    text = input("> ")
    while text.endswith("\\"):
        text = f"{text[:-1]}\n{input('. ')}"
    return text.strip()


def _command(chat: Chat, text: str) -> bool:
    """Carry out a command; whether to go on."""
    word, _, rest = text.partition(" ")
    if word in ("/exit", "/quit"):
        return False
    if word == "/system":
        chat.system = rest.strip() or None
        print("System prompt set." if chat.system else "System prompt removed.")
    elif word == "/reset":
        chat.messages = []
        print("The conversation starts again.")
    elif word == "/save" and rest.strip():
        system = [{"role": "system", "content": chat.system}] if chat.system else []
        try:
            Path(rest.strip()).write_text(json.dumps([*system, *chat.messages], indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise BadInputError([f"{rest.strip()}: cannot be written: {error.strerror or error}"]) from None
        print(f"Saved to {rest.strip()}.")
    else:
        print(_HELP)
    return True
