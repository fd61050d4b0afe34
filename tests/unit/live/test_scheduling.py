"""The scheduler's words, with what the pod asks for, what the nodes have, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_operator.live.claims import ClaimFacts
from llm_operator.live.scheduling import ANYTHING, Asked, asked_by, unschedulable
from llm_operator.reconcile.decide import decide
from llm_operator.reconcile.situation import Situation
from llm_operator.reconcile.status import status_of
from tests.support.build import NOW, applied, plan, pod, resource, situation
from tests.support.model_jobs import CLAIM, TOOLS, cached, job, seen, stages

NO_MATCH = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
OTHERS = "no node has the GPU 'H100' of spec.gpu.product; the nodes have Tesla-T4: set one of these"
ASKED = Asked({"nvidia.com/gpu.product": "H100", "zone": "b"}, {"nvidia.com/gpu": 2}, (), OTHERS)


@pytest.mark.parametrize(
    ("message", "asked", "reason", "words"),
    [
        ('persistentvolumeclaim "models" not found', ASKED, "ClaimMissing", ("'models' does not exist",)),
        (
            '0/1 nodes are available: persistentvolumeclaim "a-models" is being deleted. not found',
            ASKED,
            "ClaimTerminating",
            ("'a-models' is being deleted",),
        ),
        (NO_MATCH, ANYTHING, "Unschedulable", ("The pod cannot be scheduled: 0/1 nodes",)),
        (
            NO_MATCH,
            ASKED,
            "Unschedulable",
            ("a node with nvidia.com/gpu.product=H100, zone=b", "the nodes have Tesla-T4"),
        ),
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available.",
            replace(ASKED, nodes=""),
            "Unschedulable",
            ("it requests 2 nvidia.com/gpu of one node",),
        ),
        ("0/1 nodes are available: 1 Insufficient cpu.", ASKED, "Unschedulable", ("Insufficient cpu",)),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
            ANYTHING,
            "Unschedulable",
            ("spec.tolerations",),
        ),
        (UNBOUND, ANYTHING, "ClaimUnbound", ("kubectl describe pvc", "cache.storageClassName")),
        (
            UNBOUND,
            Asked(claims=(replace(CLAIM, bound=False),)),
            "ClaimUnbound",
            ("'models' has no volume", "no StorageClass", "no default one"),
        ),
        (
            UNBOUND,
            Asked(
                claims=(replace(CLAIM, bound=False, storage_class="fast"), ClaimFacts("other", "u", single_node=True))
            ),
            "ClaimUnbound",
            ("StorageClass 'fast'", "kubectl describe pvc models"),
        ),
    ],
)
def test_the_message_says_the_cause_and_the_remedy(
    message: str, asked: Asked, reason: str, words: tuple[str, ...]
) -> None:
    found = unschedulable(message, asked)
    text = found.text
    assert found.reason == reason
    assert [word for word in words if word not in text] == []
    assert "not found" not in text
    assert "'other'" not in text


def test_what_is_asked_for_is_read_from_the_template() -> None:
    of = resource(nodeSelector={"zone": "b"})
    template = decide(of, seen(), replace(plan(of), tensor=2)).template
    assert template is not None
    asked = asked_by(template["spec"], OTHERS)
    assert asked.selector["zone"] == "b"
    assert asked.amounts["nvidia.com/gpu"] == 2
    assert asked_by(None) == ANYTHING
    assert len(unschedulable(NO_MATCH, Asked({f"label-{n}": "x" * 63 for n in range(100)})).text) < 1000


def test_an_engines_pod_says_what_the_nodes_have() -> None:
    of = resource(nodeSelector={"zone": "b"})
    observed = replace(applied(of, observedGeneration=1, replicas=1), pods=(pod(of, unschedulable=NO_MATCH),))
    told = situation(of, observed)
    told = replace(told, plan=replace(told.plan, other_gpus=OTHERS))
    ready = next(entry for entry in status_of(told, NOW).conditions if entry.type == "Ready")
    assert ready.reason == "Unschedulable"
    assert "zone=b" in ready.message
    assert OTHERS in ready.message


def test_a_jobs_pod_says_which_claim_has_no_volume() -> None:
    of = cached()
    waiting = job(stages(of)["fetch"], pod(of, unschedulable=UNBOUND))
    observed = seen(waiting, models=replace(CLAIM, bound=False))
    decision = decide(of, observed, plan(of), TOOLS)
    status = status_of(Situation(of, observed, decision, plan(of)), NOW)
    ready = next(entry for entry in status.conditions if entry.type == "Ready")
    assert ready.reason == "ClaimUnbound"
    assert "'models' has no volume: it names no StorageClass" in ready.message
