"""Everything that would be created for an object: decide() over a world in which all goes well. Pure.

What only a cluster or a hub knows is assumed, and each assumption is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.live.children import Role, child_from
from llm_operator.live.claims import ClaimFacts
from llm_operator.manifests.claim import cache_volume_claim
from llm_operator.manifests.common import ANNOTATION_REVISION, JSON, container_of
from llm_operator.manifests.network_policy import JOBS_SUFFIX
from llm_operator.manifests.revision import REVISION
from llm_operator.manifests.tools import CONTAINER, LABEL_STAGE
from llm_operator.pipeline.artifacts import LABEL_ARTIFACT
from llm_operator.pipeline.claims import needed_claims
from llm_operator.pipeline.job_view import JobView
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Apply
from llm_operator.reconcile.observed import Observed
from llm_operator.settings import ToolSettings

COMMIT = "COMMIT"
"""Stands for a commit that the hub has yet to name, where objects are shown."""
_STAND_IN = "c0" * 20
"""The same where they are made: the result of a Job is believed only if its directory ends with a commit."""
MOST_STEPS = 16
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(slots=True)
class Rehearsal:
    """What would be created, in order.

    Attributes:
        objects: claims and Jobs, then the engine's objects, then the chat page's, each after its NetworkPolicy; without
            owner references.
        refusals: why the spec cannot be served, or its chat page cannot be made.
        trouble: what stops the stages before serving, such as a recipe that the quantizer refuses.
        held: the plan says that it does not fit, and planPolicy is Enforce.
        assumed: sentences about what was taken for granted.
    """

    objects: list[JSON] = field(default_factory=list)
    refusals: tuple[Problem, ...] = ()
    trouble: Problem | None = None
    held: bool = False
    assumed: list[str] = field(default_factory=list)


def rehearse(resource: LLMDeployment, plan: PlanOutcome, tools: ToolSettings) -> Rehearsal:
    """Go through all stages as if every claim were bound and every Job had done its work."""
    rehearsal = Rehearsal()
    resource = resource.handing_on(tools.propagation)
    observed = Observed(claims={name: _claim(resource, name, rehearsal) for name in needed_claims(resource)})
    for _ in range(MOST_STEPS):
        decision = decide(resource, observed, plan, tools)
        rehearsal.refusals = (*decision.refusals, *decision.page_refusals)
        if rehearsal.refusals:
            return rehearsal
        trouble = decision.preparation.trouble if decision.preparation is not None else None
        if trouble is not None and trouble.stalls:
            rehearsal.trouble = trouble
            return rehearsal
        # A revision repeats the pod template, and its name depends on what only the cluster says.
        rehearsal.objects += [_shown(apply.body) for apply in decision.applies if apply.body["kind"] != REVISION]
        if not decision.held or not decision.applies:
            rehearsal.held = decision.held
            return rehearsal
        for apply in decision.applies:
            observed = _done(resource, observed, apply, rehearsal)
    raise AssertionError(f"{resource.metadata.name}: the stages do not end")


def _claim(resource: LLMDeployment, name: str, rehearsal: Rehearsal) -> ClaimFacts | None:
    """A claim as it would be found; None for the one that the operator creates."""
    made = cache_volume_claim(resource)
    if made is not None and made["metadata"]["name"] == name:
        return None
    rehearsal.assumed.append(
        f"PersistentVolumeClaim {name!r} exists; if it is ReadWriteOnce, the pods that mount it also get a podAffinity"
    )
    return ClaimFacts(name, "assumed", single_node=False, labelled=True)


def _done(resource: LLMDeployment, observed: Observed, apply: Apply, rehearsal: Rehearsal) -> Observed:
    """The world once something is written: a claim is bound, a Job has ended."""
    body = apply.body
    name = body["metadata"]["name"]
    if body["kind"] == "PersistentVolumeClaim":
        spec = body["spec"]
        found = ClaimFacts(
            name,
            "assumed",
            single_node=spec["accessModes"] == ["ReadWriteOnce"],
            managed=True,
            owner_uid=resource.metadata.uid if body["metadata"].get("ownerReferences") else None,
            size=spec["resources"]["requests"]["storage"],
            storage_class=spec.get("storageClassName"),
        )
        return replace(observed, claims={**observed.claims, name: found})
    if body["kind"] == "Job":
        return replace(observed, jobs={**observed.jobs, name: _job(resource, body, rehearsal)})
    role: Role = "jobs" if name.endswith(JOBS_SUFFIX) else apply.role
    child = child_from({**body, "metadata": {**body["metadata"], "uid": "assumed", "resourceVersion": "1"}})
    return replace(observed, children={**observed.children, (body["kind"], role): child})


def _job(resource: LLMDeployment, body: JSON, rehearsal: Rehearsal) -> JobView:
    labels = body["metadata"]["labels"]
    directory = _directory(resource, labels[LABEL_STAGE], body["spec"]["template"]["spec"], rehearsal)
    return JobView(
        name=body["metadata"]["name"],
        uid="assumed",
        resource_version="1",
        stage=labels[LABEL_STAGE],
        digest=labels[LABEL_ARTIFACT],
        phase="Complete",
        failure="",
        finished_at=None,
        deleting=False,
        told=json.dumps({"ok": True, "directory": directory}),
        about={},
        unused_since=None,
        to_be_removed=False,
        claim=None,
        claim_uid=None,
    )


def _directory(resource: LLMDeployment, stage: str, pod: Mapping[str, list[JSON]], rehearsal: Rehearsal) -> str:
    """Directory that a Job would report (modeltools/layout.py)."""
    arguments = container_of({"spec": pod}, CONTAINER)["args"]
    option = {"inspect": "--directory", "fetch": "--revision"}.get(stage, "--output")
    given: str = arguments[arguments.index(option) + 1] if option in arguments else ""
    if stage != "fetch":
        return given
    model = resource.spec.model
    hub = model.hugging_face or model.model_scope
    assert hub is not None  # noqa: S101 - only a hub's model is fetched
    commit = given if _SHA.fullmatch(given) else _STAND_IN
    if commit == _STAND_IN:
        rehearsal.assumed.append(
            f"the cache's directory ends with the commit that the hub names for {hub.repository}, shown as {COMMIT}; "
            "a full commit in spec.model's revision settles it"
        )
    kind = "hf" if model.hugging_face is not None else "ms"
    return f"models/{kind}--{hub.repository.replace('/', '--')}/{commit}"


def _shown(body: JSON) -> JSON:
    meta = {name: value for name, value in body["metadata"].items() if name not in ("ownerReferences", "annotations")}
    annotations = {**body["metadata"].get("annotations", {})}
    annotations.pop(ANNOTATION_REVISION, None)
    meta |= {"annotations": annotations} if annotations else {}
    shown: JSON = _with_commit({**body, "metadata": meta})
    return shown


def _with_commit(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_commit(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_commit(entry) for entry in value]
    return value.replace(_STAND_IN, COMMIT) if isinstance(value, str) else value
