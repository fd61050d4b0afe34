"""Of which objects Events are read: only of those whose status says that something waits, and not for what. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from llm_operator.live.heard import Heard
from llm_operator.live.pods import Pod
from llm_operator.pipeline.job_view import JobView
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.wants import Subject

MOST_ASKED = 6
"""Of one object: what keeps one pod keeps the others."""


def subjects(observed: Observed) -> tuple[Subject, ...]:
    """The pods, claims and Jobs that wait."""
    return tuple(subject for subject, _ in _asked(observed))[:MOST_ASKED]


def is_unheard(observed: Observed) -> bool:
    """Whether something waits of which no events were read yet."""
    return any(heard is None for _, heard in [*_asked(observed)][:MOST_ASKED])


def with_heard(observed: Observed, events: Mapping[Subject, Heard]) -> Observed:
    """Pods, claims and Jobs with what was said of them."""
    if not events:
        return observed
    by_uid = {subject.uid: heard for subject, heard in events.items()}

    def pods(before: tuple[Pod, ...]) -> tuple[Pod, ...]:
        return tuple(dataclasses.replace(pod, heard=by_uid.get(pod.uid)) for pod in before)

    def job(before: JobView) -> JobView:
        heard = by_uid.get(before.uid)
        words = heard.of("FailedCreate") if heard is not None else ()
        # What the Job controller met is better than what a dry run finds.
        refused = words[0].message if words else before.refused
        return dataclasses.replace(before, pods=pods(before.pods), refused=refused, heard=heard)

    return dataclasses.replace(
        observed,
        pods=pods(observed.pods),
        chat_pods=pods(observed.chat_pods),
        jobs={name: job(one) for name, one in observed.jobs.items()},
        claims={
            name: claim and dataclasses.replace(claim, heard=by_uid.get(claim.uid))
            for name, claim in observed.claims.items()
        },
    )


def _asked(observed: Observed) -> Iterator[tuple[Subject, Heard | None]]:
    jobs = observed.jobs.values()
    for pod in (*observed.pods, *observed.chat_pods, *(pod for job in jobs for pod in job.pods)):
        if _is_silent(pod):
            yield Subject("Pod", pod.name, pod.uid), pod.heard
    for claim in observed.claims.values():
        if claim is not None and claim.uid and not claim.bound and not claim.deleting:
            yield Subject("PersistentVolumeClaim", claim.name, claim.uid), claim.heard
    for job in jobs:
        if has_no_pod(job):
            yield Subject("Job", job.name, job.uid), job.heard


def _is_silent(pod: Pod) -> bool:
    """Whether a pod waits, and its status does not say for what."""
    if pod.awaits == "Node":
        return pod.unschedulable is None and not pod.gated
    return pod.awaits == "Start" and pod.waiting_reason in (None, "ContainerCreating", "PodInitializing")


def has_no_pod(job: JobView) -> bool:
    """Whether a Job should have a pod, and has none."""
    return not (job.phase != "Active" or job.pods or job.suspended or job.deleting or job.abandoned)
