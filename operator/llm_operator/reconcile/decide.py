"""From an object and what is seen of it to what must be written. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import Refusal, RefusedError, RenderRequest, check, render
from llm_operator.manifests.common import ANNOTATION_TEMPLATE, JSON, LABEL_INPUTS, inputs_hash
from llm_operator.manifests.deployment import deployment, pod_template
from llm_operator.manifests.pod_disruption_budget import pod_disruption_budget
from llm_operator.manifests.service import service
from llm_operator.reconcile.covers import covers
from llm_operator.reconcile.observed import Child, Observed
from llm_operator.reconcile.outcome import PlanOutcome


@dataclass(frozen=True, slots=True)
class Apply:
    """One server-side apply."""

    body: JSON
    force: bool
    """False for a child that was never seen: an object of that name that belongs to somebody else must not be taken."""


@dataclass(frozen=True, slots=True)
class Delete:
    """One deletion, bound to the uid that was seen."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write for one LLMDeployment, and why not more."""

    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    """Why the spec cannot be served; what served before is left as it is."""
    held: bool = False
    """Nothing is rendered: the plan does not fit, or is still being made."""
    template: JSON | None = None
    """The pod template that should run."""


def decide(resource: LLMDeployment, observed: Observed, plan: PlanOutcome) -> Decision:
    """The writes that bring the children to what the object asks for; none when they are there already."""
    kept = kept_template(resource, observed.deployment)
    if kept is None:
        refusals = check(resource.spec)
        if refusals:
            return Decision(refusals=refusals)
        if plan.verdict == "Pending" or (plan.verdict == "DoesNotFit" and resource.spec.plan_policy == "Enforce"):
            return Decision(held=True)
        try:
            kept = _rendered(resource, plan)
        except RefusedError as refused:
            return Decision(refusals=refused.refusals)
    desired = (deployment(resource, kept), service(resource), pod_disruption_budget(resource))
    wanted = [body for body in desired if body is not None]
    kinds = {body["kind"] for body in wanted}
    return Decision(
        applies=tuple(
            Apply(body, force=body["kind"] in observed.children)
            for body in wanted
            if _needs_write(body, observed.children.get(body["kind"]))
        ),
        deletes=tuple(
            Delete(child.kind, resource.metadata.name, child.uid)
            for child in observed.children.values()
            if child.kind not in kinds and child.owner_uid == resource.metadata.uid and not child.deleting
        ),
        template=kept,
    )


def kept_template(resource: LLMDeployment, child: Child | None) -> JSON | None:
    """The template that runs, where it was rendered from the same inputs; else None.

    A newer operator may render the same inputs differently. It must not: that would restart engines without a reason
    in their own spec.
    """
    if child is None or child.owner_uid != resource.metadata.uid:
        return None
    try:
        template: Any = json.loads(child.body()["metadata"]["annotations"].get(ANNOTATION_TEMPLATE, ""))
        same = template["metadata"]["labels"][LABEL_INPUTS] == inputs_hash(resource)
        complete = bool(template["spec"]["containers"][0]["image"])
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return template if same and complete else None


def _rendered(resource: LLMDeployment, plan: PlanOutcome) -> JSON:
    run = render(
        RenderRequest(
            name=resource.metadata.name,
            namespace=resource.metadata.namespace,
            spec=resource.spec,
            tensor=plan.tensor,
            context_length=plan.context_length,
            kv=plan.kv,
            architecture=plan.architecture,
        )
    )
    return pod_template(resource, run)


def _needs_write(body: JSON, child: Child | None) -> bool:
    if child is None:
        return True
    if child.deleting:
        return False
    said = {
        "metadata": {
            key: body["metadata"][key]
            for key in ("labels", "annotations", "ownerReferences")
            if key in body["metadata"]
        },
        "spec": body["spec"],
    }
    return not covers(child.body(), said)
