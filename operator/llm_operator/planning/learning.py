"""From what an engine holds to what its kind of start takes beyond the constants, and calibrations as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from llm_operator.foreign import UnreadableError, read_json
from llm_operator.memory.calibration import MOST_RECORDS, MOST_STARTS, NOTHING_LEARNED, Calibration, Record, StartKind
from llm_operator.memory.types import GIB, PlanInputError, PlanRequest
from llm_operator.planning.engine import memory_of
from llm_operator.planning.estimate import estimate, kind_of

LONGEST = 256 << 10
MOST_EXTRA = 8 * GIB
STEP = 1 << 20
KEY = "records.json"
"""The key of the ConfigMap."""


def learned_from(request: PlanRequest, tensor: int, tokens: int) -> tuple[StartKind, int] | None:
    """Return the kind of a start and the bytes that it took on one GPU beyond the constants.

    request: with the share and the context that were rendered. tokens: what the engine says that its cache holds.
    None if that says nothing: the engine took the bytes that it was given, or no amount explains the tokens. Of all
    amounts that explain them the least is returned, so that a plan comes nearer to what is true and never passes it.
    """
    if memory_of(request).cache_is_exact and request.gpu_memory_utilization is None:
        return None
    if request.draft is not None and request.draft.other_model:  # not counted, and starts without it are of this kind
        return None
    plain = replace(request, calibration=NOTHING_LEARNED, tensor=tensor)
    kind = kind_of(plain, tensor)

    def held(extra: int) -> int:
        learned = Calibration((Record(kind, (extra,)),)) if extra else NOTHING_LEARNED
        return estimate(replace(plain, calibration=learned), tensor).likely.tokens

    most = min(MOST_EXTRA, request.gpu.memory_bytes // 4) // STEP
    constants = held(0)
    if constants == tokens:
        return kind, 0
    sign = 1 if constants > tokens else -1

    def explained(steps: int) -> bool:
        there = held(sign * steps * STEP)
        return there <= tokens if sign > 0 else there >= tokens

    if not explained(most):
        return None
    low, high = 0, most  # the first is too little, the last enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if explained(middle) else (middle, high)
    return kind, sign * high * STEP


def calibration_text(calibration: Calibration) -> str:
    """Return a calibration as JSON, one record a line, for the ConfigMap and for files."""
    rows = [json.dumps({**asdict(record.kind), "extras": list(record.extras)}) for record in calibration.records]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def read_calibration(text: str | bytes) -> Calibration:
    """Return what `calibration_text` wrote.

    Raises PlanInputError for anything else: the first record that is wrong is named.
    """
    if len(text) > LONGEST:
        raise PlanInputError(f"a calibration has at most {LONGEST:,} bytes; this one has {len(text):,}")
    try:
        rows = read_json(text, LONGEST)
    except UnreadableError as error:
        raise PlanInputError(f"the calibration is not JSON: {error}") from error
    if not isinstance(rows, list) or len(rows) > MOST_RECORDS:
        raise PlanInputError(f"a calibration is a list of at most {MOST_RECORDS} records")
    return Calibration(tuple(_record(number, row) for number, row in enumerate(rows)))


def _record(number: int, row: Any) -> Record:
    names = {field.name for field in fields(StartKind)}
    if not isinstance(row, Mapping) or set(row) != names | {"extras"}:
        raise PlanInputError(f"record {number} of the calibration: expected {', '.join(sorted(names))} and extras")
    numbers = {"tensor": 1024, "weight_bytes": 1 << 50}
    for name in names:
        value, most = row[name], numbers.get(name)
        if most is None and not (isinstance(value, str) and len(value) <= 256):
            raise PlanInputError(f"record {number} of the calibration: {name} is not a text of at most 256 characters")
        if most is not None and not (type(value) is int and 1 <= value <= most):
            raise PlanInputError(f"record {number} of the calibration: {name} is not a number from 1 to {most}")
    extras = row["extras"]
    if not (
        isinstance(extras, list)
        and 1 <= len(extras) <= MOST_STARTS
        and all(type(extra) is int and abs(extra) <= MOST_EXTRA for extra in extras)
    ):
        raise PlanInputError(f"record {number} of the calibration: extras are 1 to {MOST_STARTS} numbers of bytes")
    return Record(StartKind(**{name: row[name] for name in names}), tuple(extras))
