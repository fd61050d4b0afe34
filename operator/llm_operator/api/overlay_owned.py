"""Fields of a pod template that the operator keeps for itself, and the part of an overlay's schema that reaches them.

CEL sees only what a schema declares: below an object with x-kubernetes-preserve-unknown-fields nothing else can be
named (kube-apiserver 1.36.4: "undefined field"). So these fields are declared, by kind only, and refused at admission.
What depends on the rest of the spec, such as names of variables and volumes, and what init containers may not say,
which would double the schema, is judged by `manifests.overlay`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

JSON = dict[str, Any]
OverlayChild = Literal["engine", "tool", "chat"]
"""Whose pods an overlay is for; also the name of their main container."""
Path = tuple[str | int, ...]

PREFIX = "llm-operator.dev/"
RECOMMENDED = tuple(
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "managed-by", "version", "component", "part-of")
)
OWN_FIELD = "the operator sets it"
MOST_CONTAINERS = 32
MOST_PAIRS = 64

_POD: Mapping[str, str] = {
    "imagePullSecrets": "use spec.imagePullSecrets",
    "restartPolicy": OWN_FIELD,
    "enableServiceLinks": OWN_FIELD,
    "activeDeadlineSeconds": OWN_FIELD,
    "nodeName": "the scheduler chooses the node: use spec.nodeSelector or affinity",
    "ephemeralContainers": "no pod template takes them: use `kubectl debug`",
}
_AT_THE_GPUS: Mapping[str, str] = {
    **_POD,
    "nodeSelector": "use spec.nodeSelector",
    "tolerations": "use spec.tolerations",
}
POD_FIELDS: Mapping[OverlayChild, Mapping[str, str]] = {
    "engine": {
        **_AT_THE_GPUS,
        "priorityClassName": "use spec.priorityClassName",
        "runtimeClassName": "use spec.runtimeClassName",
        "serviceAccountName": "use spec.serviceAccountName",
        "serviceAccount": "use spec.serviceAccountName",
        "automountServiceAccountToken": "use spec.automountServiceAccountToken",
        "terminationGracePeriodSeconds": "use spec.drainTimeoutSeconds",
        "activeDeadlineSeconds": "an engine has no end",
    },
    "tool": {**_AT_THE_GPUS, "automountServiceAccountToken": "the model tools need no token of the cluster"},
    "chat": {
        **_POD,
        "nodeName": "the scheduler chooses the node: use nodeSelector or affinity",
        "automountServiceAccountToken": "the page needs no token of the cluster",
    },
}
"""Fields of the pod's spec that no overlay of a child may have, each with what to use instead."""

_IMAGES: Mapping[OverlayChild, str] = {
    "engine": "use spec.engine.image; the model tools' image is a value of the chart",
    "tool": "it is a value of the chart; of a quantization use spec.weightQuantization.image",
    "chat": "use spec.webUI.image",
}
_ARGUMENTS: Mapping[OverlayChild, str] = {
    "engine": "the operator sets them: use spec.engine.extraArgs",
    "tool": OWN_FIELD,
    "chat": OWN_FIELD,
}
INIT_CONTAINERS: Mapping[OverlayChild, tuple[str, ...]] = {
    "engine": ("fetch", "trust"),
    "tool": ("install", "trust"),
    "chat": (),
}
"""Names of the operator's init containers; its main container has the child's own name."""


def container_fields(child: OverlayChild) -> Mapping[str, str]:
    """Fields of the operator's own containers that no overlay may have, each with what to use instead."""
    return {
        "image": _IMAGES[child],
        "command": OWN_FIELD,
        "args": _ARGUMENTS[child],
        "ports": "the operator sets them: a further port belongs to a further container",
        "restartPolicy": OWN_FIELD,
        "terminationMessagePath": "the operator reads there why a container ended",
        "terminationMessagePolicy": "the operator reads there why a container ended",
    }


def instead(text: str) -> str:
    """The whole message about a field."""
    return f"not part of the overlay: {text}; remove it here"


CLUSTERS_CLASSES = "system-"
_CLASS = f"classes that begin with {CLUSTERS_CLASSES} are the cluster's own: name another PriorityClass"
_KEY = "the operator sets the recommended app.kubernetes.io labels and all of llm-operator.dev/: choose another key"

_OPAQUE: JSON = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 64}
_TEXT: JSON = {"type": "string", "maxLength": 1024}
_NUMBER: JSON = {"type": "integer", "format": "int64", "minimum": -(2**53), "maximum": 2**53}
_LIST: JSON = {"type": "array", "x-kubernetes-list-type": "atomic"}
_OBJECTS: JSON = {**_LIST, "items": _OPAQUE, "maxItems": 128}
_TEXTS: JSON = {**_LIST, "items": {"type": "string", "maxLength": 32768}, "maxItems": 1024}
_FIELDS: Mapping[str, JSON] = {
    "nodeSelector": _OPAQUE,
    "tolerations": _OBJECTS,
    "imagePullSecrets": _OBJECTS,
    "ephemeralContainers": _OBJECTS,
    "enableServiceLinks": {"type": "boolean"},
    "automountServiceAccountToken": {"type": "boolean"},
    "activeDeadlineSeconds": _NUMBER,
    "terminationGracePeriodSeconds": _NUMBER,
    "command": _TEXTS,
    "args": _TEXTS,
    "ports": _OBJECTS,
}


@dataclass(frozen=True, slots=True)
class OverlayProblem:
    """What is wrong with an overlay, by its path below it."""

    path: Path
    message: str


def overlay_schema(child: OverlayChild) -> JSON:
    """The structural schema of a child's overlay, with the rules that CEL can judge."""
    owned = POD_FIELDS[child]
    classes: JSON = (
        {} if "priorityClassName" in owned else {"priorityClassName": {**_TEXT, "description": "As in a pod."}}
    )
    items = {
        **_OPAQUE,
        "properties": {
            "name": {**_TEXT, "description": f"The operator's own container is {child}."},
            **{
                field: _declared(field, f"Additional containers only; for {child}: {text}.")
                for field, text in container_fields(child).items()
            },
        },
        "x-kubernetes-validations": [
            _rule(f"!has(self.name) || self.name != '{child}' || !has(self.{field})", instead(text), f".{field}")
            for field, text in container_fields(child).items()
        ],
    }
    spec = {
        **_OPAQUE,
        "description": "Any field of a pod's spec: see `kubectl explain pod.spec`. Those listed here are refused or "
        "have a rule.",
        "properties": {
            **{field: _declared(field, f"Not here: {text}.") for field, text in owned.items()},
            **classes,
            "containers": {
                **_LIST,
                "items": items,
                "maxItems": MOST_CONTAINERS,
                "description": f"Merged by name; the operator's own is {child}. Any field of a container: see `kubectl "
                "explain pod.spec.containers`.",
            },
        },
        "x-kubernetes-validations": [
            *(_rule(f"!has(self.{field})", instead(text), f".{field}") for field, text in owned.items()),
            *(
                _rule(f"!has(self.{field}) || !self.{field}.startsWith('{CLUSTERS_CLASSES}')", _CLASS, f".{field}")
                for field in classes
            ),
        ],
    }
    metadata = {
        **_OPAQUE,
        "description": "Labels and annotations of the pods.",
        "properties": {
            "labels": {**_pairs(63, labels=True), "description": "Additional labels."},
            "annotations": {**_pairs(32768, labels=False), "description": "Additional annotations."},
        },
    }
    return {**_OPAQUE, "maxProperties": 2, "properties": {"metadata": metadata, "spec": spec}}


def _declared(field: str, description: str) -> JSON:
    return {**_FIELDS.get(field, _TEXT), "description": description}


def _pairs(longest: int, *, labels: bool) -> JSON:
    reserved = ", ".join(f"'{key}'" for key in RECOMMENDED)
    beside = f" && !(key in [{reserved}])" if labels else ""
    return {
        "type": "object",
        "additionalProperties": {"type": "string", "maxLength": longest},
        "maxProperties": MOST_PAIRS,
        "x-kubernetes-validations": [_rule(f"self.all(key, !key.startsWith('{PREFIX}'){beside})", _KEY)],
    }


def _rule(expression: str, message: str, path: str | None = None) -> JSON:
    return {"rule": expression, "message": message, **({"fieldPath": path} if path else {})}


def taken(overlay: JSON, child: OverlayChild) -> tuple[JSON, list[OverlayProblem]]:
    """The overlay as the API server keeps it, and why it would refuse it: kinds first, then what the operator owns."""
    problems: list[OverlayProblem] = []
    kept: JSON = _of_kind(overlay, overlay_schema(child), (), problems)
    return kept, problems or list(_owned(kept, child))


def _owned(overlay: JSON, child: OverlayChild) -> Iterator[OverlayProblem]:
    metadata, spec = overlay.get("metadata") or {}, overlay.get("spec") or {}
    for name, reserved in (("labels", RECOMMENDED), ("annotations", ())):
        if any(key.startswith(PREFIX) or key in reserved for key in metadata.get(name) or {}):
            yield OverlayProblem(("metadata", name), _KEY)
    for field, text in POD_FIELDS[child].items():
        if field in spec:
            yield OverlayProblem(("spec", field), instead(text))
    if "priorityClassName" not in POD_FIELDS[child] and spec.get("priorityClassName", "").startswith(CLUSTERS_CLASSES):
        yield OverlayProblem(("spec", "priorityClassName"), _CLASS)
    for place, container in enumerate(spec.get("containers") or []):
        if container.get("name") == child:
            for field, text in container_fields(child).items():
                if field in container:
                    yield OverlayProblem(("spec", "containers", place, field), instead(text))


_KINDS: Mapping[str, tuple[type, str]] = {
    "object": (dict, "a mapping"),
    "array": (list, "a list"),
    "string": (str, "text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
}
_SIZES = {"object": "maxProperties", "array": "maxItems", "string": "maxLength"}


def _of_kind(value: Any, schema: JSON, path: Path, problems: list[OverlayProblem]) -> Any:
    """The value without the nulls that the API server drops; what is not of its declared kind becomes a problem."""
    kind: str = schema["type"]
    expected, spoken = _KINDS[kind]
    whole: Any = value
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
        problems.append(OverlayProblem(path, f"expected {spoken}, got {repr(value)[:60]}"))
        return value
    most = schema.get(_SIZES.get(kind, ""))
    if most is not None and len(whole) > most:
        problems.append(OverlayProblem(path, f"{len(whole)} entries or characters, at most {most}"))
        return value
    if kind == "array":
        return [_of_kind(entry, schema["items"], (*path, place), problems) for place, entry in enumerate(whole)]
    if kind != "object":
        return value
    declared, every = schema.get("properties", {}), schema.get("additionalProperties")
    result = {}
    for name, entry in whole.items():
        part = declared.get(name, every)
        if part is None:
            result[name] = entry
        elif entry is not None:
            result[name] = _of_kind(entry, part, (*path, name), problems)
    return result
