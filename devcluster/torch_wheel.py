"""torch's CPU build from a folder of wheels, where there is one; PyPI carries only the build for CUDA."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from devcluster.cache import ROOT, cache_dir
from devcluster.state import ClusterError

VERSION = "2.13.0"
VARIABLE = "LLM_OPERATOR_WHEELS"
_PATTERN = f"torch-{VERSION}+cpu-cp311-cp311-*x86_64"


def folder() -> Path | None:
    """LLM_OPERATOR_WHEELS, else shared/wheels beside the checkout where it is there.

    Raises:
        ClusterError: the variable names no folder.
    """
    given = os.environ.get(VARIABLE)
    if given:
        if not Path(given).is_dir():
            raise ClusterError(f"{VARIABLE}={given}: no such folder; it must hold {_PATTERN}.whl, or unset it")
        return Path(given)
    beside = ROOT.parent / "shared" / "wheels"
    return beside if beside.is_dir() else None


def identity() -> str:
    """Says which build an image gets, without making the wheel."""
    found = folder()
    return "cpu" if found and (_wheel(found) or _packed(found)) else "pypi"


def find() -> Path | None:
    """The wheel; None where PyPI's torch has to do.

    A folder may hold the wheel itself, or its packed content and a program `rebuild` that writes the wheel.

    Raises:
        ClusterError: rebuilding failed.
    """
    found = folder()
    if found is None:
        return None
    wheel = _wheel(found)
    if wheel is not None or not _packed(found):
        return wheel
    target = cache_dir() / "images" / "wheels"
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([str(found / "rebuild"), str(target)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{found / 'rebuild'} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return _wheel(target)


def _wheel(where: Path) -> Path | None:
    return next(iter(sorted(where.glob(f"{_PATTERN}.whl"))), None)


def _packed(where: Path) -> bool:
    return os.access(where / "rebuild", os.X_OK) and any(where.glob(f"{_PATTERN}.tar.*"))
