"""Whatever an overlay says: it is refused, or what the operator owns of the pod is as it was without it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from llm_operator.api import API_VERSION, KIND, InvalidResource
from llm_operator.api.overlay_owned import INIT_CONTAINERS, OverlayChild
from llm_operator.api.resource import LLMDeployment
from llm_operator.manifests.chat_page import chat_page
from llm_operator.manifests.common import LABEL_INPUTS
from llm_operator.manifests.overlay import FIELDS, check_overlay
from tests.support.overlays import pod_overlays
from tests.support.rendered import TOOLS, children_of, jobs_of, manifests

JSON = dict[str, Any]
EXAMPLES = 100
# The hub's endpoint and the proxies are defaults of the chart: an overlay may say others.
PLAIN = replace(TOOLS, environment={})
ENGINES: dict[str, JSON] = {
    "vllm": {"engine": {"type": "VLLM"}},
    "lmdeploy": {"engine": {"type": "LMDeploy"}, "cache": {"claimName": "models"}},
}
PROBES = {
    "startupProbe": ("failureThreshold", "periodSeconds", "timeoutSeconds", "successThreshold"),
    "readinessProbe": ("failureThreshold", "periodSeconds", "timeoutSeconds", "successThreshold"),
    "livenessProbe": ("failureThreshold", "periodSeconds", "timeoutSeconds", "successThreshold"),
}


def parsed(engine: JSON, child: OverlayChild, overlay: JSON | None) -> LLMDeployment:
    spec: JSON = {"model": {"huggingFace": {"repository": "a/b"}}, "webUI": {}, **engine}
    if overlay is not None:
        *parents, last = FIELDS[child].split(".")[1:]
        holder = spec
        for name in parents:
            holder = holder.setdefault(name, {})
        holder[last] = overlay
    return LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}, "spec": spec})


def template_of(resource: LLMDeployment, child: OverlayChild) -> JSON:
    if child == "tool":
        job: JSON = jobs_of(resource, PLAIN)[-1]["spec"]["template"]
        return job
    template: JSON = children_of(resource, PLAIN)[0]["spec"]["template"]
    if child == "engine":
        return template
    assert resource.spec.web_ui is not None
    page = chat_page(resource, resource.spec.web_ui, template, {"type": "VLLM", "version": "1"}, PLAIN)
    chat: JSON = page[0]["spec"]["template"]
    return chat


def owned_container(container: JSON) -> JSON:
    """What of a container of the operator's no overlay may change."""
    kept = ("name", "image", "command", "args", "ports", "terminationMessagePolicy")
    probes = {
        name: {field: value for field, value in container[name].items() if field not in free}
        for name, free in PROBES.items()
        if name in container
    }
    # A probe that says nothing but its times has no handler, and the API server refuses it.
    probes = {name: said for name, said in probes.items() if said}
    amounts = container.get("resources") or {}
    gpus = [(amounts.get(bound) or {}).get("nvidia.com/gpu") for bound in ("requests", "limits")]
    return {name: container.get(name) for name in kept} | probes | {"gpus": gpus, "stop": stop_of(container)}


def stop_of(container: JSON) -> Any:
    return (container.get("lifecycle") or {}).get("preStop")


def assert_owned_parts_are_as_they_were(before: JSON, after: JSON, child: OverlayChild) -> None:
    ours, theirs = before["spec"], after["spec"]
    pod: tuple[str, ...] = (
        "restartPolicy",
        "nodeSelector",
        "tolerations",
        "automountServiceAccountToken",
        "enableServiceLinks",
    )
    if child == "engine":
        pod += ("terminationGracePeriodSeconds", "serviceAccountName", "priorityClassName", "runtimeClassName")
    if child != "chat":
        assert [theirs.get(name) for name in pod] == [ours.get(name) for name in pod]
    labels = {key: value for key, value in before["metadata"]["labels"].items() if key != LABEL_INPUTS}
    assert labels.items() <= after["metadata"]["labels"].items()
    assert before["metadata"].get("annotations", {}).items() <= after["metadata"].get("annotations", {}).items()
    for kind in ("containers", "initContainers"):
        found = {container["name"]: container for container in theirs.get(kind) or []}
        for container in ours.get(kind) or []:
            other = found[container["name"]]
            assert owned_container(other) == owned_container(container)
            for list_name, key in (("env", "name"), ("volumeMounts", "mountPath")):
                entries = {entry[key]: entry for entry in other.get(list_name) or []}
                for entry in container.get(list_name) or []:
                    assert entries[entry[key]] == entry
    volumes = {volume["name"]: volume for volume in theirs["volumes"]}
    assert all(volumes[volume["name"]] == volume for volume in ours["volumes"])
    terms = (((ours.get("affinity") or {}).get("podAffinity")) or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if terms:
        kept = theirs["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert all(term in kept for term in terms)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("child", FIELDS)
def test_owned_parts_never_change(engine: str, child: OverlayChild) -> None:
    fields = ENGINES["lmdeploy" if child == "tool" else engine]
    before = template_of(parsed(fields, child, None), child)
    verdicts: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )  # fmt: skip
    @given(pod_overlays())
    def judge(overlay: JSON) -> None:
        try:
            resource = parsed(fields, child, overlay)
        except InvalidResource:
            verdicts["at admission"] += 1
            return
        if check_overlay(resource.spec, child):
            verdicts["refused"] += 1
            return
        verdicts["merged"] += 1
        assert_owned_parts_are_as_they_were(before, template_of(resource, child), child)

    judge()
    assert all(verdicts[word] for word in ("at admission", "refused", "merged")), verdicts


def test_no_overlay_names_a_container_that_is_not_there() -> None:
    """A container or init container of the operator's that another setting brings stays reserved without it."""
    for child, names in INIT_CONTAINERS.items():
        for name in names:
            overlay = {"spec": {"containers": [{"name": name, "image": "a"}]}}
            (refusal,) = check_overlay(parsed(ENGINES["vllm"], child, overlay).spec, child)
            assert refusal.field.endswith(".spec.containers[0].name")


def parts_of(template: JSON) -> list[tuple[str, JSON]]:
    """Overlays that each name one part of a template as its own, with what the part is."""
    spec = template["spec"]
    found: list[tuple[str, JSON]] = [
        (f"volume {volume['name']}", {"volumes": [{"name": volume["name"], "hostPath": {"path": "/"}}]})
        for volume in spec.get("volumes") or []
    ]
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or []:
            for mount in container.get("volumeMounts") or []:
                for path in (mount["mountPath"], mount["mountPath"] + "/", "/." + mount["mountPath"]):
                    given = {"name": container["name"], "volumeMounts": [{"name": "own", "mountPath": path}]}
                    found.append((f"mount {path} of {container['name']}", {kind: [given]}))
            for variable in container.get("env") or []:
                given = {"name": container["name"], "env": [{"name": variable["name"], "value": "x"}]}
                found.append((f"variable {variable['name']} of {container['name']}", {kind: [given]}))
    return [(name, {"spec": part}) for name, part in found]


@pytest.mark.parametrize("name", manifests())
@pytest.mark.parametrize("child", FIELDS)
def test_every_part_that_is_rendered_is_refused_by_its_name(name: str, child: OverlayChild) -> None:
    document = manifests()[name]
    document["spec"].setdefault("webUI", {})
    resource = LLMDeployment.parse(document)
    if child == "tool" and not jobs_of(resource, PLAIN):
        return
    templates = (
        [job["spec"]["template"] for job in jobs_of(resource, PLAIN)]
        if child == "tool"
        else [template_of(resource, child)]
    )
    for part, overlay in [entry for template in templates for entry in parts_of(template)]:
        changed = resource.spec.model_copy(update=updated(resource, child, overlay))
        assert check_overlay(changed, child), f"{part} may be replaced"


def updated(resource: LLMDeployment, child: OverlayChild, overlay: JSON) -> JSON:
    if child == "engine":
        return {"pod_template": overlay}
    holder = "tools" if child == "tool" else "web_ui"
    return {holder: getattr(resource.spec, holder).model_copy(update={"pod_template": overlay})}
