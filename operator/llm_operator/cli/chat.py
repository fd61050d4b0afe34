"""`kubectl llm chat`: a conversation with a served model, through the API server; no port is opened."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.serving import Serving, add_way
from llm_operator.cli.where import add_where, connected

JSON = dict[str, Any]

STDIN_CHARACTERS = 4 << 20
SHORTEST_SECONDS = 0.02
"""From the first token to the last, for a rate that means something."""
_HELP = "/system TEXT  /reset  /save FILE  /help  /exit; a line that ends with \\ goes on; Ctrl-C stops the answer"


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("chat", help="talk to a served model", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("-m", "--message", metavar="TEXT", help="one question; without it and without a terminal: stdin")
    line.add_argument("--system", metavar="TEXT", help="system prompt")
    line.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of an answer")
    line.add_argument("--temperature", type=float, metavar="T", help="0: always the likeliest token")
    add_way(line)
    add_where(line)


def run(chosen: argparse.Namespace) -> int:
    """Ask once, or talk until the end of input.

    Raises:
        BadInputError: no such object, it does not serve, or the engine refuses.
    """
    cluster, namespace = connected(chosen)
    body = cluster.object(str(namespace), chosen.name)
    chat = Chat(Serving(cluster, body, forward=chosen.port_forward), chosen)
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

    def __init__(self, serving: Serving, chosen: argparse.Namespace) -> None:
        self._serving = serving
        self.name = serving.name
        self._options = {"max_tokens": chosen.max_tokens, "temperature": chosen.temperature}
        self.system: str | None = chosen.system
        self.messages: list[JSON] = []

    def ask(self, question: str) -> None:
        """Print the answer as it comes, then its speed.

        Raises:
            BadInputError: the engine refuses, or the stream ends with an error.
        """
        start = time.monotonic()
        first: float | None = None
        answer, pieces, tokens, thinking = "", 0, 0, False
        messages = [*self.messages, {"role": "user", "content": question}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "messages": [*system, *messages],
            "stream_options": {"include_usage": True},
            **{name: value for name, value in self._options.items() if value is not None},
        }
        try:
            for piece in self._serving.stream(body):
                if not piece.text:
                    tokens = piece.completion_tokens
                    continue
                first = first or time.monotonic()
                pieces += 1
                if piece.thought != thinking:
                    print("\n[thinks] " if piece.thought else "\n[answers] ", end="")
                    thinking = piece.thought
                answer += "" if piece.thought else piece.text
                # A model must not steer the terminal.
                print(re.sub(r"[^\n\t]+", lambda part: one_line(part[0]), piece.text), end="", flush=True)
        finally:
            if first is not None:
                print()
            self.messages = [*messages, {"role": "assistant", "content": answer}] if answer else self.messages
        end = time.monotonic()
        if first is not None and sys.stderr.isatty():
            count, unit = (tokens, "tokens") if tokens else (pieces, "pieces")
            took = end - first
            # An answer that comes at once, as over a proxy that buffers, has no rate.
            rate = f", then {(count - 1) / took:,.1f}/s" if count > 1 and took >= SHORTEST_SECONDS else ""
            print(f"[{count:,} {unit}, first after {first - start:.2f} s{rate}]", file=sys.stderr)


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
                if not _command(chat, text.strip()):
                    return 0
            elif text.strip():
                chat.ask(text.strip())
        except KeyboardInterrupt:
            print("[stopped]")
        except BadInputError as error:
            print(f"kubectl llm chat: {one_line(str(error))}", file=sys.stderr)


def _read() -> str:
    text = input("> ")
    while text.endswith("\\"):
        text = f"{text[:-1]}\n{input('. ')}"
    return text


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
    elif word == "/save":
        _save(chat, rest.strip())
    elif word == "/help":
        print(_HELP)
    else:
        raise BadInputError([f"there is no command {word[:40]}: {_HELP}; a space before / makes it a question"])
    return True


def _save(chat: Chat, name: str) -> None:
    if not name:
        raise BadInputError(["/save needs the name of a file"])
    system = [{"role": "system", "content": chat.system}] if chat.system else []
    try:
        Path(name).write_text(json.dumps([*system, *chat.messages], indent=2, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        raise BadInputError([f"{name}: cannot be written: {getattr(error, 'strerror', None) or error}"]) from None
    print(f"Saved to {name}.")
