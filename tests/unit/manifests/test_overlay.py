"""podTemplate: what is merged, and what is refused by the name of its field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_operator.api import API_VERSION, KIND, InvalidResource
from llm_operator.api.overlay_owned import OverlayChild
from llm_operator.api.resource import LLMDeployment
from llm_operator.engines import engine_of
from llm_operator.engines.registry import ENGINES
from llm_operator.manifests.common import container_of
from llm_operator.manifests.overlay import check_overlay, in_words_of_overlay
from tests.support.rendered import children_of, jobs_of

JSON = dict[str, Any]


def parsed(overlay: JSON | None = None, tools: JSON | None = None, **spec: Any) -> LLMDeployment:
    more = {"podTemplate": overlay} if overlay is not None else {}
    more |= {"tools": {"podTemplate": tools}} if tools is not None else {}
    body = {"model": {"huggingFace": {"repository": "a/b"}}, "engine": {"type": "VLLM"}, **spec, **more}
    return LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}, "spec": body})


def template_of(resource: LLMDeployment) -> JSON:
    assert check_overlay(resource.spec, "engine") == ()
    template: JSON = children_of(resource)[0]["spec"]["template"]
    return template


def engine(**fields: Any) -> JSON:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


def fetcher(**fields: Any) -> JSON:
    return {"spec": {"initContainers": [{"name": "fetch", **fields}]}}


@pytest.mark.parametrize(
    "overlay", [{}, {"spec": None}, {"spec": {}}, {"metadata": {"labels": {}, "annotations": {}}, "spec": {}}]
)
def test_an_overlay_that_says_nothing_changes_nothing(overlay: JSON) -> None:
    """Not even the hash of the inputs, by which pods are replaced."""
    assert children_of(parsed(overlay)) == children_of(parsed())


def test_lists_are_merged_by_their_keys() -> None:
    overlay = {
        "metadata": {"labels": {"team": "a"}, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
        "spec": {
            "schedulerName": "volcano",
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}],
            "volumes": [{"name": "certificates", "configMap": {"name": "certificates"}}],
            "containers": [
                {"name": "proxy", "image": "proxy:1"},
                {
                    "name": "engine",
                    "imagePullPolicy": "Always",
                    "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "envFrom": [{"configMapRef": {"name": "settings"}}],
                    "volumeMounts": [{"name": "certificates", "mountPath": "/etc/certificates"}],
                    "resources": {"limits": {"rdma/ib": 1, "nvidia.com/gpumem": 1000}},
                    "livenessProbe": {"failureThreshold": 30},
                    "securityContext": {"runAsUser": 1000},
                },
            ],
        },
    }
    before, after = template_of(parsed()), template_of(parsed(overlay))
    assert after["metadata"]["labels"].items() >= {"team": "a"}.items()
    assert [container["name"] for container in after["spec"]["containers"]] == ["proxy", "engine"]
    assert after["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "engine"
    ours, given = container_of(before, "engine"), container_of(after, "engine")
    assert given["args"] == ours["args"]
    assert [entry["name"] for entry in given["env"]] == [
        "POD_IP", *(entry["name"] for entry in ours["env"]), *engine_of("VLLM").modes_off,
    ]  # fmt: skip
    assert given["resources"]["limits"] == {"nvidia.com/gpu": "1", "rdma/ib": 1, "nvidia.com/gpumem": 1000}
    assert given["livenessProbe"] == {**ours["livenessProbe"], "failureThreshold": 30}
    assert given["securityContext"] == {**ours["securityContext"], "runAsUser": 1000}
    assert after["spec"]["volumes"] == [overlay["spec"]["volumes"][0], *before["spec"]["volumes"]]  # type: ignore[index]


@pytest.mark.parametrize("source", [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "a"}, "prefix": "VLLM_"}])
def test_variables_from_a_reference_open_no_mode_that_is_refused_by_name(source: JSON) -> None:
    """The kubelet lets a container's own variables win over those of envFrom."""
    variables = {entry["name"]: entry.get("value") for entry in own_variables(parsed(engine(envFrom=[source])))}
    modes = engine_of("VLLM").modes_off
    assert {"VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_USE_RUST_FRONTEND"} <= modes.keys()
    assert modes.items() <= variables.items()
    assert not modes.keys() & {entry["name"] for entry in own_variables(parsed(engine(imagePullPolicy="Always")))}
    for one in ENGINES.values():
        assert one.modes_off.keys() <= one.owned_variables.keys(), "and each is refused where it is said by name"


def own_variables(resource: LLMDeployment) -> list[JSON]:
    variables: list[JSON] = template_of(resource)["spec"]["containers"][0]["env"]
    return variables


def test_a_given_spread_replaces_the_fixed_one() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    template = template_of(parsed({"spec": {"topologySpreadConstraints": [spread]}}))
    assert template["spec"]["topologySpreadConstraints"] == [spread]


def test_pods_of_a_claim_of_one_node_stay_together_beside_another_affinity() -> None:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
    overlay = {"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}}
    spec = template_of(parsed(overlay, cache={"claimName": "models"}))["spec"]
    terms = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [entry["topologyKey"] for entry in terms] == ["kubernetes.io/hostname", "zone"]


def test_a_directive_replaces_the_whole_of_an_object() -> None:
    overlay = {"spec": {"securityContext": {"$patch": "replace", "runAsUser": 1000}}}
    assert template_of(parsed(overlay))["spec"]["securityContext"] == {"runAsUser": 1000}


def test_the_jobs_have_an_overlay_of_their_own_which_restarts_no_engine() -> None:
    tools = {"metadata": {"labels": {"queue": "batch"}}}
    with_tools, without = parsed(None, tools, cache={"claimName": "models"}), parsed(cache={"claimName": "models"})
    assert [job["spec"]["template"]["metadata"]["labels"]["queue"] for job in jobs_of(with_tools)] == ["batch"]
    assert children_of(with_tools) == children_of(without)
    assert children_of(parsed({"metadata": {"labels": {"a": "b"}}})) != children_of(parsed())


def sidecar(**fields: Any) -> JSON:
    return {"spec": {"containers": [{"name": "a", "image": "a", **fields}]}}


def mounted(path: str, **fields: Any) -> JSON:
    return engine(volumeMounts=[{"name": "own", "mountPath": path, **fields}])


HIDDEN = (
    *("/models", "models", "/models/", "//models", "/models/.", "/cache/../models", "/tmp/../models/x"),
    *("/run/shm", "/var/run/shm/", "/var/run/../run/shm/x"),
    *("/dev/shm/", "/dev", "/dev/./shm", "/", "/..", "/cache", "/cache/", "/cache/x/..", "/guard", "/trust", "/tmp"),
)


@pytest.mark.parametrize("path", HIDDEN)
@pytest.mark.parametrize("field", [{}, {"subPath": "x"}, {"readOnly": True}])
def test_no_spelling_of_a_path_hides_what_the_operator_mounts(path: str, field: JSON) -> None:
    (refusal,) = check_overlay(parsed(mounted(path, **field)).spec, "engine")
    assert refusal.field == "spec.podTemplate.spec.containers[0].volumeMounts[0].mountPath"
    (refusal,) = check_overlay(parsed(engine(volumeDevices=[{"name": "a", "devicePath": path}])).spec, "engine")
    assert refusal.field == "spec.podTemplate.spec.containers[0].volumeDevices[0].devicePath"


@pytest.mark.parametrize("path", ["/proc", "/proc/self/root/models", "/sys/fs/cgroup"])
def test_no_volume_is_mounted_where_no_runtime_takes_one(path: str) -> None:
    (refusal,) = check_overlay(parsed(mounted(path)).spec, "engine")
    assert (refusal.field, refusal.reason) == (
        "spec.podTemplate.spec.containers[0].volumeMounts[0].mountPath",
        "ConflictingPodTemplate",
    )


@pytest.mark.parametrize(
    "path", ["/cache/x", "/model", "/modelsx", "/dev/infiniband", "/etc/own", "/cachex", "/tmp/x", "/var/run/x"]
)
def test_other_paths_are_free(path: str) -> None:
    assert check_overlay(parsed(mounted(path)).spec, "engine") == ()
    assert check_overlay(parsed(sidecar(volumeMounts=[{"name": "model", "mountPath": "/models"}])).spec, "engine") == ()


def test_entries_that_differ_in_one_of_their_keys_stay_apart() -> None:
    ports = [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]
    spreads = [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}, {**SPREAD, "maxSkew": 2}]
    overlay = sidecar(ports=ports)
    overlay["spec"]["topologySpreadConstraints"] = spreads
    spec = template_of(parsed(overlay))["spec"]
    assert spec["containers"][0]["ports"] == ports
    assert spec["topologySpreadConstraints"] == spreads


REMOVALS: dict[str, JSON] = {
    "the volumes": {"spec": {"volumes": None}},
    "all volumes but one": {"spec": {"volumes": [{"$patch": "replace"}, {"name": "own", "emptyDir": {}}]}},
    "a volume": {"spec": {"volumes": [{"name": "shm", "$patch": "delete"}]}},
    "all containers but one": {"spec": {"containers": [{"$patch": "replace"}, {"name": "own", "image": "a"}]}},
    "the engine": engine(**{"$patch": "delete"}),
    "most of the engine": engine(**{"$retainKeys": ["name"]}),
    "the init containers": {"spec": {"initContainers": None}},
    "an init container": fetcher(**{"$patch": "delete"}),
    "most of the pod": {"spec": {"$retainKeys": ["dnsPolicy"], "dnsPolicy": "Default"}},
    "the pod": {"spec": {"$patch": "replace"}},
    "the template": {"$patch": "delete"},
    "labels": {"metadata": {"labels": {"$patch": "replace", "a": "b"}}},
    "annotations": {"metadata": {"annotations": {"$patch": "delete"}}},
    "a label that goes with the others": {"metadata": {"$retainKeys": ["labels"], "labels": {"a": "b"}}},
    "variables": engine(env=None),
    "all variables but one": engine(env=[{"$patch": "replace"}, {"name": "A", "value": "b"}]),
    "a variable": engine(env=[{"name": "HF_HOME", "$patch": "delete"}]),
    "mounts": engine(volumeMounts=None),
    "all mounts but one": engine(volumeMounts=[{"$patch": "replace"}, {"name": "own", "mountPath": "/own"}]),
    "a mount": engine(volumeMounts=[{"mountPath": "/models", "$patch": "delete"}]),
    "resources": engine(resources=None),
    "limits": engine(resources={"limits": None}),
    "all limits but one": engine(resources={"limits": {"$patch": "replace", "rdma/ib": 1}}),
    "most of resources": engine(resources={"$retainKeys": ["claims"], "claims": []}),
    "the number of GPUs": engine(resources={"limits": {"nvidia.com/gpu": None}}),
    "memory": engine(resources={"requests": {"memory": None}}),
    "a probe": engine(livenessProbe=None),
    "a probe's path": engine(livenessProbe={"httpGet": None}),
    "all of a probe but its times": engine(livenessProbe={"$patch": "replace", "periodSeconds": 3}),
    "hooks": engine(lifecycle=None),
    "a hook": engine(lifecycle={"preStop": None}),
    "most hooks": engine(lifecycle={"$patch": "replace", "postStart": {"exec": {"command": ["true"]}}}),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_what_the_operator_needs_is_not_removed(name: str) -> None:
    refusals = check_overlay(parsed(REMOVALS[name]).spec, "engine")
    assert refusals
    assert {refusal.reason for refusal in refusals} == {"ConflictingPodTemplate"}
    assert all(refusal.field.startswith("spec.podTemplate.") and refusal.message for refusal in refusals)


@pytest.mark.parametrize("child", ["tool", "chat"])
@pytest.mark.parametrize(
    "name", ["the volumes", "all variables but one", "mounts", "limits", "most of the pod", "the engine"]
)
def test_what_other_pods_need_is_not_removed_either(name: str, child: OverlayChild) -> None:
    text = json.dumps(REMOVALS[name]).replace('"engine"', f'"{child}"')
    overlay = json.loads(text)
    resource = parsed(tools=overlay) if child == "tool" else parsed(webUI={"podTemplate": overlay})
    (refusal, *_) = check_overlay(resource.spec, child)
    assert refusal.reason == "ConflictingPodTemplate"


def test_a_null_deletes_a_default_of_the_operator() -> None:
    """A platform that chooses the user, as OpenShift does, wants none said."""
    template = template_of(parsed({"spec": {"securityContext": {"runAsUser": None, "runAsGroup": None}}}))
    assert template["spec"]["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}
    assert "topologySpreadConstraints" not in template_of(parsed({"spec": {"topologySpreadConstraints": None}}))["spec"]


SPREAD = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
REFUSED: dict[str, tuple[JSON, str]] = {
    "two of one name": (
        {"spec": {"containers": [{"name": "a", "image": "a"}, {"name": "a", "image": "b"}]}},
        ".spec.containers[1].name",
    ),
    "two ports of one number": (
        sidecar(ports=[{"containerPort": 53}, {"containerPort": 53, "protocol": "TCP"}]),
        ".spec.containers[0].ports[1].containerPort",
    ),
    "two constraints of one kind": (
        {"spec": {"topologySpreadConstraints": [{**SPREAD, "maxSkew": 1}, {**SPREAD, "maxSkew": 2}]}},
        ".spec.topologySpreadConstraints[1].topologyKey",
    ),
    "two aliases of one address": (
        {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}, {"ip": "10.0.0.1", "hostnames": ["b"]}]}},
        ".spec.hostAliases[1].ip",
    ),
    "two variables of one name": (
        engine(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        ".spec.containers[0].env[1].name",
    ),
    "an unknown directive": (engine(securityContext={"$patch": "merge"}), ".securityContext.$patch"),
    "a directive that does not exist": (engine(securityContext={"$remove": ["a"]}), ".securityContext.$remove"),
    "an order of a list without keys": (engine(**{"$setElementOrder/args": []}), ".$setElementOrder/args"),
    "an order that leaves one out": (
        {"spec": {"$setElementOrder/volumes": [], "volumes": [{"name": "a", "emptyDir": {}}]}},
        ".$setElementOrder/volumes",
    ),
    "keys that leave one out": (
        {"spec": {"dnsConfig": {"$retainKeys": ["searches"], "options": []}}},
        ".dnsConfig.$retainKeys",
    ),
    "a directive in a list without keys": (
        {"spec": {"schedulingGates": [{"name": "a"}], "hostAliases": [{"hostnames": ["x"]}]}},
        ".spec.hostAliases[0]",
    ),
    "a probe that asks nothing": (sidecar(startupProbe={"periodSeconds": 5}), ".spec.containers[0].startupProbe"),
    "a probe that asks twice": (
        sidecar(livenessProbe={"tcpSocket": {"port": 1}, "grpc": {"port": 1}}),
        ".spec.containers[0].livenessProbe",
    ),
    "a hook that does nothing": (sidecar(lifecycle={"postStart": {}}), ".spec.containers[0].lifecycle.postStart"),
    "the engine's hook does nothing": (engine(lifecycle={"postStart": {}}), ".containers[0].lifecycle.postStart"),
    "a probe of an init container": (
        fetcher(readinessProbe={"periodSeconds": 5}),
        ".spec.initContainers[0].readinessProbe",
    ),
    "unknown field": ({"spec": {"afinity": {}}}, ".spec.afinity"),
    "unknown field of a container": (engine(imagePulPolicy="Always"), ".spec.containers[0].imagePulPolicy"),
    "wrong kind": ({"spec": {"volumes": {"name": "a"}}}, ".spec.volumes"),
    "command of an init container": (fetcher(command=["sh"]), ".spec.initContainers[0].command"),
    "image of an init container": (fetcher(image="other:1"), ".spec.initContainers[0].image"),
    "text for a number": (engine(livenessProbe={"failureThreshold": "3"}), ".spec.containers[0].livenessProbe"),
    "entry without its key": ({"spec": {"containers": [{"image": "a"}]}}, ".spec.containers[0]"),
    "variable": (engine(env=[{"name": "HF_HOME", "value": "/x"}]), ".spec.containers[0].env[0].name"),
    "device": (engine(env=[{"name": "CUDA_VISIBLE_DEVICES", "value": "1"}]), ".spec.containers[0].env[0].name"),
    "gpus": (engine(resources={"limits": {"nvidia.com/gpu": 8}}), ".spec.containers[0].resources.limits"),
    "path of a probe": (engine(readinessProbe={"httpGet": {"path": "/", "port": 1}}), ".readinessProbe.httpGet"),
    "drain": (engine(lifecycle={"preStop": {"sleep": {"seconds": 0}}}), ".lifecycle.preStop"),
    "replacing the engine": (engine(**{"$patch": "replace"}), ".spec.containers[0].$patch"),
    "removing the engine": (engine(**{"$patch": "delete"}), ".spec.containers[0].$patch"),
    "model": (engine(volumeMounts=[{"name": "a", "mountPath": "/models/"}]), ".volumeMounts[0].mountPath"),
    "below the model": (engine(volumeMounts=[{"name": "a", "mountPath": "/models/x"}]), ".volumeMounts[0].mountPath"),
    "shared memory": (engine(volumeMounts=[{"name": "a", "mountPath": "/dev/../dev//shm"}]), ".volumeMounts[0]"),
    "above shared memory": (engine(volumeMounts=[{"name": "a", "mountPath": "/dev"}]), ".volumeMounts[0]"),
    "cache": (engine(volumeMounts=[{"name": "a", "mountPath": "/cache"}]), ".volumeMounts[0].mountPath"),
    "root": (engine(volumeMounts=[{"name": "a", "mountPath": "/"}]), ".volumeMounts[0].mountPath"),
    "volume's name": ({"spec": {"volumes": [{"name": "shm", "emptyDir": {}}]}}, ".spec.volumes[0].name"),
    "shared gpus": (engine(resources={"limits": {"nvidia.com/gpu.shared": 1}}), ".limits[nvidia.com/gpu.shared]"),
    "a part of a gpu": (sidecar(resources={"limits": {"nvidia.com/mig-1g.5gb": 1}}), ".limits[nvidia.com/mig-1g.5gb]"),
    "priority": ({"spec": {"priority": 2_000_001_000}}, ".spec.priority"),
    "preemption": ({"spec": {"preemptionPolicy": "Never"}}, ".spec.preemptionPolicy"),
    "overhead": ({"spec": {"overhead": {"cpu": "1"}}}, ".spec.overhead"),
    "another system": ({"spec": {"os": {"name": "windows"}}}, ".spec.os"),
    "port of a sidecar": (
        {"spec": {"containers": [{"name": "a", "image": "a", "ports": [{"containerPort": 8000}]}]}},
        ".spec.containers[0].ports[0].containerPort",
    ),
    "port's name of a sidecar": (
        {"spec": {"initContainers": [{"name": "a", "image": "a", "ports": [{"containerPort": 1, "name": "http"}]}]}},
        ".spec.initContainers[0].ports[0].name",
    ),
    "gpu of a sidecar": (
        {"spec": {"containers": [{"name": "a", "image": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}},
        ".resources.limits[nvidia.com/gpu]",
    ),
    "init container named engine": ({"spec": {"initContainers": [{"name": "engine"}]}}, ".initContainers[0].name"),
    "name": ({"metadata": {"name": "x"}}, ".metadata.name"),
}

AT_ADMISSION: dict[str, tuple[JSON, str]] = {
    "command": (engine(command=["sh"]), ".spec.containers[0].command"),
    "args": (engine(args=["--port=1"]), ".spec.containers[0].args"),
    "image": (engine(image="other:1"), ".spec.containers[0].image"),
    "ports": (engine(ports=[{"containerPort": 9}]), ".spec.containers[0].ports"),
    "own label": ({"metadata": {"labels": {"llm-operator.dev/deployment": "x"}}}, ".metadata.labels"),
    "recommended label": ({"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}, ".metadata.labels"),
    "own annotation": ({"metadata": {"annotations": {"llm-operator.dev/model": "x"}}}, ".metadata.annotations"),
    "node selector": ({"spec": {"nodeSelector": {"a": "b"}}}, ".spec.nodeSelector"),
    "grace period": ({"spec": {"terminationGracePeriodSeconds": 1}}, ".spec.terminationGracePeriodSeconds"),
    "token": ({"spec": {"automountServiceAccountToken": True}}, ".spec.automountServiceAccountToken"),
    "container that is none": ({"spec": {"containers": ["engine"]}}, ".spec.containers[0]"),
    "name that is none": ({"spec": {"containers": [{"name": 1}]}}, ".spec.containers[0].name"),
    "label that is none": ({"metadata": {"labels": {"a": 1}}}, ".metadata.labels.a"),
}


@pytest.mark.parametrize("name", AT_ADMISSION)
def test_what_a_schema_can_reach_is_refused_at_admission(name: str) -> None:
    overlay, path = AT_ADMISSION[name]
    with pytest.raises(InvalidResource) as refused:
        parsed(overlay)
    ((field, message),) = refused.value.errors
    assert field == f"spec.podTemplate{path}"
    assert message


@pytest.mark.parametrize("field", ["tools", "webUI"])
def test_no_pods_have_a_priority_class_of_the_clusters_own(field: str) -> None:
    def given(name: str) -> LLMDeployment:
        overlay = {"spec": {"priorityClassName": name}}
        return parsed(tools=overlay) if field == "tools" else parsed(webUI={"podTemplate": overlay})

    for name in ("system-node-critical", "system-cluster-critical", "system-x"):
        with pytest.raises(InvalidResource) as refused:
            given(name)
        ((place, message),) = refused.value.errors
        assert place == f"spec.{field}.podTemplate.spec.priorityClassName"
        assert "classes that begin with system- are the cluster's own" in message
    given("batch")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_operator_owns_is_refused_by_name(name: str) -> None:
    overlay, path = REFUSED[name]
    (refusal,) = check_overlay(parsed(overlay).spec, "engine")
    assert refusal.field.startswith("spec.podTemplate.")
    assert path in refusal.field
    assert refusal.reason in ("InvalidPodTemplate", "ConflictingPodTemplate")
    assert refusal.message


def test_the_nearest_name_is_offered() -> None:
    (refusal,) = check_overlay(parsed({"spec": {"afinity": {}}}).spec, "engine")
    assert "did you mean affinity?" in refusal.message


@pytest.mark.parametrize("overlay", [{"metadata": {"annotations": {"a": "x" * 40_000}}}, {"spec": {}, "a": 1, "b": 2}])
def test_an_overlay_is_bounded(overlay: JSON) -> None:
    with pytest.raises(InvalidResource, match=r"spec\.podTemplate"):
        parsed(overlay)


def test_a_deep_overlay_is_refused_and_does_no_harm() -> None:
    deep: JSON = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidResource, match="levels"):
        parsed({"spec": deep})


def test_what_the_api_server_says_is_told_in_words_of_the_overlay() -> None:
    overlay = {"spec": {"containers": [{"name": "proxy"}], "dnsPolicy": "x"}}
    template = template_of(parsed(overlay))
    said = 'Deployment.apps "demo" is invalid: [spec.template.spec.containers[0].image: Required value, '
    said += "spec.template.spec.dnsPolicy: Unsupported value, spec.template.spec.containers[1].image: wrong]"
    said += " spec.template.labels: Invalid value, spec.template.annotations: too long"
    told = in_words_of_overlay(said, "spec.podTemplate", overlay, template)
    assert "spec.podTemplate.metadata.labels: Invalid" in told
    assert "spec.podTemplate.metadata.annotations: too long" in told
    assert "spec.podTemplate.spec.containers[0].image: Required" in told
    assert "spec.podTemplate.spec.dnsPolicy: Unsupported" in told
    assert "spec.template.spec.containers[1].image: wrong" in told
