"""`remove`: delete one model from a cache volume, so that it is never seen half deleted, or only what is half-done."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path

from llm_operator.modeltools import layout, report
from llm_operator.modeltools.hub import unwritable
from llm_operator.modeltools.report import Progress, ToolError

DEPTH = 3
"""models/<source>--<repository>/<commit>."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `remove`."""
    parser.add_argument("--root", type=Path, required=True, metavar="PATH", help="the volume's mount")
    parser.add_argument(
        "--directory",
        required=True,
        metavar="PATH",
        help="the model, below the root: models/...; with .partial only what is half-done",
    )
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Remove, and write the result."""
    return report.finish(options.result, lambda: _remove(options.root, options.directory))


def _remove(root: Path, relative: str) -> Mapping[str, object]:
    given = layout.below(root, relative)
    directory = given.with_suffix("") if given.suffix == layout.PARTIAL else given
    parts = directory.relative_to(root.resolve()).parts
    if len(parts) != DEPTH or parts[0] != layout.MODELS or "." in parts[2]:
        raise ToolError(
            "ModelPathMissing",
            f"{relative!r} is not a model of the cache: expected models/<source>--<repository>/<commit>, or that and "
            ".partial",
        )
    progress = Progress()
    progress.show("Removing", detail=relative)
    if not directory.parent.is_dir():
        return {"directory": relative, "bytes": 0}
    try:
        with layout.lock(directory, lambda: progress.show("Waiting", detail=relative)):
            # The holder of the lock may have finished it: a complete directory is removed only by its own name.
            freed = layout.remove(directory) if given == directory else 0
            freed += layout.remove_partial_files(directory)
            if not directory.exists():
                layout.forget_lock(directory)
    except OSError as error:
        raise unwritable(error) or error from error
    with contextlib.suppress(OSError):
        directory.parent.rmdir()
    return {"directory": relative, "bytes": freed}
