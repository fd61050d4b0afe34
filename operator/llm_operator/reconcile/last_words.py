"""The ends of dead containers' logs: which are wanted, and pods with those that are known. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from llm_operator.api import EngineType
from llm_operator.live.pods import Pod
from llm_operator.manifests.pod import CONTAINER
from llm_operator.reconcile.diagnose import wants_log
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.wants import Death


@dataclasses.dataclass(frozen=True, slots=True)
class LastWords:
    """What was read of a dead container's log.

    Attributes:
        text: its end; empty: it is not known.
        unread: why it is not known; empty: it is, or is being read.
    """

    text: str = ""
    unread: str = ""


NOT_READ = LastWords()


def deaths(observed: Observed, engine: EngineType) -> tuple[tuple[Death, Pod], ...]:
    """The containers that died without saying why in their termination messages.

    Args:
        observed: pods as the kubelet reports them.
        engine: their engine, which decides what a termination message means.
    """
    return tuple(
        ((pod.uid, pod.restarts, pod.end.finished_at), pod)
        for pod in observed.pods
        if pod.container == CONTAINER and pod.end is not None and wants_log(pod, engine)
    )


def with_last_words(observed: Observed, told: Mapping[Death, LastWords], engine: EngineType) -> Observed:
    """The pods with what is known of the ends of their logs."""
    wanted = {pod.uid: death for death, pod in deaths(observed, engine)} if told else {}
    if not wanted:
        return observed
    pods = tuple(_with(pod, told.get(wanted[pod.uid], NOT_READ)) if pod.uid in wanted else pod for pod in observed.pods)
    return dataclasses.replace(observed, pods=pods)


def _with(pod: Pod, words: LastWords) -> Pod:
    if pod.end is None:
        return pod
    end = dataclasses.replace(pod.end, message=words.text or pod.end.message, log_unread=words.unread)
    return dataclasses.replace(pod, end=end)
