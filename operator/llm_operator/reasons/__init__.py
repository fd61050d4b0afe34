"""Every reason that a condition, an event or an alert may carry: one table for status, docs, command line and alerts.

Pure. `explain` gives what is known of a word; `python -m llm_operator.reasons docs/status.md` writes the tables there.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.reasons.availability import AVAILABILITY
from llm_operator.reasons.engine_ends import ENDS
from llm_operator.reasons.engine_gpus import GPUS
from llm_operator.reasons.engine_hosts import HOSTS
from llm_operator.reasons.engine_models import MODELS
from llm_operator.reasons.healths import HEALTH
from llm_operator.reasons.objects import OBJECT
from llm_operator.reasons.pages import PAGE
from llm_operator.reasons.plans import PLAN
from llm_operator.reasons.specs import SPEC
from llm_operator.reasons.stages import JOB, STAGE
from llm_operator.reasons.types import Area, Reason, Severity

REASONS: tuple[Reason, ...] = (
    *OBJECT,
    *SPEC,
    *GPUS,
    *HOSTS,
    *MODELS,
    *ENDS,
    *PLAN,
    *STAGE,
    *JOB,
    *AVAILABILITY,
    *HEALTH,
    *PAGE,
)
NAMES: frozenset[str] = frozenset(reason.name for reason in REASONS)

__all__ = ["NAMES", "REASONS", "Area", "Reason", "Severity", "explain", "similar"]


def explain(name: str) -> tuple[Reason, ...]:
    """Every meaning of a reason, without regard to case; empty for a word that is not a reason."""
    return tuple(reason for reason in REASONS if reason.name.lower() == name.lower())


def similar(name: str) -> Iterator[str]:
    """Reasons that contain the word, or that it contains, in the order of the table."""
    word = name.lower()
    seen = dict.fromkeys(reason.name for reason in REASONS)
    yield from (one for one in seen if word and (word in one.lower() or one.lower() in word))
