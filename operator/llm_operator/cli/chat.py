"""`kubectl llm chat`: a conversation with a served model, through the API server; no port is opened."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from llm_operator.cli.errors import BadInputError, legible, one_line
from llm_operator.cli.serving import Piece, Serving, add_way
from llm_operator.cli.thoughts import Thoughts
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import natural_number

JSON = dict[str, Any]

STDIN_BYTES = 4 << 20
NOT_TEXT = "{} is not UTF-8 text: convert it, such as with iconv -t UTF-8"
HOTTEST = 2.0
"""As both engines take it."""
SHORTEST_SECONDS = 0.02
"""From the first token to the last, for a rate that means something."""
ENDS = ("exit", "quit")
"""Typed alone, as in LMDeploy's own client."""
_HELP = "/system TEXT  /reset  /save FILE  /help  /exit; a line that ends with \\ goes on; Ctrl-C stops the answer"


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("chat", help="talk to a served model", description=__doc__, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument("-m", "--message", metavar="TEXT", help="one question; without it and without a terminal: stdin")
    line.add_argument("--system", metavar="TEXT", help="system prompt")
    line.add_argument("--max-tokens", type=_tokens, metavar="N", help="most tokens of an answer")
    line.add_argument("--temperature", type=_temperature, metavar="T", help="0: always the likeliest token")
    add_way(line)
    add_where(line)


def _tokens(text: str) -> int:
    number = natural_number(text, 9)
    if not number:
        raise argparse.ArgumentTypeError(f"{text[:20]!r}: expected a whole number from 1")
    return number


def _temperature(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= HOTTEST:
        raise argparse.ArgumentTypeError(f"{text[:20]!r}: expected a number from 0 to {HOTTEST:g}")
    return number


def run(chosen: argparse.Namespace) -> int:
    """Ask once, or talk until the end of input.

    Raises:
        BadInputError: no such object, it does not serve, or the engine refuses.
    """
    for option, text in (("--message", chosen.message), ("--system", chosen.system)):
        _refuse_what_is_no_text(option, text or "")
    once = chosen.message is not None or not sys.stdin.isatty()
    question = _question(chosen.message) if once else ""
    cluster, namespace = connected(chosen)
    body = cluster.object(str(namespace), chosen.name)
    chat = Chat(Serving(cluster, body, forward=chosen.port_forward), chosen)
    if not once:
        return _talk(chat)
    try:
        chat.ask(question)
    except KeyboardInterrupt:
        return 130
    return 0


def _question(message: str | None) -> str:
    """The one question, of the command line or of standard input."""
    question = message
    if question is None:
        content = sys.stdin.buffer.read(STDIN_BYTES + 1)
        if len(content) > STDIN_BYTES:
            raise BadInputError([f"the question on standard input is longer than {STDIN_BYTES >> 20} MiB"])
        try:
            question = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            raise BadInputError([NOT_TEXT.format("standard input")]) from None
        if "\0" in question:
            raise BadInputError([NOT_TEXT.format("standard input")])
    if not question.strip():
        raise BadInputError(["there is no question: give -m, or write it to standard input"])
    return question.strip()


def _refuse_what_is_no_text(what: str, text: str) -> None:
    """Bytes that are not UTF-8 reach Python as halves of surrogate pairs, which JSON cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInputError([NOT_TEXT.format(what)]) from None


class Chat:
    """A conversation. What was stopped half-way stays in it, as the user has seen it."""

    def __init__(self, serving: Serving, chosen: argparse.Namespace) -> None:
        self._serving = serving
        self.name = serving.name
        self._options = {"max_tokens": chosen.max_tokens, "temperature": chosen.temperature}
        self.system: str | None = chosen.system
        self.messages: list[JSON] = []
        self.saved: set[Path] = set()
        """Files that this conversation made, which it may write again."""

    def ask(self, question: str) -> None:
        """Print the answer as it comes, then its speed.

        Raises:
            BadInputError: the engine refuses, or the stream ends with an error.
        """
        messages = [*self.messages, {"role": "user", "content": question}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "messages": [*system, *messages],
            "stream_options": {"include_usage": True},
            **{name: value for name, value in self._options.items() if value is not None},
        }
        answer = Answer()
        try:
            for piece in self._serving.stream(body):
                answer.take(piece)
        finally:
            answer.close()
            if answer.text:
                self.messages = [*messages, {"role": "assistant", "content": answer.text}]
        if sys.stderr.isatty() and answer.pieces:
            print(f"[{answer.speed()}]", file=sys.stderr)
        if note := self._note(answer):
            print(f"kubectl llm chat: {note}", file=sys.stderr)

    def _note(self, answer: Answer) -> str:
        """What the user should know of an answer that ended."""
        limit = self._options["max_tokens"]
        if answer.finish == "length" and limit is not None and answer.tokens in (0, limit):
            return f"the answer ends here: --max-tokens is {limit:,}"
        if answer.finish == "length":
            return "the answer ends here: the model's context is full; begin a new one, or shorten the question"
        if answer.finish == "content_filter":
            return "the answer ends here: the engine's filter stopped it"
        if answer.pieces and not answer.text.strip() and not answer.called:
            return f"{self.name} ended after its thoughts, without an answer"
        return "" if answer.pieces else f"{self.name} gave an empty answer"


class Answer:
    """One answer while it streams: printed as it comes, thoughts and calls of tools apart.

    Attributes:
        text: the answer so far, without thoughts.
        pieces: pieces of text that came.
        called: it calls a tool.
        tokens: tokens of the answer as the engine counted; 0: it did not.
        finish: why it ended, in the engine's word.
    """

    def __init__(self) -> None:
        self.text, self.finish = "", ""
        self.pieces = self.tokens = 0
        self.called = False
        self._start = time.monotonic()
        self._first = self._end = 0.0
        self._kind = ""
        self._tags: Thoughts | None = Thoughts()

    def take(self, piece: Piece) -> None:
        """Print a piece."""
        self.finish = piece.finish or self.finish
        self.tokens = piece.completion_tokens or self.tokens
        if not piece.text:
            return
        self._first = self._first or time.monotonic()
        self.pieces += 1
        self.called = self.called or piece.call
        if piece.thought or piece.call:
            self._tags = None if piece.thought else self._tags  # the engine separates them
            self._print(piece.text, "thinks" if piece.thought else "calls")
        elif self._tags is None:
            self._say(piece.text, thought=False)
        else:
            for text, thought in self._tags.add(piece.text):
                if self._tags.late and self.text:
                    # It was on the screen as an answer, but was none.
                    self.text, self._kind = "", "late"
                self._say(text, thought=thought)

    def close(self) -> None:
        """End the line."""
        for text, thought in self._tags.end() if self._tags is not None else ():
            self._say(text, thought=thought)
        self._end = time.monotonic()
        if self._kind:
            print(file=_stream(self._kind), flush=True)

    def speed(self) -> str:
        """Tokens, time to the first one and rate, in words."""
        count, unit = (self.tokens, "token") if self.tokens else (self.pieces, "piece")
        took = self._end - self._first
        # An answer that comes at once, as over a proxy that buffers, has no rate.
        rate = f", then {(count - 1) / took:,.1f}/s" if count > 1 and took >= SHORTEST_SECONDS else ""
        return f"{count:,} {unit}{'s' * (count != 1)}, first after {self._first - self._start:.2f} s{rate}"

    def _say(self, text: str, *, thought: bool) -> None:
        self.text += "" if thought else text
        self._print(text, "thinks" if thought else "answers")

    def _print(self, text: str, kind: str) -> None:
        if kind != self._kind:
            if self._kind:
                print(file=_stream(self._kind))
            if kind != "answers" or (self._kind and sys.stdout.isatty()):
                print(f"[{kind}] ", end="", file=_stream(kind))
            self._kind = kind
        print(legible(text), end="", file=_stream(kind), flush=True)


def _stream(kind: str) -> TextIO:
    """A script reads the answer alone on standard output."""
    return sys.stdout if kind in ("answers", "late") or sys.stdout.isatty() else sys.stderr


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
        except BadInputError as error:
            print(f"kubectl llm chat: {one_line(str(error))}", file=sys.stderr)
            continue
        try:
            if not _turn(chat, text):
                return 0
        except KeyboardInterrupt:
            print("[stopped]")
        except BadInputError as error:
            print(f"kubectl llm chat: {one_line(str(error))}", file=sys.stderr)


def _turn(chat: Chat, text: str) -> bool:
    """Answer a question or carry out a command; whether to go on."""
    if text.strip() in ENDS:
        return False
    if text.startswith("/"):
        return _command(chat, text.strip())
    if text.strip():
        chat.ask(text.strip())
    return True


def _read() -> str:
    what = "what you typed"
    try:
        text = input("> ")
        while text.endswith("\\"):
            text = f"{text[:-1]}\n{input('. ')}"
    except UnicodeDecodeError:
        raise BadInputError([NOT_TEXT.format(what)]) from None
    _refuse_what_is_no_text(what, text)
    return text


def _command(chat: Chat, text: str) -> bool:
    """Carry out a command; whether to go on."""
    word, _, rest = text.partition(" ")
    if word in ("/exit", "/quit", "/bye"):
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
    """Write the conversation to a new file that only its user can read, or to one that it saved before."""
    if not name:
        raise BadInputError(["/save needs the name of a file"])
    system = [{"role": "system", "content": chat.system}] if chat.system else []
    try:
        path = Path(name).expanduser().absolute()
        text = json.dumps([*system, *chat.messages], indent=2, ensure_ascii=False) + "\n"
        new = os.O_TRUNC if path in chat.saved else os.O_CREAT | os.O_EXCL
        with open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW | new, 0o600), "w", encoding="utf-8") as file:
            chat.saved.add(path)
            file.write(text)
    except FileExistsError:
        raise BadInputError([f"{name} is there already: give another name, or remove it first"]) from None
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        raise BadInputError([f"{name}: cannot be written: {getattr(error, 'strerror', None) or error}"]) from None
    print(f"Saved to {name}.")
