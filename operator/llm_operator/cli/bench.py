"""`kubectl llm bench`: a bounded load on a model: time to first token, inter-token latency, tokens per second."""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm_operator.cli.errors import BadInputError, one_line
from llm_operator.cli.measure import Level, Sample, bars
from llm_operator.cli.screen import Progress, columns, draws_blocks
from llm_operator.cli.serving import Serving, add_way
from llm_operator.cli.table import add_output, aligned, print_document
from llm_operator.cli.threads import Worker
from llm_operator.cli.where import add_where, connected
from llm_operator.foreign import natural_number

EXIT_FAILED = 1
EXIT_STOPPED = 130
MOST_CONCURRENCY = 256
MOST_REQUESTS = 100_000
MOST_SECONDS = 3600
MOST_TOKENS = 1_000_000
MOST_LEVELS = 16
GIVE_UP = 20
"""Failures in a row that end a level: an engine that is gone need not be asked ten thousand times."""
POLL_SECONDS = 0.2
TEMPLATE_TOKENS = 16
"""Around the words of a prompt, if the engine does not count."""
PROBES = (1, 3)
"""How often the two prompts that calibrate hold every word: short ones, which the smallest model takes."""
_WORDS = (
    "time",
    "year",
    "people",
    "way",
    "day",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
)
_DESCRIPTION = """Send chat completions at one or more concurrencies and say how fast they were answered. It ends by
itself, and loads the engine that users are served by. Exit code: 0 all were answered; 1 some failed; 2 bad input, or
the engine refuses; 130 stopped by Ctrl-C, with what was measured."""


def add_to(commands: Any) -> None:
    """Declare the command."""
    line = commands.add_parser("bench", help="how fast it answers", description=_DESCRIPTION, allow_abbrev=False)
    line.add_argument("name", metavar="NAME", help="the LLMDeployment")
    line.add_argument(
        "-c", "--concurrency", type=_levels, default=(1, 4, 16), metavar="N[,N...]", help="default 1,4,16"
    )
    line.add_argument(
        "--prompt-tokens", type=_number(1, MOST_TOKENS), default=256, metavar="N", help="about; default 256"
    )
    line.add_argument("--output-tokens", type=_number(1, MOST_TOKENS), default=128, metavar="N", help="default 128")
    line.add_argument(
        "--requests",
        type=_number(1, MOST_REQUESTS),
        metavar="N",
        help="of each concurrency; default: 4 times the concurrency, at least 8",
    )
    line.add_argument(
        "--seconds", type=_number(1, MOST_SECONDS), default=60, metavar="S", help="longest time of each; default 60"
    )
    line.add_argument(
        "--same-prompt", action="store_true", help="one prompt for all requests, which prefix caching answers from"
    )
    line.add_argument("--seed", type=int, default=0, metavar="N", help="of the prompts' words; default 0")
    line.add_argument("--plot", action="store_true", help="draw tokens/s and time to first token by concurrency")
    add_way(line)
    add_where(line)
    add_output(line)


def _number(least: int, most: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        number = natural_number(text, 9)
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text[:20]!r}: expected a whole number from {least:,} to {most:,}")
        return number

    return parsed


def _levels(text: str) -> tuple[int, ...]:
    found = tuple(dict.fromkeys(_number(1, MOST_CONCURRENCY)(part.strip()) for part in text.split(",")))
    if len(found) > MOST_LEVELS:
        raise argparse.ArgumentTypeError(f"{len(found)} concurrencies: expected at most {MOST_LEVELS}")
    return found


def run(chosen: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        BadInputError: no such object, it does not serve, or the engine refuses the first request.
    """
    cluster, namespace = connected(chosen)
    serving = Serving(cluster, cluster.object(str(namespace), chosen.name), forward=chosen.port_forward)
    prompts = Prompts(chosen.prompt_tokens, chosen.seed, same=chosen.same_prompt)
    done: list[Level] = []
    stopped = False
    try:
        prompts.calibrate(lambda text: _probe(serving, text, chosen.seconds))
        with Progress() as progress:
            for concurrency in chosen.concurrency:
                load = Load(serving, prompts, chosen, concurrency)
                stopped = load.run(progress)
                done.append(load.level())
                if stopped or len(load.failures) >= GIVE_UP:
                    break
    except KeyboardInterrupt:
        stopped = True
    _print(chosen, serving, done)
    if stopped:
        print("kubectl llm bench: stopped; this is what was measured", file=sys.stderr)
        return EXIT_STOPPED
    failures = [failure for level in done for failure in level.failures]
    for failure in sorted(set(failures))[:5]:
        print(f"kubectl llm bench: {failures.count(failure):,} failed: {one_line(failure)}", file=sys.stderr)
    return EXIT_FAILED if failures else 0


class Prompts:
    """Prompts of about one length, each of other words, so that no cache answers them."""

    def __init__(self, tokens: int, seed: int, *, same: bool) -> None:
        self._tokens = tokens
        self._count_of_words = max(1, tokens - TEMPLATE_TOKENS)
        self._seed, self._same = seed, same
        self._count = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        """A prompt."""
        with self._lock:
            self._count += 0 if self._same else 1
            # Words are drawn for timing, not for secrecy.
            source = random.Random(f"{self._seed}/{self._count}")  # noqa: S311
        return " ".join(source.choices(_WORDS, k=self._count_of_words))

    def calibrate(self, ask: Callable[[str], Sample]) -> None:
        """Take as many words as make the tokens that were wanted, by what the engine counts of two short prompts.

        A tokenizer may need several tokens for a word, and a template of unknown length stands around the words.
        """
        few, many = (ask(" ".join(_WORDS * times)).prompt_tokens for times in PROBES)
        each = (many - few) / (len(_WORDS) * (PROBES[1] - PROBES[0]))
        if few > 0 and each > 0:
            around = few - each * len(_WORDS) * PROBES[0]
            self._count_of_words = max(1, round((self._tokens - around) / each))


@dataclass(slots=True)
class Load:
    """Requests at one concurrency, until their number or the time is reached."""

    serving: Serving
    prompts: Prompts
    chosen: argparse.Namespace
    concurrency: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _left: int = 0
    _started: int = 0
    _in_a_row: int = 0
    _begin: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, progress: Progress) -> bool:
        """Ask until the end; whether Ctrl-C came first."""
        self._left = self.chosen.requests or max(8, 4 * self.concurrency)
        count, self._begin = self._left, time.monotonic()
        end = self._begin + self.chosen.seconds
        workers = [Worker(self._work, "bench") for _ in range(min(self.concurrency, count))]
        interrupted = False
        try:
            while any(worker.alive for worker in workers) and time.monotonic() < end:
                progress.show(
                    f"concurrency {self.concurrency}: {len(self.samples):,} of {count:,} requests, "
                    f"{end - time.monotonic():,.0f} s left at most"
                )
                for worker in workers:
                    worker.join(POLL_SECONDS / len(workers))
        except KeyboardInterrupt:
            interrupted = True
        self._stop.set()
        for worker in workers:
            worker.join(2 / len(workers))
            if worker.error is not None:
                raise worker.error
        return interrupted

    def level(self) -> Level:
        """What was measured."""
        with self._lock:
            samples, failures = tuple(self.samples), tuple(self.failures)
            cut = self._started - len(samples) - len(failures)
        last = max((sample.last for sample in samples), default=time.monotonic())
        return Level(self.concurrency, last - self._begin, samples, failures, cut)

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if self._left <= 0 or self._in_a_row >= GIVE_UP:
                    return
                self._left -= 1
                self._started += 1
            try:
                sample = _ask(self.serving, self.prompts.next(), self.chosen.output_tokens, self._stop)
            except _StoppedError:
                return
            except BadInputError as error:
                with self._lock:
                    self.failures.append(str(error))
                    self._in_a_row += 1
                continue
            with self._lock:
                self.samples.append(sample)
                self._in_a_row = 0


class _StoppedError(Exception):
    """The load ended before the answer did."""


def _probe(serving: Serving, prompt: str, seconds: int) -> Sample:
    """The answer of one token, within a time."""
    late = threading.Event()
    timer = threading.Timer(seconds, late.set)
    timer.start()
    try:
        return _ask(serving, prompt, 1, late)
    except _StoppedError:
        text = f"{serving.name} did not answer a question of one token within {seconds:,} s"
        raise BadInputError([text]) from None
    finally:
        timer.cancel()


def _ask(serving: Serving, prompt: str, tokens: int, stop: threading.Event) -> Sample:
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        # Every answer as long as it may be: both engines know this field.
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    start = time.monotonic()
    first = last = 0.0
    pieces = counted = prompted = 0
    stream = serving.stream(body)
    for piece in stream:
        if stop.is_set():
            stream.close()  # type: ignore[attr-defined]
            raise _StoppedError
        if piece.text:
            last = time.monotonic()
            first = first or last
            pieces += 1
        counted, prompted = piece.completion_tokens or counted, piece.prompt_tokens or prompted
    end = time.monotonic()
    return Sample(start, first or end, last or end, prompted, counted or pieces, counted > 0)


def _print(chosen: argparse.Namespace, serving: Serving, levels: list[Level]) -> None:
    if chosen.output in ("json", "yaml"):
        document = {
            "name": serving.name,
            "namespace": serving.namespace,
            "model": serving.model,
            "asked": {"promptTokens": chosen.prompt_tokens, "outputTokens": chosen.output_tokens},
            "levels": [level.document() for level in levels],
        }
        print_document(document, chosen.output)
        return
    if levels:
        print(table(levels, wide=chosen.output == "wide"))
    if chosen.plot and levels:
        print("\n".join(["", *plot(levels, columns(), blocks=draws_blocks())]))


def table(levels: list[Level], *, wide: bool = False) -> str:
    """One line per concurrency; wide: with more percentiles, requests per second, tokens and time."""
    percents = (50, 90, 99) if wide else (50, 99)
    times = [f"{word}p{percent}" for word in ("TTFT ", "ITL ") for percent in percents]
    head = ["REQUESTS AT A TIME", "DONE", "FAILED", *times, "TOKENS/S"]
    rows = [[*head, "REQUESTS/S", "PROMPT TOKENS", "OUTPUT TOKENS", "SECONDS"] if wide else head]
    rows += [
        [
            str(level.concurrency),
            f"{len(level.samples):,}",
            f"{len(level.failures):,}",
            *(_time(level.first_token(percent)) for percent in percents),
            *(_time(level.inter_token(percent)) for percent in percents),
            f"{level.tokens_per_second:,.1f}",
            *(_more(level) if wide else ()),
        ]
        for level in levels
    ]
    lines = [aligned(rows)]
    cut = sum(level.cut for level in levels)
    if cut:
        lines.append(f"Not finished at the end, and not counted: {cut:,}. --seconds gives more time.")
    if not all(sample.counted for level in levels for sample in level.samples):
        lines.append("The engine did not count tokens: pieces of text were counted instead.")
    return "\n".join(lines)


def _more(level: Level) -> list[str]:
    return [
        f"{level.requests_per_second:,.2f}",
        f"{sum(sample.prompt_tokens for sample in level.samples):,}",
        f"{sum(sample.tokens for sample in level.samples):,}",
        f"{level.seconds:,.1f}",
    ]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def plot(levels: list[Level], width: int, *, blocks: bool) -> list[str]:
    """Tokens per second and time to first token by concurrency, as bars."""
    fill = "█" if blocks else "#"
    speed = [(str(level.concurrency), level.tokens_per_second) for level in levels]
    first = [(str(level.concurrency), (level.first_token(50) or 0.0) * 1000) for level in levels]
    return [
        "Tokens per second, by requests at a time",
        *bars(speed, width, fill, "tokens/s"),
        "",
        "Time to first token (p50), by requests at a time",
        *bars(first, width, fill, "ms"),
    ]
