"""Commands that go on for a while outlive an API server that is away for a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from llm_operator.cli.cluster import RequestRefusedError, UnreachableError
from llm_operator.cli.errors import one_line

SECONDS = 60.0
"""How long an API server may be away: as it is restarted, or the network changes."""


class Patience:
    """A block that may fail for a while because the API server is away; a refusal is passed on at once."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            if self._since is not None:
                print(f"kubectl llm {self._command}: the API server answers again", file=sys.stderr)
            self._since = None
            return False
        away = isinstance(error, UnreachableError) or (isinstance(error, RequestRefusedError) and error.status >= 500)
        now = time.monotonic()
        if not away or (self._since is not None and now - self._since > SECONDS):
            return False
        if self._since is None:
            self._since = now
            print(f"kubectl llm {self._command}: {one_line(str(error))}; trying again", file=sys.stderr)
        return True
