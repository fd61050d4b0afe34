"""`install`: copy these tools into a folder that a container of another image mounts.

There `PYTHONPATH=FOLDER python3 -m llm_operator.modeltools ...` runs them with the image's own Python and libraries.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from llm_operator.modeltools import report
from llm_operator.modeltools.hub import unwritable

PACKAGE = Path(__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `install`."""
    parser.add_argument("directory", type=Path, help="where the package llm_operator is put")
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Copy, and write the result."""
    return report.finish(options.result, lambda: _install(options.directory))


def _install(directory: Path) -> Mapping[str, object]:
    target = directory / PACKAGE.parent.name
    written = directory / f".{PACKAGE.parent.name}.partial"
    try:
        shutil.rmtree(written, ignore_errors=True)
        # Bytecode is another Python's, perhaps.
        shutil.copytree(PACKAGE, written / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copyfile(PACKAGE.parent / "__init__.py", written / "__init__.py")
        # An init container that is started again finds what it put there.
        shutil.rmtree(target, ignore_errors=True)
        os.rename(written, target)
    except OSError as error:
        raise unwritable(error) or error from error
    return {"directory": str(target)}
