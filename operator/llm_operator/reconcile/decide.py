"""From an object and what is seen of it to what must be written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import RefusedError, RenderRequest, render
from llm_operator.foreign import read_object
from llm_operator.manifests.chat_page import chat_page
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    JSON,
    compact_json,
    with_version,
)
from llm_operator.manifests.deployment import NO_TOOLS, pod_template
from llm_operator.manifests.model_volume import Prepared, model_path
from llm_operator.manifests.network_policy import policies_of
from llm_operator.manifests.pod_disruption_budget import pod_disruption_budget
from llm_operator.manifests.restart import with_restart
from llm_operator.manifests.revision import (
    REVISION,
    content_of,
    excess,
    number_and_digest,
    revision,
    revision_name,
    text_digest,
)
from llm_operator.manifests.service import service
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.preparation import Preparation
from llm_operator.pipeline.prepare import inspecting, prepare
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem, every
from llm_operator.reconcile.decision import Apply, Decision, Delete
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_record import provisional, record
from llm_operator.reconcile.planned import look_decides
from llm_operator.reconcile.refusals import OF_KEPT, OF_NEW, OF_PAGE, OF_REQUEST, Candidate, too_large
from llm_operator.reconcile.rendered import applied_template, kept_rendering
from llm_operator.reconcile.revisions import content, to_remove
from llm_operator.reconcile.running import kept_of, newest_name, running_name
from llm_operator.reconcile.workload import workload_for
from llm_operator.reconcile.writes import NOT_POLICIES, POLICIES, writes_of
from llm_operator.settings import ToolSettings

MOST_REVISIONS = 999_999_999
"""Highest number of a revision; the next one is 1."""


def decide(resource: LLMDeployment, observed: Observed, plan: PlanOutcome, tools: ToolSettings = NO_TOOLS) -> Decision:
    """The writes that make the children what the object requests; none if they are that already."""
    candidate = Candidate(resource, tools)
    unusable = every(OF_REQUEST, candidate)
    decision = Decision(refusals=unusable) if unusable else _engine(resource, observed, plan, tools)
    template = decision.template or applied_template(resource, observed)
    policies, deletes = _policies(resource, observed, template, tools)
    # Policies first: no pod is reachable before its policy is there.
    decision = replace(decision, applies=(*policies, *decision.applies), deletes=(*decision.deletes, *deletes))
    refusals = every(OF_PAGE, candidate)
    if refusals:
        return replace(decision, page_refusals=refusals)
    page = _page(resource, template, tools)
    if page is None:
        return decision
    applies, deletes = writes_of(resource, observed, page, "chat", NOT_POLICIES)
    return replace(decision, applies=(*decision.applies, *applies), deletes=(*decision.deletes, *deletes))


def _policies(
    resource: LLMDeployment, observed: Observed, template: JSON | None, tools: ToolSettings
) -> tuple[tuple[Apply, ...], tuple[Delete, ...]]:
    """The writes that make the NetworkPolicies what the object says, also while its spec is refused or held."""
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    for role, policy in policies_of(resource, template, tools, jobs=bool(artifacts_of(resource))).items():
        wanted = [] if policy is None else [policy]
        writes, removals = writes_of(resource, observed, wanted, role, POLICIES)
        applies, deletes = (*applies, *writes), (*deletes, *removals)
    return applies, deletes


def _page(resource: LLMDeployment, template: JSON | None, tools: ToolSettings) -> list[JSON] | None:
    """The children of the chat page; None while there is no engine yet to tell of: what is there stays."""
    page = resource.spec.web_ui
    if page is None:
        return []
    if template is None:
        return None
    engine = read_object(template["metadata"]["annotations"][ANNOTATION_ENGINE])
    return chat_page(resource, page, template, engine, tools)


def _engine(resource: LLMDeployment, observed: Observed, plan: PlanOutcome, tools: ToolSettings) -> Decision:
    kept = kept_rendering(resource, observed)
    if kept is not None and plan.verdict in ("Fits", "DoesNotFit") and provisional(resource, observed):
        kept = None
    refusals = every(OF_KEPT if kept is not None else OF_NEW, Candidate(resource, tools))
    if refusals:
        return Decision(refusals=refusals)
    if kept is not None:
        template = with_restart(kept.template, resource.metadata.restarted_at)
        return _children(resource, observed, template, kept.plan)
    look = inspecting(resource, observed, tools)
    if look is None:
        return _anew(resource, observed, plan, tools)
    if not _beside(look, plan, resource.spec):
        return _preparing(look)
    decision = _anew(resource, observed, plan, tools)
    return replace(decision, applies=(*decision.applies, *_preparing(look).applies), outdated=look.outdated)


def _anew(resource: LLMDeployment, observed: Observed, plan: PlanOutcome, tools: ToolSettings) -> Decision:
    """The engine of inputs that nothing runs yet, as far as plan and stages have come."""
    if plan.verdict == "Pending" or (plan.verdict == "DoesNotFit" and resource.spec.plan_policy == "Enforce"):
        return Decision(held=True)
    preparation = prepare(resource, observed, plan, tools)
    if preparation.prepared is None:
        return replace(_preparing(preparation), trial=_trial(resource, plan, tools))
    try:
        template = _rendered(resource, plan, preparation.prepared, tools)
    except RefusedError as refused:
        return _without_plan(plan, refused.refusals, preparation)
    template = with_restart(template, resource.metadata.restarted_at)
    planned = record(plan)
    too_long = excess(content_of(template, planned), workload_for(resource).render(resource, template, None, observed))
    if too_long:
        return Decision(refusals=(too_large(too_long),), preparation=preparation)
    return replace(_children(resource, observed, template, planned), preparation=preparation)


def _without_plan(plan: PlanOutcome, refusals: tuple[Problem, ...], preparation: Preparation) -> Decision:
    """What cannot be rendered: for want of a plan it is waited for, if there may be one; else the spec is refused."""
    if any(one.reason != "MemoryShareUnknown" for one in refusals):
        return Decision(refusals=refusals, preparation=preparation)
    text = "; ".join(one.text for one in refusals)
    why = f"there is no plan: {plan.reason}: {plan.message}"
    if plan.for_now:
        return Decision(held=True, waiting=Problem(plan.reason, f"{text}; {why}", "Warning"))
    return Decision(
        refusals=tuple(replace(one, message=f"{one.message}; {why}") for one in refusals), preparation=preparation
    )


def _beside(look: Preparation, plan: PlanOutcome, spec: LLMDeploymentSpec) -> bool:
    """Whether the engine need not wait for the look at its files: it then says what they are, and decides nothing."""
    running = look.trouble is None and look.running is not None
    return running and plan.reason == "GPUUnknown" and not look_decides(spec)


def _preparing(preparation: Preparation) -> Decision:
    """Claims and Jobs first; the children follow when the model is there."""
    applies = tuple(Apply(body, seen=False) for body in preparation.writes)
    return Decision(applies=applies, held=True, preparation=preparation, outdated=preparation.outdated)


def _children(resource: LLMDeployment, observed: Observed, template: JSON, plan: Mapping[str, Any] | None) -> Decision:
    """The writes that make revision, Deployment, Service and disruption budget fit a template."""
    name, revisions, removed = _revisions(resource, observed, template, plan)
    rolled = workload_for(resource).render(resource, template, name, observed)
    desired = (rolled, service(resource), pod_disruption_budget(resource))
    wanted = [with_version(body, template) for body in desired if body is not None]
    applies, deletes = writes_of(resource, observed, wanted, "engine", NOT_POLICIES)
    # The revision first: once the Deployment runs a template, the template is kept.
    return Decision(applies=(*revisions, *applies), deletes=(*deletes, *removed), template=template)


def _revisions(
    resource: LLMDeployment, observed: Observed, template: JSON, plan: Mapping[str, Any] | None
) -> tuple[str, tuple[Apply, ...], tuple[Delete, ...]]:
    """The name of the revision for a template; its creation, if it is not there; and the revisions that go."""
    owner, uid = resource.metadata.name, resource.metadata.uid
    named = running_name(observed) or newest_name(observed, uid)
    before, was = number_and_digest(owner, named or "") or (0, "")
    kept, text = kept_of(observed), ""
    if kept is not None and was and template is kept.template and plan is kept.plan:
        digest = was
    else:
        text = compact_json(content_of(template, plan))
        digest = text_digest(text)
    number = before if digest == was else before % MOST_REVISIONS + 1
    name = revision_name(owner, number, digest)
    there = observed.revisions.get(name)
    sound = there is not None and there.owner_uid == uid and there.labelled and not there.gone
    if sound and (there is None or there.text is None or content(there) is not None):
        applies: tuple[Apply, ...] = ()
    else:
        applies = (Apply(revision(resource, number, content_of(template, plan), text, digest), seen=False),)
    in_use = {name, *([named] if named is not None else [])}
    # The one that is replaced counts as old, and stays for as long as the Deployment names it.
    most = max(0, resource.spec.revision_history_limit - len(in_use - {name}))
    removed = to_remove(observed.revisions, uid, in_use, number, most)
    return name, applies, tuple(Delete(REVISION, one.name, one.uid) for one in removed)


def _rendered(resource: LLMDeployment, plan: PlanOutcome, prepared: Prepared, tools: ToolSettings) -> JSON:
    run = render(
        RenderRequest(
            name=resource.metadata.name,
            namespace=resource.metadata.namespace,
            spec=_as_served(resource.spec, prepared),
            tensor=plan.tensor,
            context_length=plan.context_length,
            kv=plan.kv,
            architecture=plan.architecture,
            model_path=model_path(resource, prepared, tools),
        )
    )
    return pod_template(resource, run, prepared, tools)


def _trial(resource: LLMDeployment, plan: PlanOutcome, tools: ToolSettings) -> JSON | None:
    """The Deployment before its model is there; None without an overlay, and if nothing can be rendered yet."""
    if not resource.spec.pod_template:
        return None
    try:
        return workload_for(resource).render(resource, _rendered(resource, plan, Prepared(), tools), None, Observed())
    except RefusedError:
        return None


def _as_served(spec: LLMDeploymentSpec, prepared: Prepared) -> LLMDeploymentSpec:
    """The spec with the format that a stage has given the weights."""
    if prepared.format is None:
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"format": prepared.format})})
