"""What is to be written for one LLMDeployment, and why not more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.live.children import Child, Role
from llm_operator.manifests.common import (
    JSON,
)
from llm_operator.pipeline.preparation import Preparation
from llm_operator.problems import Problem


@dataclass(frozen=True, slots=True)
class Apply:
    """One server-side apply."""

    body: JSON
    seen: bool
    """False: there is none of ours that we know of, so it is to be created."""
    role: Role = "engine"
    live: Child | None = None
    """What is there, as it was decided on."""


@dataclass(frozen=True, slots=True)
class Delete:
    """One deletion, bound to the uid that was seen."""

    kind: str
    name: str
    uid: str
    role: Role = "engine"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write for one LLMDeployment, and why not more."""

    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    refusals: tuple[Problem, ...] = ()
    """Why the spec cannot be served; what served before is left as it is."""
    page_refusals: tuple[Problem, ...] = ()
    """Why the chat page cannot be made; a page that is there is left as it is."""
    held: bool = False
    """Nothing is rendered: the plan does not fit, or is still being made, or the model is not there yet."""
    waiting: Problem | None = None
    """What nothing is rendered for want of, and what may come by itself."""
    preparation: Preparation | None = None
    """The stages before serving, if they were looked at."""
    template: JSON | None = None
    """The pod template that should run."""
    outdated: tuple[JSON, ...] = ()
    """Jobs that wait to begin and are to be made again, as they are to be: another one would be made now."""
    trial: JSON | None = None
    """A Deployment as it will be once the model is there: what of it would be refused is said before the Jobs run."""

    def tried(self, role: Role) -> tuple[JSON, ...]:
        """Everything of one role that the API server should be asked about before something is written."""
        written = tuple(apply.body for apply in self.applies if apply.role == role)
        if role == "engine":
            written = (*written, *self.outdated)
        return written if self.trial is None or role != "engine" else (*written, self.trial)

    @property
    def unwritten(self) -> bool:
        """Whether something of the engine's own is left to write or to delete; its page doesn't count."""
        roles = (*(apply.role for apply in self.applies), *(delete.role for delete in self.deletes))
        return "engine" in roles
