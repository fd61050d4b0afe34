"""The conditions of several hundred snapshots, word by word: what users and their alerts read stays as it is.

`recorded_statuses.txt` lists every condition that occurs, then the conditions of each snapshot by their numbers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any

from llm_operator.api.names import ANNOTATION_RESTARTED
from llm_operator.api.resource import LLMDeployment
from llm_operator.api.status import LLMDeploymentStatus, ProgressStatus
from llm_operator.facts import Known, Pending, Unknowable
from llm_operator.live.children import ChildCondition
from llm_operator.live.pods import ContainerEnd, Mounted
from llm_operator.manifests.model_volume import FETCHER
from llm_operator.problems import Problem
from llm_operator.reconcile.diagnose import deletion_refused, namespace_goes, without_image_volumes, write_refused
from llm_operator.reconcile.evaluate import evaluate, status_after
from llm_operator.reconcile.health import Sample, Seen, Vitals
from llm_operator.reconcile.model_facts import ModelFacts
from llm_operator.reconcile.observed import Observed
from llm_operator.reconcile.snapshot import Executed, Snapshot
from llm_operator.reconcile.starting import Start
from llm_operator.reconcile.wants import identity
from llm_operator.settings import ToolSettings
from tests.support.build import NOW, applied, pod, resource, serving
from tests.support.model_jobs import CLAIM, COMMIT, TOOLS, cached, done, failed, fetched, job, quantized, seen, stages
from tests.support.planning import card, shape
from tests.support.sources import AT, facts

RECORD = Path(__file__).parent / "recorded_statuses.txt"
ONE = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1}
KILLED = ContainerEnd(137, None, "OOMKilled", "")
RESULT = json.dumps({"ok": False, "reason": "ModelGated", "message": "ask for access", "retry": False})


def _objects() -> dict[str, LLMDeployment]:
    hub = {"huggingFace": {"repository": "org/model"}}
    restarted = resource()
    annotated = restarted.metadata.model_copy(update={"annotations": {ANNOTATION_RESTARTED: "now"}})
    restarted = restarted.model_copy(update={"metadata": annotated})
    return {
        "plain": resource(),
        "several": resource(replicas=2),
        "stopped": resource(replicas=0),
        "hub": resource(model=hub),
        "LMDeploy": resource(model=hub, engine={"type": "LMDeploy"}),
        "key": resource(engine={"type": "VLLM", "apiKey": {"name": "key", "key": "token"}}),
        "open": resource(network={"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
        "two refusals": resource(engine={"type": "VLLM", "extraArgs": ["--tensor-parallel-size", "2", "--host", "a"]}),
        "restart": restarted,
        "overlay": resource(podTemplate={"spec": {"nonsense": 1}}),
        "tool overlay": resource(tools={"podTemplate": {"spec": {"nonsense": 1}}}),
        "page": resource(webUI={}),
        "page overlay": resource(webUI={"podTemplate": {"spec": {"nonsense": 1}}}),
        "stopped page": resource(webUI={"replicas": 0}),
        "warns": resource(model=hub, planPolicy="Warn"),
    }


def _pods(of: LLMDeployment) -> dict[str, dict[str, Any]]:
    waiting = {"waiting_message": "because"}
    return {
        "pending": {},
        "loading": {"running": True},
        "mounting": {"mounts": (Mounted("settings", "ConfigMap 'settings'"),)},
        "unschedulable": {"unschedulable": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."},
        "no claim": {"unschedulable": 'persistentvolumeclaim "models" not found'},
        "no image": {"waiting_reason": "ImagePullBackOff", **waiting},
        "bad image": {"waiting_reason": "InvalidImageName", **waiting},
        "config": {"waiting_reason": "CreateContainerConfigError", **waiting},
        "secret": {"waiting_reason": "CreateContainerConfigError", "waiting_message": 'secret "hf" not found'},
        "memory": {"end": KILLED, "restarts": 1},
        "memory for good": {"end": KILLED, "restarts": 3},
        "engine": {"end": ContainerEnd(1, None, "Error", "torch.OutOfMemoryError: CUDA out of memory."), "restarts": 2},
        "unknown end": {"end": ContainerEnd(1, None, "Error", "it broke", log_unread="no access"), "restarts": 2},
        "fetch": {"container": FETCHER, "end": ContainerEnd(3, None, "Error", RESULT), "restarts": 1},
        "evicted": {"phase": "Failed", "failure": "Evicted", "failure_message": "disk"},
        "odd end": {"phase": "Failed", "failure": "what is this", "failure_message": ""},
        "old": {"inputs": "0123456789", "running": True, "ready": True},
        "ending": {"deleting": True},
    }


def _observed(of: LLMDeployment) -> Iterator[tuple[str, Observed]]:
    yield "nothing", Observed()
    yield "applied", applied(of)
    served, there = serving(of), applied(of, **ONE)
    yield "serving", replace(served, pods=(pod(of, running=True, ready=True),))
    for name, fields in _pods(of).items():
        yield name, replace(there, pods=(pod(of, **fields),))
    waits, hopeless = (pod(of, name="a", unschedulable="0/1 nodes"), pod(of, name="b", end=KILLED, restarts=3))
    yield "two ill", replace(there, pods=(waits, hopeless))
    yield "rolling", replace(there, pods=(waits, pod(of, name="b", deleting=True)))
    for name, kind, status, reason, message in (
        ("quota", "ReplicaFailure", "True", "FailedCreate", "exceeded quota: gpus"),
        ("refused", "ReplicaFailure", "True", "FailedCreate", "something else"),
        ("late", "Progressing", "False", "ProgressDeadlineExceeded", "late"),
    ):
        yield name, _with(there, conditions={kind: ChildCondition(status, reason, message)})
    yield "paused", _with(there, paused=True)
    page = replace(served, chat_pods=(pod(of, name="page", waiting_reason="ErrImagePull", waiting_message="no"),))
    yield "page without image", page
    died = pod(of, name="page", end=ContainerEnd(2, None, "Error", "first\nlast"), restarts=1)
    yield "page died", replace(served, chat_pods=(died,))


def _with(observed: Observed, **fields: Any) -> Observed:
    child = observed.children.get(("Deployment", "engine"))
    if child is None:
        return observed
    return replace(observed, children={**observed.children, ("Deployment", "engine"): replace(child, **fields)})


def _plans(of: LLMDeployment) -> dict[str, Any]:
    known = Known(ModelFacts(shape("llama-3.1-8b"), COMMIT))
    none = facts(of)
    big, small = Known(card(80, 8, (9, 0))), Known(card(4, 1, (9, 0)))
    return {
        "no facts": none,
        "reading": replace(none, hub=Pending("ReadingModel", "the model is being read")),
        "away": replace(none, hub=Unknowable("HubUnreachable", "the hub does not answer"), gpu=big),
        "failed": replace(none, hub=Pending("HubUnreachable", "no answer yet", failed=True), gpu=big),
        "fits": replace(none, hub=known, gpu=big),
        "does not fit": replace(none, hub=known, gpu=small, other_gpus="8 NVIDIA-L4"),
    }


def _snapshots() -> Iterator[tuple[str, Snapshot, Executed | None]]:
    objects = _objects()
    for name, of in objects.items():
        for (seen_as, observed), (plan, known) in product(_observed(of), _plans(of).items()):
            if plan == "no facts" or seen_as in ("nothing", "serving", "loading", "memory"):
                yield f"{name}, {seen_as}, {plan}", Snapshot(of, observed, known), None
    yield from _of_pipeline()
    yield from _of_sources()
    yield from _of_writes()
    home = ToolSettings(home="team")
    yield "beside the operator", Snapshot(objects["plain"], Observed(), facts(objects["plain"]), home), None


def _of_pipeline() -> Iterator[tuple[str, Snapshot, None]]:
    recipe = {"method": "AWQ"}
    for name, of in (("cached", cached()), ("quantized", cached(weightQuantization=recipe))):
        fetch = stages(of)["fetch"]
        worlds = {
            "no Job": seen(),
            "no claim": Observed(claims={"models": None}),
            "claim ends": seen(models=replace(CLAIM, deleting=True)),
            "foreign claim": seen(models=replace(CLAIM, labelled=False)),
            "fetching": seen(job(fetch, pod(of, name="fetch-0", running=True))),
            "waits": seen(job(fetch, pod(of, name="fetch-0", unschedulable="0/3 nodes are available: 3 taints"))),
            "image": seen(job(fetch, pod(of, waiting_reason="ImagePullBackOff", waiting_message="gone"))),
            "gated": seen(failed(fetch, "ModelGated")),
            "killed": seen(replace(failed(fetch, "ModelGated"), pods=(pod(of, end=KILLED),))),
            "failed": seen(job(fetch, condition="Failed")),
            "refused": seen(replace(job(fetch), refused="violates PodSecurity")),
            "fetched": seen(done(fetch, fetched())),
            "damaged": seen(replace(done(fetch, fetched()), damaged="a hash differs")),
            "elsewhere": seen(done(fetch, fetched(directory="models/other"))),
        }
        if "quantize" in stages(of):
            quantize = stages(of)["quantize"]
            worlds["quantizing"] = seen(done(fetch, fetched()), job(quantize))
            worlds["quantized"] = seen(done(fetch, fetched()), done(quantize, quantized()))
            worlds["not quantized"] = seen(done(fetch, fetched()), failed(quantize, "QualityTooLow"))
        for world, observed in worlds.items():
            yield f"{name}, {world}", Snapshot(of, observed, facts(of), TOOLS), None
    of = cached()
    yield "cached, no tools", Snapshot(of, seen(), facts(of)), None


def _of_sources() -> Iterator[tuple[str, Snapshot, None]]:
    of = resource()
    ready = pod(of, running=True, ready=True)
    served = Snapshot(of, replace(serving(of), pods=(ready,)), facts(of))
    at = AT.timestamp()
    busy = Sample(at, 1.0, 4.0, 10.0, 0.99)
    for name, vitals in (
        ("works", Vitals(busy, at)),
        ("silent", Vitals(busy, at - 1000)),
        ("queue", Vitals(busy, at, at - 1000, 2.0)),
    ):
        yield f"engine: {name}", replace(served, vitals={identity(ready): Seen(ready.name, vitals)}), None
    closed = {identity(ready): Seen(ready.name, closed="its port is closed")}
    yield "engine: closed", replace(served, vitals=closed), None
    loads = Snapshot(of, replace(applied(of, **ONE), pods=(pod(of, running=True),)), facts(of))
    reading = ProgressStatus(stage="Reading weights", summary="Reading weights 10 %", percent=10)
    for name, start in (
        ("reading", (Start("demo-1", "", at, reading), False)),
        ("stuck", (Start("demo-1", "", at, reading), True)),
        ("waiting for each other", (Start("demo-1", "", at, waits="check the links"), True)),
        ("silent", (Start("demo-1", "", at), True)),
        ("unseen", (Start("demo-1", "", at, unseen="not allowed"), False)),
    ):
        yield f"start: {name}", replace(loads, start=start), None


def _of_writes() -> Iterator[tuple[str, Snapshot, Executed]]:
    of = resource(webUI={})
    troubles = {
        "write": write_refused("Deployment", "demo", "no"),
        "deletion": deletion_refused("Service", "demo", "no"),
        "namespace": namespace_goes("team"),
        "image volumes": without_image_volumes(),
    }
    for world, observed in (("nothing", Observed()), ("serving", serving(of))):
        snapshot = Snapshot(of, observed, facts(of))
        decision = evaluate(snapshot, AT).decision
        drifts = [
            Problem("ForeignFields", f"Service 'demo': .spec.ports[{port}] cannot be removed", "Warning")
            for port in range(7)
        ]
        for most in (1, 7):
            yield f"{most} drifted, {world}", snapshot, Executed(decision, drift=tuple(drifts[:most]))
        for name, trouble in troubles.items():
            yield f"refused {name}, {world}", snapshot, Executed(decision, {"engine": trouble, "chat": trouble})
            done_ = replace(decision, applies=(), deletes=())
            yield f"refused {name}, only the page, {world}", snapshot, Executed(done_, {"chat": trouble})


def _statuses() -> Iterator[tuple[str, LLMDeploymentStatus]]:
    for name, snapshot, executed in _snapshots():
        outcome = evaluate(snapshot, AT)
        yield name, status_after(snapshot, outcome, executed or Executed(outcome.decision), None, NOW)


def _text(statuses: Mapping[str, LLMDeploymentStatus]) -> str:
    lines: dict[str, int] = {}
    entries = []
    for name, status in statuses.items():
        said = [f"{one.type} {one.status} {one.reason}: {_without_numbers(one.message)}" for one in status.conditions]
        numbers = [str(lines.setdefault(line, len(lines) + 1)) for line in said]
        entries.append(f"{name} = {' '.join(numbers)}")
    return "\n".join([*(f"{number}. {line}" for line, number in lines.items()), "", *entries, ""])


def _without_numbers(message: str) -> str:
    """A plan's own words are the planner's tests'."""
    return "(a plan)" if "GiB" in message else message


def test_every_condition_is_as_it_was() -> None:
    statuses = dict(_statuses())
    text = _text(statuses)
    if os.environ.get("LLM_OPERATOR_WRITE_GOLDEN") == "yes":
        RECORD.write_text(text)
    assert len(statuses) > 700
    assert len({entry.reason for status in statuses.values() for entry in status.conditions}) > 50
    assert text == RECORD.read_text(), "meant? then LLM_OPERATOR_WRITE_GOLDEN=yes, and look at the difference"


def test_no_snapshot_is_changed_by_what_is_decided_on_it() -> None:
    """Children, Jobs and templates in it are the cache's own: what changes one changes what others decide on."""
    for name, snapshot, executed in islice(_snapshots(), 0, None, 7):
        before = repr(snapshot)
        outcome = evaluate(snapshot, AT)
        left = executed or Executed(outcome.decision)
        status = status_after(snapshot, outcome, left, None, NOW)
        assert repr(snapshot) == before, name
        assert evaluate(snapshot, AT) == outcome, name
        assert status_after(snapshot, outcome, left, None, NOW) == status, name
