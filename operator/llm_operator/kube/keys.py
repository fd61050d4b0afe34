"""What is reconciled, by type: an LLMDeployment, or a Job of the model tools. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

Key = tuple[str, str]
"""Namespace and name of an LLMDeployment."""


class JobKey(NamedTuple):
    """A Job of the model tools: many objects may wait for it, so it has a separate key.

    It equals no Key: they may share tables.
    """

    namespace: str
    name: str
    kind: Literal["Job"] = "Job"


AnyKey = Key | JobKey
