"""`python -m devtools.stage NAME PYTEST-ARGUMENTS...`: run tests; what failed runs once more, alone.

Many tests wait for other processes, and a busy machine can be slower than any limit. A test that fails only beside
others is still a fault, of the test or of the code: its first failure is printed in full, and `make test` ends with its
name. A test that fails alone, too, fails the stage.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devcluster.cache import ROOT

STATE = ROOT / ".state" / "stages"
TESTS_FAILED = 1
"""pytest's exit code for "tests ran, and some failed"; any other failure is not tried again."""
MOST = 5
"""More failed tests than this have one cause, which a second run would only repeat."""


def run(stage: str, arguments: Sequence[str], state: Path = STATE, root: Path = ROOT) -> int:
    """Run pytest, and what failed once more in one process; the exit code of the last run.

    Args:
        stage: names the folder of pytest's cache, so that stages can run side by side.
        arguments: for the first run.
        state: folder with a subfolder for each stage.
        root: where pytest runs.
    """
    cache = state / stage
    flaky, record = cache / "flaky", cache / "v" / "cache" / "lastfailed"
    for old in (flaky, record):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}"]
    code = subprocess.run([*command, *arguments], cwd=root, check=False).returncode
    failed = list(json.loads(record.read_text())) if code == TESTS_FAILED and record.exists() else []
    if not 0 < len(failed) <= MOST:
        return code
    print(f"== {stage}: what failed runs once more, alone:", *failed, sep="\n   ", flush=True)
    code = subprocess.run([*command, "--verbose", *failed], cwd=root, check=False).returncode
    if code == 0:
        flaky.write_text("".join(f"{name}\n" for name in failed))
    return code


def flaky(state: Path = STATE) -> list[str]:
    """The tests that failed at first in the last run of each stage."""
    return [line for file in sorted(state.glob("*/flaky")) for line in file.read_text().splitlines()]


if __name__ == "__main__":
    if sys.argv[1:] == ["--flaky"]:
        for name in flaky():
            print(f"FLAKY          {name} (failed beside others, passed alone: a fault to be found)")
    else:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
