"""The results of a load: percentiles over requests, sums of tokens. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that was answered; seconds on one clock.

    Attributes:
        start: when it was sent.
        first: when the first text came.
        last: when the last text came.
        prompt_tokens: tokens of its prompt; 0: the engine did not say.
        tokens: tokens of its answer; pieces of text if the engine did not say.
        counted: the engine counted the tokens.
    """

    start: float
    first: float
    last: float
    prompt_tokens: int
    tokens: int
    counted: bool

    @property
    def first_token_seconds(self) -> float:
        """Time to the first token."""
        return self.first - self.start

    @property
    def inter_token_seconds(self) -> float | None:
        """Mean time between two tokens; None: there is only one."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else None


@dataclass(frozen=True, slots=True)
class Level:
    """All requests at one concurrency.

    Attributes:
        concurrency: requests at a time.
        seconds: from the first request to the last answer.
        samples: those that were answered.
        failures: what was wrong with the others.
        cut: requests that the end of the time, or Ctrl-C, stopped; they count nowhere else.
    """

    concurrency: int
    seconds: float
    samples: tuple[Sample, ...]
    failures: tuple[str, ...] = ()
    cut: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all answers by the time."""
        return sum(sample.tokens for sample in self.samples) / self.seconds if self.seconds > 0 else 0.0

    @property
    def requests_per_second(self) -> float:
        """Answered requests by the time."""
        return len(self.samples) / self.seconds if self.seconds > 0 else 0.0

    def first_token(self, percent: float) -> float | None:
        """A percentile of the time to first token, in seconds."""
        return percentile([sample.first_token_seconds for sample in self.samples], percent)

    def inter_token(self, percent: float) -> float | None:
        """A percentile over requests of the mean time between two tokens, in seconds."""
        found = [sample.inter_token_seconds for sample in self.samples]
        return percentile([seconds for seconds in found if seconds is not None], percent)

    def document(self) -> JSON:
        """For programs; seconds and tokens."""
        return {
            "concurrency": self.concurrency,
            "requests": len(self.samples),
            "failed": len(self.failures),
            "cut": self.cut,
            "seconds": round(self.seconds, 3),
            "promptTokens": sum(sample.prompt_tokens for sample in self.samples),
            "outputTokens": sum(sample.tokens for sample in self.samples),
            "tokensCountedByEngine": all(sample.counted for sample in self.samples),
            "outputTokensPerSecond": round(self.tokens_per_second, 2),
            "requestsPerSecond": round(self.requests_per_second, 3),
            "timeToFirstTokenSeconds": {f"p{p}": _rounded(self.first_token(p)) for p in (50, 90, 99)},
            "interTokenSeconds": {f"p{p}": _rounded(self.inter_token(p)) for p in (50, 90, 99)},
            "failures": sorted(set(self.failures))[:10],
        }


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least so many percent of all do not exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def bars(rows: Sequence[tuple[str, float]], width: int, fill: str, unit: str) -> list[str]:
    """Horizontal bars on one scale, each with its value."""
    most = max((value for _, value in rows), default=0.0)
    label = max((len(name) for name, _ in rows), default=0)
    numbers = [f"{value:,.1f} {unit}" for _, value in rows]
    room = max(1, width - label - 2 - max((len(text) for text in numbers), default=0))
    return [
        f"{name.rjust(label)} {fill * (round(room * value / most) if most > 0 else 0)} {text}"
        for (name, value), text in zip(rows, numbers, strict=True)
    ]
