"""What a condition says, before it has a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.api.status import ConditionStatus, ConditionType


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition before it has a time."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str
