"""What a log of one engine looks like: who says a line and how loudly, what decides nothing, and how far it has come.

A folder of engines/ has the forms of its engine; death.py, failures.py and reconcile/starting.py read logs by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from llm_operator.engines.part import Part

Stage = Literal["Importing", "Loading", "Profiling", "Capturing", "Serving"]
"""How far an engine had come: its imports and arguments, the weights, the memory of a forward pass and the KV cache,
CUDA graphs, requests."""


@dataclass(frozen=True, slots=True)
class LogForm:
    """The forms of one engine's log.

    Attributes:
        steps: steps of a start: name, and what the log says at it; a group is the percentage.
        stages: what shows how far it had come; functions stand in tracebacks. The furthest counts.
        levels: how a line with a level begins; the first group is the level.
        harmless: how a line begins that never decides; None: the engine prints no such line.
        child: what says that a child of it died of a signal; the group is its number, negative.
        quoting: how a line begins that quotes the error of another process; the group is that error.
        waiting: what says that its processes wait for each other; None: nothing does.
        joining: what is said last by a start that hangs while its processes find each other.
        repeated: what is said again and again while nothing happens.
        parts: what its modules do, as frames of tracebacks name them.
        unlinked: what to do when its processes wait for each other.
    """

    steps: tuple[tuple[str, re.Pattern[str]], ...]
    stages: tuple[tuple[Stage, re.Pattern[str]], ...] = ()
    levels: tuple[re.Pattern[str], ...] = ()
    harmless: re.Pattern[str] | None = None
    child: re.Pattern[str] | None = None
    quoting: re.Pattern[str] | None = None
    waiting: re.Pattern[str] | None = None
    joining: re.Pattern[str] | None = None
    repeated: re.Pattern[str] | None = None
    parts: tuple[Part, ...] = ()
    unlinked: str = "set NCCL_P2P_DISABLE=1 in engine.env"
