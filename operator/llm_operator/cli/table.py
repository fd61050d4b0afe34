"""What the commands print: columns, documents and sizes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

LEAST = 5
"""Characters that a column keeps when the terminal is too narrow."""
LEGIBLE = 8
"""Characters below which a column says too little to keep a less important one beside it."""


FORMS = ("table", "wide", "json", "yaml")
"""What -o takes; wide has more columns than table, and nothing is cut."""


def add_output(line: Any) -> None:
    """Declare -o."""
    line.add_argument("-o", "--output", choices=FORMS, default="table", help="default table; wide: more columns")


def aligned(
    rows: Sequence[Sequence[str]],
    width: int | None = None,
    *,
    whole: Collection[str] = (),
    expendable: Sequence[str] = (),
) -> str:
    """Rows of equal length as columns, two spaces apart.

    Args:
        rows: the first is the head.
        width: columns of the terminal; a wider table loses the columns that say nothing, then expendable ones, then the
            widest ones are cut. None: nothing is cut.
        whole: heads of columns that are cut last: names.
        expendable: heads of columns that are left out before others become illegible, in that order.
    """
    widths = _widths(rows)
    if width is not None and _room(widths) > width:
        rows = _without_empty(rows)
        for name in expendable:
            if _room([size if head in whole else min(size, LEGIBLE) for head, size in _sized(rows)]) <= width:
                break
            rows = _without(rows, name)
        widths = _widths(rows)
        room = width - 2 * (len(widths) - 1)
        _narrow(widths, room, [column for column, head in enumerate(rows[0]) if head not in whole])
        _narrow(widths, room, range(len(widths)))
    return "\n".join(
        "  ".join(_cut(cell, room).ljust(room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _sized(rows: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    return list(zip(rows[0], _widths(rows), strict=True))


def _room(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _without_empty(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Without the columns in which every row has a dash, or nothing was counted."""
    kept = [column for column in range(len(rows[0])) if any(row[column] not in ("-", "0") for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows] if kept else rows


def _without(rows: Sequence[Sequence[str]], name: str) -> Sequence[Sequence[str]]:
    kept = [column for column, head in enumerate(rows[0]) if head != name]
    return [[row[column] for column in kept] for row in rows] if kept else rows


def _narrow(widths: list[int], room: int, columns: Sequence[int]) -> None:
    """Take characters from the widest of some columns until all fit, or each is as narrow as it may be."""
    while columns and sum(widths) > room:
        widest = max(columns, key=lambda column: widths[column])
        if widths[widest] <= LEAST:
            return
        widths[widest] -= 1


def print_document(document: Mapping[str, Any], form: str) -> None:
    """Print the output of -o json or -o yaml."""
    if form == "json":
        print(json.dumps(document, indent=2))
        return
    import yaml  # noqa: PLC0415 - 50 ms

    print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip())


def _cut(cell: str, room: int) -> str:
    return cell if len(cell) <= room else f"{cell[: room - 2]}.."


def size(count: int | None) -> str:
    """Bytes for people; a dash if they are not known."""
    if count is None:
        return "-"
    if count >= 1 << 27:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:.2f} MiB" if count >= 1 << 14 else f"{count} B"
