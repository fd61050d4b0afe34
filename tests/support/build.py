"""Objects, children and pods for the tests of the pure core."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from llm_operator.api import API_VERSION, KIND
from llm_operator.api.resource import LLMDeployment
from llm_operator.live.children import Child, child_from
from llm_operator.live.pods import Pod
from llm_operator.manifests.common import ANNOTATION_REVISION, ANNOTATION_TEMPLATE, JSON, inputs_hash
from llm_operator.manifests.revision import REVISION
from llm_operator.planning.outcome import PlanOutcome
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.decision import Apply
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.planned import unknown_outcome
from llm_operator.reconcile.revisions import Revision, revision_from
from llm_operator.reconcile.situation import Situation
from tests.support.older import template_text

UID = "11111111-1111-4111-8111-111111111111"
NOW = "2026-01-01T00:00:00Z"


def resource(**spec: Any) -> LLMDeployment:
    body = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "demo", "namespace": "team", "uid": UID, "generation": 1},
        "spec": {
            "model": {"persistentVolumeClaim": {"claimName": "models"}},
            "engine": {"type": "VLLM"},
            **spec,
        },
    }
    return LLMDeployment.parse(body)


def plan(of: LLMDeployment) -> PlanOutcome:
    return unknown_outcome(of.spec, "ModelNotInspected", "not inspected")


def live(body: JSON, **status: int) -> Child:
    """A child as the API server would return what was applied."""
    text: JSON = json.loads(json.dumps(body))
    text["metadata"] |= {"uid": f"uid-{body['kind']}", "resourceVersion": "1", "generation": 1}
    text["status"] = status
    return child_from(text)


def live_revision(body: JSON) -> Revision:
    """A revision as the API server would return what was created."""
    text: JSON = json.loads(json.dumps(body))
    text["metadata"] |= {"uid": f"uid-{body['metadata']['name']}", "resourceVersion": "1"}
    return revision_from(text)


def once_written(applies: Iterable[Apply], before: Observed | None = None, **status: int) -> Observed:
    """What is there once these writes are made; the Deployments have that status."""
    before = before or Observed()
    children, revisions = dict(before.children), dict(before.revisions)
    for apply in applies:
        kind, name = apply.body["kind"], apply.body["metadata"]["name"]
        if kind == REVISION:
            revisions[name] = live_revision(apply.body)
        else:
            children[kind, apply.role] = live(apply.body, **(status if kind == "Deployment" else {}))
    return replace(before, children=children, revisions=revisions)


def applied(of: LLMDeployment, **status: int) -> Observed:
    """Everything in place."""
    return once_written(decide(of, Observed(), plan(of)).applies, None, **status)


def made_by_an_older_operator(seen: Observed, **annotations: str) -> Observed:
    """The template in an annotation of the Deployment, as before there were revisions, with further annotations."""
    child = seen.children["Deployment", "engine"]
    body = child.body()
    given = body["metadata"]["annotations"]
    del given[ANNOTATION_REVISION]
    given |= {ANNOTATION_TEMPLATE: template_text(body["spec"]["template"]), **annotations}
    older = replace(child, text=json.dumps(body), revision="")
    return replace(seen, children={**seen.children, ("Deployment", "engine"): older}, revisions={})


def serving(of: LLMDeployment) -> Observed:
    """Everything in place and every replica serving."""
    count = of.spec.replicas
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
    return applied(of, observedGeneration=1, **counts)


def situation(of: LLMDeployment, observed: Observed, **fields: Any) -> Situation:
    """What status is judged from; fields replace what would be decided and planned."""
    return replace(Situation(of, observed, decide(of, observed, plan(of)), plan(of), before=of.status), **fields)


def pod(of: LLMDeployment, **fields: Any) -> Pod:
    base = Pod(
        name="demo-1",
        uid="pod-1",
        resource_version="1",
        inputs=inputs_hash(of),
        deleting=False,
        ready=False,
        phase="Pending",
        unschedulable=None,
        waiting_reason=None,
        waiting_message="",
        end=None,
        running=False,
        restarts=0,
    )
    return replace(base, **fields)
