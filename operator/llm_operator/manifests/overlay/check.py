"""What of an overlay is refused, by field: what no pod template has, and what the operator owns. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from llm_operator.api.overlay import without_nulls_inside
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import Refusal
from llm_operator.engines import lmdeploy as lmdeploy_engine
from llm_operator.engines import vllm as vllm_engine
from llm_operator.engines.common import (
    CACHE_PATH,
    CACHE_VARIABLES,
    DEVICE_VARIABLES,
    MODEL_MOUNT,
    PORT_NAME,
    token_name,
)
from llm_operator.manifests.common import JSON
from llm_operator.manifests.overlay.table import DIRECTIVE, Problem, problems

ENGINE = "engine"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the path that NCCL and vLLM open
PREFIX = "llm-operator.dev/"
_RECOMMENDED = tuple(
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "managed-by", "version", "component", "part-of")
)
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc")
_OWN_FIELD = "the operator sets it"


@dataclass(frozen=True, slots=True)
class Owned:
    """What belongs to the operator in the pods of one kind of child.

    Attributes:
        pod: fields of the pod's spec, each with what to use instead.
        containers: names of the operator's containers and init containers.
        volumes: names of its volumes.
        variables: names of its environment variables, each with the reason.
        paths: directories that it mounts, each with whether a mount below it hides a part of it.
        port: port that its container listens on; None where it listens on none.
        gpu: resource that counts the GPUs.
    """

    pod: Mapping[str, str]
    containers: frozenset[str]
    volumes: frozenset[str]
    variables: Mapping[str, str]
    paths: Mapping[str, bool]
    port: int | None
    gpu: str


_POD: Mapping[str, str] = {
    "nodeSelector": "use spec.nodeSelector",
    "tolerations": "use spec.tolerations",
    "imagePullSecrets": "use spec.imagePullSecrets",
    "restartPolicy": _OWN_FIELD,
    "enableServiceLinks": _OWN_FIELD,
    "nodeName": "the scheduler chooses the node: use spec.nodeSelector or affinity",
    "ephemeralContainers": "no pod template takes them: use `kubectl debug`",
}
_ENGINE_POD: Mapping[str, str] = {
    **_POD,
    "priorityClassName": "use spec.priorityClassName",
    "runtimeClassName": "use spec.runtimeClassName",
    "serviceAccountName": "use spec.serviceAccountName",
    "serviceAccount": "use spec.serviceAccountName",
    "automountServiceAccountToken": "it follows from spec.serviceAccountName",
    "terminationGracePeriodSeconds": "use spec.drainTimeoutSeconds",
    "activeDeadlineSeconds": "an engine has no end",
}
_TOOLS_POD: Mapping[str, str] = {
    **_POD,
    "automountServiceAccountToken": "the model tools need no token of the cluster",
    "activeDeadlineSeconds": _OWN_FIELD,
}
_CONTAINER: Mapping[str, str] = {
    "image": "use spec.engine.image; the model tools' image is a value of the chart",
    "command": _OWN_FIELD,
    "args": "the operator sets them: use spec.engine.extraArgs",
    "ports": "the operator sets them: a further port belongs to a further container",
    "restartPolicy": _OWN_FIELD,
    "terminationMessagePath": "the operator reads there why a container ended",
    "terminationMessagePolicy": "the operator reads there why a container ended",
}
_GIVEN_BY_RESOURCES = ("cpu", "memory", "ephemeral-storage")


def check_overlays(spec: LLMDeploymentSpec) -> tuple[Refusal, ...]:
    """Everything that is wrong with the overlays of an object, without a cluster; empty where there is none."""
    refusals: list[Refusal] = []
    for field, overlay, owned in (
        ("spec.podTemplate", spec.pod_template, _engine(spec)),
        ("spec.tools.podTemplate", spec.tools.pod_template, _tools(spec)),
    ):
        if overlay:
            refusals += check_overlay(field, without_nulls_inside(overlay), owned)
    return tuple(refusals)


def check_overlay(field: str, overlay: JSON, owned: Owned) -> list[Refusal]:
    """Everything that is wrong with one overlay.

    Args:
        field: its JSON path in the object.
        overlay: what the user gave.
        owned: what belongs to the operator.
    """
    malformed = [_refusal("InvalidPodTemplate", field, problem) for problem in problems(overlay)]
    if malformed:
        # What is not even a pod template has no parts that could belong to anybody.
        return malformed
    return [_refusal("ConflictingPodTemplate", field, problem) for problem in _conflicts(overlay, owned)]


def _refusal(reason: str, field: str, problem: Problem) -> Refusal:
    return Refusal(reason, f"{field}{problem.path}", problem.message)


def _engine(spec: LLMDeploymentSpec) -> Owned:
    engine = vllm_engine if spec.engine.type == "VLLM" else lmdeploy_engine
    variables = dict.fromkeys(CACHE_VARIABLES, "the operator sets it: the engine writes there")
    variables |= dict(DEVICE_VARIABLES) | dict(engine.OWNED_VARIABLES)
    variables |= dict.fromkeys(("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"), "use spec.engine.env")
    variables |= {variable.name: "spec.engine.env has a variable of that name" for variable in spec.engine.env}
    variables[token_name(spec.model)] = "use spec.model.credentials"
    return Owned(
        pod=_ENGINE_POD,
        containers=frozenset({ENGINE, "fetch", "trust"}),
        volumes=frozenset({"shm", "cache", "model", "scratch", "trust", "trust-bundle", "chat-template"}),
        variables=variables,
        # A volume below the cache is how one of its directories is kept between pods.
        paths={MODEL_MOUNT: True, SHARED_MEMORY: True, CACHE_PATH: False, "/tmp": False},  # noqa: S108
        port=engine.PORT,
        gpu=spec.gpu.resource_name,
    )


def _tools(spec: LLMDeploymentSpec) -> Owned:
    own = ("HOME", "HF_HOME", "MODELSCOPE_CACHE", "PYTHONPATH")
    variables = dict.fromkeys(own, "the operator sets it: the model tools write there")
    variables |= dict(DEVICE_VARIABLES)
    variables[token_name(spec.model)] = "use spec.model.credentials"
    paths = ("/models", "/source", "/tools", "/calibration", SHARED_MEMORY)
    return Owned(
        pod=_TOOLS_POD,
        containers=frozenset({"tool", "install", "trust"}),
        volumes=frozenset({"model", "source", "tools", "calibration", "shm", "tmp", "trust", "trust-bundle"}),
        variables=variables,
        paths={**dict.fromkeys(paths, True), "/tmp": False},  # noqa: S108
        port=None,
        gpu=spec.gpu.resource_name,
    )


def _conflicts(overlay: JSON, owned: Owned) -> Iterator[Problem]:
    for path, part in _directives(overlay):
        yield Problem(path, f"{part} holds what the operator needs, so that it cannot be replaced as a whole")
    yield from _metadata(overlay.get("metadata") or {})
    spec = overlay.get("spec") or {}
    for name in spec:
        if name in owned.pod:
            yield Problem(f".spec.{name}", f"not part of the overlay: {owned.pod[name]}; remove it here")
    for place, volume in enumerate(spec.get("volumes") or []):
        if volume["name"] in owned.volumes:
            text = f"the operator has a volume {volume['name']!r}: choose another name"
            yield Problem(f".spec.volumes[{place}].name", text)
    for kind in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(kind) or []):
            path = f".spec.{kind}[{place}]"
            if container["name"] in owned.containers:
                yield from _own_container(container, kind, path, owned)
            else:
                yield from _further_container(container, path, owned)


_WHOLE = {"": "the template", ".metadata": "metadata", ".spec": "spec"}


def _directives(overlay: JSON) -> Iterator[tuple[str, str]]:
    """Places where the whole of something would be replaced that the operator has parts in."""
    for path, part in (("", overlay), (".metadata", overlay.get("metadata")), (".spec", overlay.get("spec"))):
        if part and DIRECTIVE in part:
            yield f"{path}.{DIRECTIVE}", _WHOLE[path]
    spec = overlay.get("spec") or {}
    affinity = spec.get("affinity") or {}
    if DIRECTIVE in affinity:
        yield f".spec.affinity.{DIRECTIVE}", "affinity"
    for kind in ("initContainers", "containers", "volumes"):
        for place, entry in enumerate(spec.get(kind) or []):
            for name in ("", "resources", *_PROBES, "lifecycle"):
                part = entry if not name else entry.get(name)
                if isinstance(part, dict) and DIRECTIVE in part:
                    yield f".spec.{kind}[{place}]{'.' + name if name else ''}.{DIRECTIVE}", name or "it"


def _metadata(metadata: JSON) -> Iterator[Problem]:
    for name, value in metadata.items():
        if name not in ("labels", "annotations"):
            if name != DIRECTIVE:
                yield Problem(f".metadata.{name}", "only labels and annotations can be given: remove it")
            continue
        for key in value:
            if key.startswith(PREFIX) or (name == "labels" and key in _RECOMMENDED):
                yield Problem(f".metadata.{name}[{key}]", "the operator sets it: choose another key")


def _own_container(container: JSON, kind: str, path: str, owned: Owned) -> Iterator[Problem]:
    name = container["name"]
    if (name in (ENGINE, "tool")) != (kind == "containers"):
        yield Problem(f"{path}.name", f"the operator has a container {name!r} elsewhere: choose another name")
        return
    for field, instead in _CONTAINER.items():
        if field in container:
            yield Problem(f"{path}.{field}", f"not part of the overlay: {instead}; remove it here")
    for place, variable in enumerate(container.get("env") or []):
        if variable["name"] in owned.variables:
            text = f"{variable['name']}: {owned.variables[variable['name']]}; remove it here"
            yield Problem(f"{path}.env[{place}].name", text)
    yield from _hooks(container, path)
    for bound, resource in _amounts(container) if name == ENGINE else ():
        if resource in _GIVEN_BY_RESOURCES:
            yield Problem(f"{path}.resources.{bound}[{resource}]", f"use spec.resources.{bound}")
    yield from _gpus(container, path, owned)
    yield from _mounts(container, path, owned)


def _hooks(container: JSON, path: str) -> Iterator[Problem]:
    for probe in _PROBES:
        for handler in _HANDLERS:
            if handler in (container.get(probe) or {}):
                text = "the operator says what a probe asks; thresholds, periods and timeouts can be given"
                yield Problem(f"{path}.{probe}.{handler}", text)
    if "preStop" in (container.get("lifecycle") or {}):
        yield Problem(f"{path}.lifecycle.preStop", "requests are drained by it: use spec.drainTimeoutSeconds")


def _further_container(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    for place, port in enumerate(container.get("ports") or []):
        here = f"{path}.ports[{place}]"
        if owned.port is not None and port["containerPort"] == owned.port:
            yield Problem(f"{here}.containerPort", f"the engine listens on port {owned.port}: choose another port")
        if owned.port is not None and port.get("name") == PORT_NAME:
            text = f"the Service and the probes find the engine by the port's name {PORT_NAME!r}: choose another name"
            yield Problem(f"{here}.name", text)
    yield from _gpus(container, path, owned)


def _amounts(container: JSON) -> Iterator[tuple[str, str]]:
    for bound in ("requests", "limits"):
        for resource in (container.get("resources") or {}).get(bound) or {}:
            yield bound, resource


def _gpus(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    for bound, resource in _amounts(container):
        if resource == owned.gpu or resource.endswith("/gpu") or "/mig-" in resource:
            text = "the number of GPUs is spec.parallelism.tensor, their kind spec.gpu.resourceName; remove it here"
            yield Problem(f"{path}.resources.{bound}[{resource}]", text)


def _mounts(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    for place, mount in enumerate(container.get("volumeMounts") or []):
        given = _normal(mount["mountPath"])
        hidden = next((own for own, below in owned.paths.items() if _hides(given, own, below=below)), None)
        if hidden is not None:
            text = f"a volume there hides {hidden}, which the operator mounts: choose another path"
            yield Problem(f"{path}.volumeMounts[{place}].mountPath", text)


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _hides(given: str, own: str, *, below: bool) -> bool:
    return _is_within(own, given) or (below and _is_within(given, own))


def _is_within(path: str, folder: str) -> bool:
    return folder in ("/", path) or path.startswith(f"{folder}/")
