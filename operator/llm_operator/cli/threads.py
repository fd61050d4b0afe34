"""The only place of the command line that starts threads; operators use llm_operator.kube.tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Worker:
    """A daemon thread: it never keeps the command from ending.

    Attributes:
        error: what ended it, unless it came to its end.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    @property
    def alive(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        self._thread.join(seconds)
