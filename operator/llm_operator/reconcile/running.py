"""Which revision runs, and what it holds. Pure."""

from __future__ import annotations

from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.revisions import Kept, Revision, content, legacy


def running_name(observed: Observed) -> str | None:
    """Name of the revision that runs; None if none is known.

    The Deployment names it. Where somebody took that away, it is the newest.
    """
    child = observed.workload
    if child is None:
        return None
    return child.revision or newest_name(observed, child.owner_uid)


def newest_name(observed: Observed, owner_uid: str | None) -> str | None:
    """Name of the revision of an owner with the highest number; None if there is none."""
    own = (one for one in observed.revisions.values() if one.owner_uid == owner_uid)
    newest = max(own, key=lambda one: (one.number, one.name), default=None)
    return newest.name if newest is not None else None


def running(observed: Observed) -> Revision | None:
    """The revision that runs, if it is there."""
    child, name = observed.workload, running_name(observed)
    found = observed.revisions.get(name) if name is not None else None
    return found if child is not None and found is not None and found.owner_uid == child.owner_uid else None


def kept_of(observed: Observed) -> Kept | None:
    """What was rendered for the pods that run; None if there are none, or nothing says."""
    child = observed.workload
    if child is None:
        return None
    # Who may edit Deployments may write any template into the annotation of operators before revisions: that one
    # counts only as long as there is no revision.
    return legacy(child.text) if running_name(observed) is None else content(running(observed))
