"""From an object and what is seen of it to what must be written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llm_operator.api.propagation import NO_PROPAGATION, Propagation
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import RefusedError, RenderRequest, check, render
from llm_operator.foreign import read_json, read_object
from llm_operator.live.children import Child, Kind, Role
from llm_operator.manifests.chat_page import chat_page
from llm_operator.manifests.common import (
    ANNOTATION_ENGINE,
    ANNOTATION_MODEL,
    ANNOTATION_PROPAGATED,
    ANNOTATION_PROPAGATES,
    JSON,
    LABEL_INPUTS,
    inputs_hash,
    with_version,
)
from llm_operator.manifests.deployment import NO_TOOLS, pod_template
from llm_operator.manifests.kinds import CHILD_KINDS
from llm_operator.manifests.model_volume import Prepared, model_path
from llm_operator.manifests.network_policy import policies_of
from llm_operator.manifests.overlay import check_overlay
from llm_operator.manifests.pod_disruption_budget import pod_disruption_budget
from llm_operator.manifests.restart import check_restart, with_restart
from llm_operator.manifests.revision import (
    REVISION,
    content_of,
    digest_of,
    excess,
    number_and_digest,
    revision,
    revision_name,
)
from llm_operator.manifests.service import ANNOTATION_SERVICE, service
from llm_operator.pipeline.graph import artifacts_of
from llm_operator.pipeline.preparation import Preparation
from llm_operator.pipeline.prepare import inspecting, prepare
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.problems import Problem, wrong_field
from llm_operator.reconcile.covers import covers
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.plan_record import provisional, record
from llm_operator.reconcile.planned import look_decides
from llm_operator.reconcile.revisions import Kept, content, to_remove
from llm_operator.reconcile.running import kept_of, newest_name, running_name
from llm_operator.reconcile.workload import workload_for
from llm_operator.settings import ToolSettings

POLICIES = frozenset({"NetworkPolicy"})
WORKLOADS = frozenset(CHILD_KINDS) - POLICIES
MOST_REVISIONS = 999_999_999
"""Highest number of a revision; the next one is 1."""


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


def decide(resource: LLMDeployment, observed: Observed, plan: PlanOutcome, tools: ToolSettings = NO_TOOLS) -> Decision:
    """The writes that make the children what the object requests; none if they are that already."""
    unusable = check_restart(resource)
    decision = Decision(refusals=unusable) if unusable else _engine(resource, observed, plan, tools)
    template = decision.template or applied_template(resource, observed)
    policies, deletes = _policies(resource, observed, template, tools)
    # Policies first: no pod is reachable before its policy is there.
    decision = replace(decision, applies=(*policies, *decision.applies), deletes=(*decision.deletes, *deletes))
    refusals = check_overlay(resource.spec, "chat")
    if refusals:
        return replace(decision, page_refusals=refusals)
    page = _page(resource, template, tools)
    if page is None:
        return decision
    applies, deletes = _writes(resource, observed, page, "chat", WORKLOADS)
    return replace(decision, applies=(*decision.applies, *applies), deletes=(*decision.deletes, *deletes))


def _policies(
    resource: LLMDeployment, observed: Observed, template: JSON | None, tools: ToolSettings
) -> tuple[tuple[Apply, ...], tuple[Delete, ...]]:
    """The writes that make the NetworkPolicies what the object says, also while its spec is refused or held."""
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Delete, ...] = ()
    for role, policy in policies_of(resource, template, tools, jobs=bool(artifacts_of(resource))).items():
        wanted = [] if policy is None else [policy]
        writes, removals = _writes(resource, observed, wanted, role, POLICIES)
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
    refusals = check_overlay(resource.spec, "tool")
    if kept is not None and plan.verdict in ("Fits", "DoesNotFit") and provisional(resource, observed):
        kept = None
    if kept is None:
        refusals = (
            *_check_home(resource, tools),
            *check(resource.spec),
            *check_overlay(resource.spec, "engine"),
            *refusals,
        )
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
        return Decision(refusals=(_too_large(too_long),), preparation=preparation)
    return replace(_children(resource, observed, template, planned), preparation=preparation)


def _too_large(excess_bytes: int) -> Problem:
    text = (
        f"the pods' template is {excess_bytes:,} bytes longer than the API server can store: shorten spec.engine.env "
        "and spec.podTemplate, for example with a ConfigMap that spec.podTemplate mounts"
    )
    return wrong_field("SpecTooLarge", "spec", text)


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


def _check_home(resource: LLMDeployment, tools: ToolSettings) -> tuple[Problem, ...]:
    """Objects beside the operator could use its ServiceAccount, whose rights are those of all namespaces it serves."""
    if not tools.home or resource.metadata.namespace != tools.home:
        return ()
    text = (
        f"the operator runs in namespace {tools.home} and serves others too, so that its own token is in reach of pods "
        "there: create the object in another namespace"
    )
    return (wrong_field("OperatorsNamespace", "metadata.namespace", text),)


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
    applies, deletes = _writes(resource, observed, wanted, "engine", WORKLOADS)
    # The revision first: once the Deployment runs a template, the template is kept.
    return Decision(applies=(*revisions, *applies), deletes=(*deletes, *removed), template=template)


def _revisions(
    resource: LLMDeployment, observed: Observed, template: JSON, plan: Mapping[str, Any] | None
) -> tuple[str, tuple[Apply, ...], tuple[Delete, ...]]:
    """The name of the revision for a template; its creation, if it is not there; and the revisions that go."""
    owner, uid = resource.metadata.name, resource.metadata.uid
    named = running_name(observed) or newest_name(observed, uid)
    before, was = number_and_digest(owner, named or "") or (0, "")
    kept = kept_of(observed)
    if kept is not None and was and template is kept.template and plan is kept.plan:
        digest = was
    else:
        digest = digest_of(content_of(template, plan))
    number = before if digest == was else before % MOST_REVISIONS + 1
    name = revision_name(owner, number, digest)
    there = observed.revisions.get(name)
    sound = there is not None and there.owner_uid == uid and there.labelled and not there.gone
    if sound and (there is None or there.text is None or content(there) is not None):
        applies: tuple[Apply, ...] = ()
    else:
        applies = (Apply(revision(resource, number, content_of(template, plan), digest), seen=False),)
    in_use = {name, *([named] if named is not None else [])}
    # The one that is replaced counts as old, and stays for as long as the Deployment names it.
    most = max(0, resource.spec.revision_history_limit - len(in_use - {name}))
    removed = to_remove(observed.revisions, uid, in_use, number, most)
    return name, applies, tuple(Delete(REVISION, one.name, one.uid) for one in removed)


def _writes(
    resource: LLMDeployment, observed: Observed, wanted: Sequence[JSON], role: Role, among: frozenset[Kind]
) -> tuple[tuple[Apply, ...], tuple[Delete, ...]]:
    """The writes that make the children of one role, of these kinds, what is wanted."""
    seen = {kind: child for (kind, of), child in observed.children.items() if of == role and kind in among}
    # What cannot be changed is deleted, and made anew when it is gone.
    kinds = {body["kind"] for body in wanted if not _is_fixed(body, seen.get(body["kind"]))}
    return (
        tuple(
            Apply(
                body,
                seen=body["kind"] in seen,
                role="chat" if role == "chat" else "engine",
                live=seen.get(body["kind"]),
            )
            for body in wanted
            if body["kind"] in kinds and _needs_write(body, seen.get(body["kind"]))
        ),
        tuple(
            Delete(kind, child.name, child.uid, "chat" if role == "chat" else "engine")
            for kind, child in seen.items()
            if kind not in kinds and _owns(resource, child) and not child.deleting
        ),
    )


def _owns(resource: LLMDeployment, child: Child) -> bool:
    return child.owner_uid == resource.metadata.uid


def kept_rendering(resource: LLMDeployment, observed: Observed) -> Kept | None:
    """What runs, if it was rendered from the same inputs; else None.

    A newer operator may render the same inputs differently. It must not: that would restart engines without a reason
    in their own spec.
    """
    child = observed.workload
    kept = kept_of(observed) if child is not None and _owns(resource, child) else None
    if kept is None:
        return None
    # With the list of that time: another list of what is handed on is not a reason in the object itself.
    said = resource.handing_on(_propagation_of(kept.template))
    return kept if kept.template["metadata"]["labels"][LABEL_INPUTS] == inputs_hash(said) else None


def expected_inputs(resource: LLMDeployment, observed: Observed) -> str:
    """The hash of inputs of the pods that should run."""
    kept = kept_rendering(resource, observed)
    label: str = kept.template["metadata"]["labels"][LABEL_INPUTS] if kept else inputs_hash(resource)
    return label


def _propagation_of(template: JSON) -> Propagation:
    """The list of what is handed on that a template was rendered with."""
    text = (template["metadata"].get("annotations") or {}).get(ANNOTATION_PROPAGATES)
    if not text:
        return NO_PROPAGATION
    found = read_object(text)
    lists = (found.get(name) for name in ("labels", "annotations"))
    return Propagation(*(tuple(map(str, names)) if isinstance(names, list) else () for names in lists))


def applied_template(resource: LLMDeployment, observed: Observed) -> JSON | None:
    """The pod template as it was applied last; None if nothing says."""
    child = observed.workload
    kept = kept_of(observed) if child is not None and _owns(resource, child) else None
    return kept.template if kept is not None else None


def prepared_of(template: JSON | None) -> Prepared | None:
    """The prepared model that a pod template mounts; None if nothing was prepared for it."""
    if template is None:
        return None
    try:
        text = template["metadata"].get("annotations", {}).get(ANNOTATION_MODEL)
        return Prepared.from_json(read_json(text)) if text else None
    except (ValueError, TypeError, AttributeError):
        return None


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


def _is_fixed(body: JSON, child: Child | None) -> bool:
    """Whether a child has what no write can change: a Service is headless, or is not, from its creation on."""
    if body["kind"] != "Service" or child is None or child.deleting:
        return False
    return bool((child.body()["spec"].get("clusterIP") == "None") != (body["spec"].get("clusterIP") == "None"))


def _given(metadata: JSON) -> list[str | None]:
    """What reports all that was given to a child, whose absence reports what is to be taken away."""
    annotations = metadata.get("annotations") or {}
    return [annotations.get(name) for name in (ANNOTATION_PROPAGATED, ANNOTATION_SERVICE)]


def _needs_write(body: JSON, child: Child | None) -> bool:
    if child is None:
        return True
    if child.deleting:
        return False
    live = child.body()
    return _given(live["metadata"]) != _given(body["metadata"]) or bool(child.foreign) or not covers(live, said(body))


def said(body: JSON) -> JSON:
    """What the operator says of a child, as Child.body() shows what is there."""
    return {
        "metadata": {
            key: body["metadata"][key]
            for key in ("labels", "annotations", "ownerReferences")
            if key in body["metadata"]
        },
        "spec": body["spec"],
    }
