"""What a user does, step by step, and what is to be true after each step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_operator.api import KIND
from llm_operator.pipeline.artifacts import ANNOTATION_REMOVE, ANNOTATION_UNUSED_SINCE, LABEL_CACHE
from tests.cluster.helpers import Space
from tests.faults.world import Case
from tests.support.objects import llm

JSON = dict[str, Any]
HUB = {"huggingFace": {"repository": "org/model"}}
GATED = {"ok": False, "reason": "ModelGated", "message": "accept the licence", "retry": False}


@dataclass(frozen=True)
class Step:
    """One thing that somebody does.

    Attributes:
        act: does it.
        done: whether the operator has answered it, as far as one look tells.
    """

    act: Callable[[Case], None]
    done: Callable[[Space], bool]


@dataclass(frozen=True)
class Scenario:
    """Steps, each taken once the one before is answered."""

    name: str
    steps: tuple[Step, ...]


def create(name: str = "demo", **spec: Any) -> Callable[[Case], None]:
    """Create an object."""
    return lambda case: _ignore(case.space.create(llm(name, **spec)))


def patch(spec: JSON, name: str = "demo") -> Callable[[Case], None]:
    """Change an object's spec."""
    return lambda case: _ignore(case.space.patch(name, {"spec": spec}))


def delete(name: str = "demo", kind: str = KIND) -> Callable[[Case], None]:
    """Delete an object."""
    return lambda case: case.space.delete(kind, name)


def claim(name: str = "models") -> Callable[[Case], None]:
    """Make a claim, as a user would, for the operator to fetch to."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"metadata": {"name": name, "labels": {LABEL_CACHE: "true"}}, "spec": spec}
    return lambda case: _ignore(case.space.create(body, "PersistentVolumeClaim"))


def both(*acts: Callable[[Case], None]) -> Callable[[Case], None]:
    """One after the other."""

    def act(case: Case) -> None:
        for one in acts:
            one(case)

    return act


def ready(*names: str) -> Callable[[Space], bool]:
    """Objects are Ready for their generation."""
    return lambda space: all(space.is_ready(name) for name in names or ("demo",))


def said(reason: str, kind: str = "Ready", name: str = "demo") -> Callable[[Space], bool]:
    """A condition has a reason, for the object's generation."""

    def done(space: Space) -> bool:
        body = space.get(KIND, name) or {}
        current = (body.get("status") or {}).get("observedGeneration") == body.get("metadata", {}).get("generation")
        return current and space.condition(name, kind)[1] == reason

    return done


def stalled(space: Space) -> bool:
    """The object is Stalled."""
    return space.condition("demo", "Stalled")[0] == "True"


def nothing(*kinds: str) -> Callable[[Space], bool]:
    """There is nothing of these kinds; by default none of the object and its pods."""
    return lambda space: not any(space.names(kind) for kind in kinds or (KIND, "Deployment", "Service", "Pod"))


def unused_jobs(space: Space) -> int:
    """How many Jobs are marked as the record of what nobody uses."""
    jobs = space.plane.request("GET", space.path("Job"))["items"]
    return sum(ANNOTATION_UNUSED_SINCE in (job["metadata"].get("annotations") or {}) for job in jobs)


def only_unused_jobs(space: Space) -> bool:
    """The objects are gone, and the records of what is cached say so."""
    return unused_jobs(space) == len(space.names("Job")) and nothing(KIND, "Deployment", "Service")(space)


def gated(case: Case) -> None:
    """The hub refuses from now on."""
    case.world.stand.words[case.space.name] = lambda _stage, _about: (json.dumps(GATED), 3)


def willing(case: Case) -> None:
    """The hub gives the model from now on."""
    case.world.stand.words.pop(case.space.name, None)


def delete_jobs(case: Case) -> None:
    """Delete every Job, which asks for another try."""
    for name in case.space.names("Job"):
        case.space.delete("Job", name)


def ask_for_removal(case: Case) -> None:
    """Ask that what is cached be removed, as `kubectl llm cache remove` does."""
    for name in case.space.names("Job"):
        case.space.patch(name, {"metadata": {"annotations": {ANNOTATION_REMOVE: "true"}}}, "Job")


def drift(case: Case) -> None:
    """Edit the children by hand."""
    case.space.patch("demo", {"spec": {"replicas": 5}}, "Deployment")
    case.space.patch("demo", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, "Service")


def straight(space: Space) -> bool:
    """The children are as they should be."""
    deployment, service = space.get("Deployment", "demo"), space.get("Service", "demo")
    return (
        space.is_ready("demo")
        and deployment is not None
        and deployment["spec"]["replicas"] == 1
        and service is not None
        and service["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "llm-operator"
    )


def _ignore(_: object) -> None:
    """A step returns nothing."""


GONE = Step(delete(), nothing())
GONE_BUT_FOR_THE_CACHE = Step(delete(), only_unused_jobs)
CACHED: JSON = {"model": HUB, "cache": {"claimName": "models"}}

SCENARIOS = (
    Scenario("serve", (Step(create(replicas=2), ready()), GONE)),
    Scenario(
        "scale",
        (
            Step(create(), ready()),
            Step(patch({"replicas": 3}), ready()),
            Step(patch({"replicas": 0}), said("Stopped")),
            GONE,
        ),
    ),
    Scenario(
        "roll",
        (
            Step(create(contextLength=2048), ready()),
            Step(patch({"contextLength": 4096}), ready()),
            GONE,
        ),
    ),
    Scenario(
        "refuse",
        (
            Step(create(), ready()),
            Step(patch({"engine": {"extraArgs": ["--max-model-len", "9"]}}), stalled),
            Step(patch({"engine": {"extraArgs": ["--seed", "7"]}}), ready()),
            GONE,
        ),
    ),
    Scenario(
        "own-claim",
        (
            Step(create(model=HUB, cache={"size": "1Gi"}), ready()),
            Step(delete(), nothing(KIND, "Deployment", "Service", "Pod", "Job", "PersistentVolumeClaim")),
        ),
    ),
    Scenario(
        "quantize",
        (
            Step(both(claim(), create(**CACHED, weightQuantization={})), ready()),
            GONE_BUT_FOR_THE_CACHE,
        ),
    ),
    Scenario(
        "inspect",
        (
            Step(
                both(
                    claim(),
                    create(
                        model={"persistentVolumeClaim": {"claimName": "models", "path": "a"}}, gpu={"memory": "48Gi"}
                    ),
                ),
                ready(),
            ),
            Step(delete(), nothing(KIND, "Deployment", "Service", "Pod", "Job")),
        ),
    ),
    Scenario(
        "another-model",
        (
            Step(both(claim(), create(**CACHED)), ready()),
            Step(
                patch({"model": {"huggingFace": {"repository": "org/other"}}}),
                lambda space: space.is_ready("demo") and unused_jobs(space) == 1,
            ),
            GONE_BUT_FOR_THE_CACHE,
        ),
    ),
    Scenario(
        "try-again",
        (
            Step(both(gated, claim(), create(**CACHED)), said("ModelGated", "Stalled")),
            Step(both(willing, delete_jobs), ready()),
            GONE_BUT_FOR_THE_CACHE,
        ),
    ),
    Scenario(
        "remove",
        (
            Step(both(claim(), create(**CACHED)), ready()),
            GONE_BUT_FOR_THE_CACHE,
            Step(ask_for_removal, nothing("Job")),
        ),
    ),
    Scenario(
        "chat-page",
        (
            Step(create(webUI={}), ready()),
            Step(
                patch({"webUI": None}), lambda space: space.is_ready("demo") and space.names("Deployment") == {"demo"}
            ),
            GONE,
        ),
    ),
    Scenario("drift", (Step(create(), ready()), Step(drift, straight), GONE)),
    Scenario(
        "two-share",
        (
            Step(both(claim(), create("one", **CACHED), create("two", **CACHED)), ready("one", "two")),
            Step(both(delete("one"), delete("two")), only_unused_jobs),
        ),
    ),
)
