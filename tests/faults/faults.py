"""The kinds of faults that stand between an operator and its API server."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.faults.proxy import (
    Answer,
    Cut,
    Delay,
    Exchange,
    Fault,
    Lines,
    Reset,
    Silence,
    Stale,
    error_event,
    status_answer,
)

PAGE = Answer(200, b"<html><body>Please log in</body></html>", content="text/html")


@dataclass(frozen=True)
class FaultKind:
    """One way to misbehave.

    Attributes:
        name: of the kind.
        make: what happens to a request.
        heals_by_reset: what is silent stays silent until the connections end, as behind a firewall that forgot them.
    """

    name: str
    make: Callable[[Exchange, random.Random], Fault | None]
    heals_by_reset: bool = False


def _some(
    fault: Fault, share: float, which: Callable[[Exchange], bool] = lambda _: True
) -> Callable[[Exchange, random.Random], Fault | None]:
    return lambda exchange, draw: fault if which(exchange) and draw.random() < share else None


def _writes(exchange: Exchange) -> bool:
    return exchange.write


def _calls(exchange: Exchange) -> bool:
    return not exchange.watch


def _watches(exchange: Exchange) -> bool:
    return exchange.watch


def _lists(exchange: Exchange) -> bool:
    return exchange.listing


def _cut(last_line: bytes = b"", *, reset: bool = False) -> Callable[[Exchange, random.Random], Fault | None]:
    return lambda exchange, draw: Cut(draw.uniform(0.2, 2), last_line, reset) if exchange.watch else None


def _lines(changed: Callable[[list[bytes]], list[bytes]]) -> Callable[[Exchange, random.Random], Fault | None]:
    # Never in another order: no server reorders the lines of one answer, and a proxy passes them on as they come.
    return lambda exchange, draw: Lines(changed) if exchange.watch else None


BOOKMARK = b'"type":"BOOKMARK"'
EXPIRED = status_answer(410, "Expired", "The resourceVersion for the provided watch is too old.")

FAULTS = [
    FaultKind("409-writes", _some(status_answer(409, "Conflict"), 0.5, _writes)),
    FaultKind("429", _some(status_answer(429, "TooManyRequests", **{"Retry-After": "1"}), 0.5)),
    FaultKind("429-at-once", _some(status_answer(429, "TooManyRequests"), 0.7)),
    FaultKind("413-page", _some(replace(PAGE, status=413), 0.5, _writes)),
    FaultKind("422-page", _some(replace(PAGE, status=422), 0.5, _writes)),
    FaultKind("500", _some(status_answer(500, "InternalError"), 0.5)),
    FaultKind("503", _some(status_answer(503, "ServiceUnavailable"), 0.5)),
    FaultKind("504", _some(status_answer(504, "Timeout"), 0.5, _calls)),
    FaultKind("401", _some(status_answer(401, "Unauthorized"), 0.3)),
    FaultKind("403", _some(status_answer(403, "Forbidden"), 0.5, _calls)),
    FaultKind("page", _some(PAGE, 0.3)),
    FaultKind("no-json", _some(Answer(200, b'{"kind": "Sta'), 0.3, _calls)),
    FaultKind("empty-answers", _some(Answer(200, b"{}"), 0.3, _calls)),
    FaultKind("resets", _some(Reset(), 0.5)),
    FaultKind("lost-answers", _some(Reset(forwarded=True), 0.5, _calls)),
    FaultKind("5-s", _some(Delay(5), 0.3)),
    FaultKind("cut-watches", _cut()),
    FaultKind("cut-lines", _cut(b'{"type": "MODIFIED", "object": {"kind"')),
    FaultKind("reset-watches", _cut(reset=True)),
    FaultKind("garbage-lines", _cut(b"\xff\xfe[[[\n")),
    FaultKind("foreign-lines", _cut(b'{"type": "NEWS", "object": {}}\n')),
    FaultKind("gone-events", _cut(error_event(410, "Expired"))),
    FaultKind("error-events", _cut(error_event(500, "InternalError"))),
    FaultKind("no-leader-events", _cut(error_event(504, "Timeout"))),
    FaultKind("gone-watches", _some(EXPIRED, 0.5, _watches)),
    FaultKind("gone-lists", _some(EXPIRED, 0.5, _lists)),
    FaultKind("stale-lists", _some(Stale(), 0.7, _lists)),
    FaultKind("events-twice", _lines(lambda lines: [line for line in lines for _ in range(2)])),
    FaultKind(
        "bookmarks-only", _lines(lambda lines: [line for line in lines if BOOKMARK in line]), heals_by_reset=True
    ),
    FaultKind("silent-watches", _some(Silence(), 0.7, _watches), heals_by_reset=True),
]


def mixed(share: float, draw: random.Random) -> Callable[[Exchange], Fault | None]:
    """A rule that draws a kind for some of the requests, short of silence and of what stays."""
    kinds = [kind for kind in FAULTS if not kind.heals_by_reset]

    def rule(exchange: Exchange) -> Fault | None:
        return draw.choice(kinds).make(exchange, draw) if draw.random() < share else None

    return rule
