"""`python -m devtools.audit`: known vulnerabilities of every locked package (`make audit`).

The exit code is 1 if a package has one. If no database of vulnerabilities can be reached, the audit prints SKIPPED and
ends with 0: it has found nothing out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.cache import ROOT
from devtools.locks import LOCKS

PIP_AUDIT = "pip-audit==2.10.1"


@dataclass(frozen=True)
class Verdict:
    """What is known of one lock."""

    vulnerable: tuple[str, ...] = ()
    """One line per vulnerability."""
    audited: int = 0
    skipped: int = 0
    """Packages that the database does not know, or all of them where none can be reached."""


def read(output: str) -> Verdict:
    """The verdict in pip-audit's JSON; nothing audited if it could not even say that."""
    try:
        entries = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        return Verdict()
    found = [
        f"{entry['name']} {entry['version']}: {known['id']}, fixed in {', '.join(known['fix_versions']) or 'none'}"
        for entry in entries
        for known in entry.get("vulns", ())
    ]
    skipped = sum("skip_reason" in entry for entry in entries)
    return Verdict(tuple(found), len(entries) - skipped, skipped)


def audit(run: Callable[[Sequence[str]], str], locks: Sequence[str] = LOCKS) -> int:
    """Audit locks and say what was found; the exit code.

    Args:
        run: pip-audit with some arguments; its standard output.
        locks: files, relative to the repository.
    """
    vulnerable, audited = 0, 0
    for name in locks:
        options = ("--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json")
        verdict = read(run((*options, "--requirement", str(ROOT / name))))
        vulnerable += len(verdict.vulnerable)
        audited += verdict.audited
        for line in verdict.vulnerable:
            print(f"{name}: {line}")
        if verdict.audited and verdict.skipped:
            print(f"{name}: {verdict.skipped} packages are not in the database")
    if not audited:
        print("SKIPPED: no database of vulnerabilities can be reached from here; nothing was audited", file=sys.stderr)
        return 0
    print(f"{audited} packages audited, {vulnerable} known vulnerabilities")
    return 1 if vulnerable else 0


def main() -> int:
    """Install pip-audit beside everything else, and run it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / "bin"
        subprocess.run([programs / "pip", "install", "--quiet", PIP_AUDIT], check=True)

        def run(arguments: Sequence[str]) -> str:
            command = [str(programs / "pip-audit"), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            return done.stdout

        return audit(run)


if __name__ == "__main__":
    sys.exit(main())
