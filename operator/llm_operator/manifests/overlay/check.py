"""What of an overlay is refused, by field: what no pod template has, and what the operator owns. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from llm_operator.api.overlay_owned import INIT_CONTAINERS, OverlayChild, container_fields, instead
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import engine_of, guard
from llm_operator.engines.common import (
    CA_VARIABLES,
    CACHE_PATH,
    CACHE_VARIABLES,
    CHAT_TEMPLATE_FOLDER,
    DEVICE_VARIABLES,
    MODEL_MOUNT,
    PORT_NAME,
    token_name,
)
from llm_operator.engines.registry import ENGINES
from llm_operator.manifests.common import JSON, PAGE_PORT
from llm_operator.manifests.overlay.table import DIRECTIVE, REPLACE, RETAIN, is_directive, problems
from llm_operator.problems import Problem, wrong_field

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the path that NCCL and vLLM open
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HANDLERS = ("httpGet", "exec", "tcpSocket", "grpc")
_LIFECYCLE = ("postStart", "preStop")
_LIFECYCLE_HANDLERS = ("exec", "httpGet", "sleep", "tcpSocket")
_PROBED = ("engine", "chat")
"""Containers of the operator whose probes say what they ask."""


@dataclass(frozen=True, slots=True)
class Owned:
    """What belongs to the operator in the pods of one kind of child, beside what api.overlay_owned says.

    Attributes:
        child: whose pods they are.
        volumes: names of its volumes.
        variables: names of its environment variables, each with the reason.
        paths: directories that it mounts, each with whether a mount below it hides a part of it.
        port: port that its container listens on; None if it listens on none.
        gpu: resource that counts the GPUs.
        resources: field that says CPU and memory of its container; None if the overlay may say them.
    """

    child: OverlayChild
    volumes: frozenset[str]
    variables: Mapping[str, str]
    paths: Mapping[str, bool]
    port: int | None
    gpu: str
    resources: str | None


_GIVEN_BY_RESOURCES = ("cpu", "memory", "ephemeral-storage")


FIELDS: Mapping[OverlayChild, str] = {
    "engine": "spec.podTemplate",
    "tool": "spec.tools.podTemplate",
    "chat": "spec.webUI.podTemplate",
}
"""JSON path of each overlay in the object."""


def overlay_of(spec: LLMDeploymentSpec, child: OverlayChild) -> JSON | None:
    """The overlay of a child's pods; None without one."""
    if child == "engine":
        return spec.pod_template
    if child == "tool":
        return spec.tools.pod_template
    return spec.web_ui.pod_template if spec.web_ui is not None else None


def check_overlays(spec: LLMDeploymentSpec) -> tuple[Problem, ...]:
    """Everything that is wrong with the overlays of all children."""
    return tuple(refusal for child in FIELDS for refusal in check_overlay(spec, child))


def check_overlay(spec: LLMDeploymentSpec, child: OverlayChild) -> tuple[Problem, ...]:
    """Everything that is wrong with the overlay of a child, without a cluster; empty if there is none."""
    overlay, field = overlay_of(spec, child), FIELDS[child]
    if not overlay:
        return ()
    # What is not even a pod template has no parts to check for owners.
    found = tuple(problems(overlay)) or _conflicts(overlay, _OWNED[child](spec))
    return tuple(replace(one, field=f"{field}{one.field}") for one in found)


def _conflict(path: str, message: str) -> Problem:
    return wrong_field("ConflictingPodTemplate", path, message)


def _ca_variables(spec: LLMDeploymentSpec) -> dict[str, str]:
    return dict.fromkeys(CA_VARIABLES, "use spec.caBundle") if spec.ca_bundle is not None else {}


_ENGINE_PATHS = (MODEL_MOUNT, SHARED_MEMORY, guard.FOLDER, CHAT_TEMPLATE_FOLDER, "/trust")


def _engine(spec: LLMDeploymentSpec) -> Owned:
    engine = engine_of(spec.engine.type)
    variables = dict.fromkeys(CACHE_VARIABLES, "the operator sets it: the engine writes there")
    variables |= dict(DEVICE_VARIABLES) | dict(engine.owned_variables)
    variables |= dict.fromkeys(("HF_HUB_OFFLINE", "USER"), "use spec.engine.env")
    for one in ENGINES.values():
        variables |= dict.fromkeys(one.set_variables, "use spec.engine.env")
    variables |= _ca_variables(spec)
    variables |= {variable.name: "spec.engine.env has a variable of that name" for variable in spec.engine.env}
    variables[token_name(spec.model)] = "use spec.model.credentials"
    return Owned(
        child="engine",
        volumes=frozenset({"shm", "cache", "model", "scratch", "guard", "trust", "trust-bundle", "chat-template"}),
        variables=variables,
        # A volume below the cache is how one of its directories is kept between pods.
        paths={**dict.fromkeys(_ENGINE_PATHS, True), CACHE_PATH: False, "/tmp": False},  # noqa: S108
        port=engine.port,
        gpu=spec.gpu.resource_name,
        resources="spec.resources",
    )


def _tools(spec: LLMDeploymentSpec) -> Owned:
    own = ("HOME", "HF_HOME", "MODELSCOPE_CACHE", "PYTHONPATH")
    variables = dict.fromkeys(own, "the operator sets it: the model tools write there") | _ca_variables(spec)
    variables |= dict(DEVICE_VARIABLES)
    variables[token_name(spec.model)] = "use spec.model.credentials"
    paths = ("/models", "/source", "/tools", "/calibration", SHARED_MEMORY, "/trust")
    return Owned(
        child="tool",
        volumes=frozenset({"model", "source", "tools", "calibration", "shm", "tmp", "trust", "trust-bundle"}),
        variables=variables,
        paths={**dict.fromkeys(paths, True), "/tmp": False},  # noqa: S108
        port=None,
        gpu=spec.gpu.resource_name,
        resources=None,
    )


def _chat(spec: LLMDeploymentSpec) -> Owned:
    return Owned(
        child="chat",
        volumes=frozenset({"tmp"}),
        variables={
            "OPENAI_API_KEY": "use spec.engine.apiKey",
            "CHAT_PAGE_PASSWORD": "use spec.webUI.password",
        },
        # The page's temporary files lie below it.
        paths={"/tmp": False},  # noqa: S108
        port=PAGE_PORT,
        gpu=spec.gpu.resource_name,
        resources="spec.webUI.resources",
    )


_OWNED: Mapping[OverlayChild, Callable[[LLMDeploymentSpec], Owned]] = {"engine": _engine, "tool": _tools, "chat": _chat}


def _conflicts(overlay: JSON, owned: Owned) -> Iterator[Problem]:
    for path in _removals(overlay, owned):
        yield _conflict(path, "the operator needs what is there, so that it cannot be removed or replaced as a whole")
    yield from _metadata(overlay.get("metadata") or {})
    spec = overlay.get("spec") or {}
    for field, text in _UNUSABLE.items():
        if spec.get(field) is not None:
            yield _conflict(f".spec.{field}", instead(text))
    for place, volume in enumerate(spec.get("volumes") or []):
        if volume.get("name") in owned.volumes:
            text = f"the operator has a volume {volume['name']!r}: choose another name"
            yield _conflict(f".spec.volumes[{place}].name", text)
    for kind in ("initContainers", "containers"):
        for place, container in enumerate(spec.get(kind) or []):
            path = f".spec.{kind}[{place}]"
            if _is_own(container, owned):
                yield from _own_container(container, kind, path, owned)
            else:
                yield from _further_container(container, path, owned)


_UNUSABLE: Mapping[str, str] = {
    "priority": "the API server sets it from the PriorityClass",
    "preemptionPolicy": "the API server sets it from the PriorityClass",
    "overhead": "the API server sets it from the RuntimeClass",
    "os": "the containers are Linux's",
}
"""Fields of a pod that no user of one can set, or only one way."""


def _is_own(container: JSON, owned: Owned) -> bool:
    return container.get("name") in (owned.child, *INIT_CONTAINERS[owned.child])


_NEEDED = ("env", "volumeMounts", "resources", *_PROBES, "lifecycle")
"""Fields of the operator's containers that it has parts in."""


def _removals(overlay: JSON, owned: Owned) -> Iterator[str]:
    """Nulls and directives that remove the whole of something which the operator has parts in."""
    metadata, spec = overlay.get("metadata") or {}, overlay.get("spec") or {}
    for path, part in (("", overlay), (".metadata", metadata), (".spec", spec)):
        yield from _rests(part, path)
    for name in ("labels", "annotations"):
        yield from _whole(metadata, name, ".metadata")
    for kind in ("initContainers", "containers", "volumes"):
        yield from _whole(spec, kind, ".spec")
        for place, entry in enumerate(spec.get(kind) or [] if kind != "volumes" else []):
            if _is_own(entry, owned):
                yield from _removals_of(entry, f".spec.{kind}[{place}]")


def _removals_of(container: JSON, path: str) -> Iterator[str]:
    if container.get(DIRECTIVE) != REPLACE:
        yield from _rests(container, path)
    for name in _NEEDED:
        yield from _whole(container, name, path)
    for bound in ("requests", "limits"):
        yield from _whole(container.get("resources") or {}, bound, f"{path}.resources")


def _whole(holder: JSON, name: str, path: str) -> Iterator[str]:
    """Where a field of the holder is removed: all of it, all but what is given, or all entries of the list."""
    part = holder.get(name)
    if name in holder and part is None:
        yield f"{path}.{name}"
    elif isinstance(part, dict):
        yield from _rests(part, f"{path}.{name}")
    else:
        for place, entry in enumerate(part or []):
            if isinstance(entry, dict) and entry.get(DIRECTIVE) == REPLACE:
                yield f"{path}.{name}[{place}].{DIRECTIVE}"


def _rests(part: JSON, path: str) -> Iterator[str]:
    for directive in (DIRECTIVE, RETAIN):
        if directive in part:
            yield f"{path}.{directive}"


def _metadata(metadata: JSON) -> Iterator[Problem]:
    for name in metadata:
        if name not in ("labels", "annotations") and not is_directive(name):
            yield _conflict(f".metadata.{name}", "only labels and annotations can be given: remove it")


def _own_container(container: JSON, kind: str, path: str, owned: Owned) -> Iterator[Problem]:
    child = container["name"]
    if (child == owned.child) != (kind == "containers"):
        yield _conflict(f"{path}.name", f"the operator has a container {child!r} elsewhere: choose another name")
        return
    for field, text in container_fields(owned.child).items():
        if field in container:
            yield _conflict(f"{path}.{field}", instead(text))
    for place, variable in enumerate(container.get("env") or []):
        name = variable.get("name")
        if name in owned.variables:
            text = f"{name}: {owned.variables[name]}; remove it here"
            yield _conflict(f"{path}.env[{place}].name", text)
    yield from _hooks(container, path)
    for bound, resource in _amounts(container) if child == owned.child and owned.resources else ():
        if resource in _GIVEN_BY_RESOURCES:
            yield _conflict(f"{path}.resources.{bound}[{resource}]", f"use {owned.resources}.{bound}")
    yield from _gpus(container, path, owned)
    yield from _mounts(container, path, owned)


def _hooks(container: JSON, path: str) -> Iterator[Problem]:
    yield from _unsaid(container, path, (), ("postStart",))
    name = container["name"]
    for probe in _PROBES if name not in _PROBED else ():
        if container.get(probe) is not None:
            yield _conflict(f"{path}.{probe}", f"container {name!r} ends by itself and has no probe: remove it here")
    for probe in _PROBES:
        for handler in _HANDLERS:
            if handler in (container.get(probe) or {}):
                text = "the operator says what a probe asks; thresholds, periods and timeouts can be given"
                yield _conflict(f"{path}.{probe}.{handler}", text)
    if "preStop" in (container.get("lifecycle") or {}):
        yield _conflict(f"{path}.lifecycle.preStop", "requests are drained by it: use spec.drainTimeoutSeconds")


def _unsaid(container: JSON, path: str, probes: tuple[str, ...], hooks: tuple[str, ...]) -> Iterator[Problem]:
    """Probes and hooks that do not say, once, what they do (kube-apiserver 1.36, validateHandler)."""
    lifecycle = container.get("lifecycle") or {}
    parts = [(container.get(name), f"{path}.{name}", _HANDLERS) for name in probes]
    parts += [(lifecycle.get(name), f"{path}.lifecycle.{name}", _LIFECYCLE_HANDLERS) for name in hooks]
    for part, place, handlers in parts:
        given = [handler for handler in handlers if handler in (part or {})]
        if part is not None and len(given) != 1:
            found = f"it has {' and '.join(given)}" if given else "it has none"
            yield _conflict(place, f"give exactly one of {', '.join(handlers)}; {found}")


def _further_container(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    yield from _unsaid(container, path, _PROBES, _LIFECYCLE)
    for place, port in enumerate(container.get("ports") or []):
        here = f"{path}.ports[{place}]"
        if owned.port is not None and port.get("containerPort") == owned.port:
            yield _conflict(
                f"{here}.containerPort", f"the {owned.child} listens on port {owned.port}: choose another port"
            )
        if owned.port is not None and port.get("name") == PORT_NAME:
            text = f"the Service and the probes find the {owned.child} by the name {PORT_NAME!r}: choose another name"
            yield _conflict(f"{here}.name", text)
    yield from _gpus(container, path, owned)


def _amounts(container: JSON) -> Iterator[tuple[str, str]]:
    for bound in ("requests", "limits"):
        for resource in (container.get("resources") or {}).get(bound) or {}:
            yield bound, resource


_GPUS = re.compile(r"/(gpu$|gpu\.|mig-)")
"""GPUs, parts of GPUs and, as the device plugin renames them, shared GPUs; not HAMi's gpumem and gpucores."""


def _gpus(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    for bound, resource in _amounts(container):
        if resource == owned.gpu or _GPUS.search(resource):
            text = "the number of GPUs is spec.parallelism.tensor, their kind spec.gpu.resourceName; remove it here"
            yield _conflict(f"{path}.resources.{bound}[{resource}]", text)


def _mounts(container: JSON, path: str, owned: Owned) -> Iterator[Problem]:
    for kind, key in (("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")):
        for place, mount in enumerate(container.get(kind) or []):
            given = _normal(mount[key]) if mount.get(key) else ""
            if _is_within(given, "/proc") or _is_within(given, "/sys"):
                text = "no runtime mounts a volume there: choose another path"
                yield _conflict(f"{path}.{kind}[{place}].{key}", text)
                continue
            hidden = next((own for own, below in owned.paths.items() if _hides(given, own, below=below)), None)
            if given and hidden is not None:
                text = f"a volume there hides {hidden}, which the operator mounts: choose another path"
                yield _conflict(f"{path}.{kind}[{place}].{key}", text)


_LINKS = (("/var/run", "/run"), ("/run/shm", "/dev/shm"))  # noqa: S108
"""Links that images of Linux distributions have: a runtime follows them."""


def _normal(path: str) -> str:
    """The path as a runtime mounts it: without dots and doubled slashes, from the root, links followed."""
    normal = posixpath.normpath("/" + path.lstrip("/"))
    for link, target in _LINKS:
        if _is_within(normal, link):
            normal = target + normal.removeprefix(link)
    return normal


def _hides(given: str, own: str, *, below: bool) -> bool:
    return _is_within(own, given) or (below and _is_within(given, own))


def _is_within(path: str, folder: str) -> bool:
    return folder in ("/", path) or path.startswith(f"{folder}/")
