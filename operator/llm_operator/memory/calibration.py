"""What running engines measured, as a value of a plan: bytes that a kind of start took beyond the constants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

MOST_RECORDS = 256
MOST_STARTS = 5
WEIGHTS_PERMILLE = 50
"""Weights of one GPU may differ by this much between starts that tell of each other."""


@dataclass(frozen=True, slots=True)
class StartKind:
    """Starts that tell of each other.

    engine, backend: as in the resource; the backend is empty for engines that have one. version: major and minor.
    architecture: as config.json spells it. quantization: method and bits of the served weights; empty: none. product:
    of the GPU. tensor: ranks. weight_bytes: weights on one GPU.
    """

    engine: str
    backend: str
    version: str
    architecture: str
    quantization: str
    product: str
    tensor: int
    weight_bytes: int

    def tells_of(self, other: StartKind) -> bool:
        """Return whether starts of this kind say something about `other`: all alike, and as large."""
        near = abs(self.weight_bytes - other.weight_bytes) * 1000 <= WEIGHTS_PERMILLE * other.weight_bytes
        return near and replace(self, weight_bytes=other.weight_bytes) == other


@dataclass(frozen=True, slots=True)
class Record:
    """The last starts of one kind, newest last. extras: bytes on one GPU beyond what the constants say, or less."""

    kind: StartKind
    extras: tuple[int, ...]

    @property
    def extra(self) -> int:
        """The middle one, of two the larger: one start beside a foreign program decides nothing."""
        return sorted(self.extras)[len(self.extras) // 2]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Records, the least recently changed first; at most MOST_RECORDS."""

    records: tuple[Record, ...] = ()

    def of(self, kind: StartKind) -> Record | None:
        """Return the record of starts that tell of `kind`, the newest one."""
        return next((record for record in reversed(self.records) if record.kind.tells_of(kind)), None)

    def seen(self, kind: StartKind, extra: int) -> Calibration:
        """Return the calibration with one more start."""
        old = self.of(kind)
        extras = (*(old.extras if old is not None else ()), extra)[-MOST_STARTS:]
        return self.with_records([*(record for record in self.records if record is not old), Record(kind, extras)])

    @staticmethod
    def with_records(records: Iterable[Record]) -> Calibration:
        """Return a calibration of the last records."""
        return Calibration(tuple(records)[-MOST_RECORDS:])


NOTHING_LEARNED = Calibration()
