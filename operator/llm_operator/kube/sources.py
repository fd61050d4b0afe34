"""The sources of facts: each follows what an object wants, beside the reconciler, and adds its key at news.

A getter returns what is known and starts nothing. What a source reads is bounded in time and bytes, expires, and runs
in tasks that kube/tasks.py keeps alive and counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from llm_operator.kube.keys import Key
from llm_operator.reconcile.wants import Wants


class Source(Protocol):
    """One source."""

    def follow(self, key: Key, wants: Wants) -> None:
        """Read from now on what an object wants, and nothing else for it.

        It is called after each look: what is read already goes on.
        """
        ...

    def forget(self, key: Key) -> None:
        """Read nothing for an object any longer."""
        ...


class Sources:
    """Several sources as one."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._sources = tuple(sources)

    def follow(self, key: Key, wants: Wants) -> None:
        """As Source.follow."""
        for source in self._sources:
            source.follow(key, wants)

    def forget(self, key: Key) -> None:
        """As Source.forget."""
        for source in self._sources:
            source.forget(key)
