"""What the commands print: columns and sizes."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 5
"""Characters that a column keeps when the terminal is too narrow."""


def aligned(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows of equal length as columns, two spaces apart.

    Args:
        rows: the first is the head.
        width: columns of the terminal; a wider table loses the columns that say nothing, then the widest ones are cut.
            None: nothing is cut.
    """
    widths = _widths(rows)
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        rows = _without_empty(rows)
        widths = _widths(rows)
        _narrow(widths, width - 2 * (len(widths) - 1))
    return "\n".join(
        "  ".join(_cut(cell, room).ljust(room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _without_empty(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Without the columns in which every row has a dash."""
    kept = [column for column in range(len(rows[0])) if any(row[column] != "-" for row in rows[1:])]
    return [[row[column] for column in kept] for row in rows] if kept else rows


def _narrow(widths: list[int], room: int) -> None:
    """Take characters from the widest columns until all fit, or each is as narrow as it may be."""
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda column: widths[column])
        if widths[widest] <= LEAST:
            return
        widths[widest] -= 1


def _cut(cell: str, room: int) -> str:
    return cell if len(cell) <= room else f"{cell[: room - 2]}.."


def size(count: int | None) -> str:
    """Bytes for people; a dash where they are not known."""
    if count is None:
        return "-"
    if count >= 1 << 27:
        return f"{count / 2**30:.2f} GiB"
    return f"{count / 2**20:.2f} MiB" if count >= 1 << 14 else f"{count} B"
