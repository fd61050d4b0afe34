"""Overlays of every shape: what the table of pod templates allows, with names that meet the operator's own parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from llm_operator.api.overlay_owned import POD_FIELDS, container_fields
from llm_operator.manifests.overlay.table import ROOT, Field, types

JSON = dict[str, Any]

# What the operator's parts are called, so that a generated entry often meets one.
_NAMES = ["engine", "fetch", "tool", "install", "chat", "trust", "shm", "cache", "model", "guard", "tmp", "own", "http"]
_WORDS: dict[str, list[str]] = {
    "name": [*_NAMES, "HF_HOME", "HOME", "PYTHONPATH", "CUDA_VISIBLE_DEVICES", "OPENAI_API_KEY", "OWN"],
    "mountPath": [
        "/models",
        "/models/x",
        "/dev/shm",
        "/cache",
        "/cache/x",
        "/guard",
        "/tmp",
        "/tmp/x",
        "/",
        "/etc/own",
    ],
    "image": ["other:1"],
}
_KEYS = ["own", "llm-operator.dev/inputs", "app.kubernetes.io/name", "nvidia.com/gpu", "cpu", "memory", "rdma/ib"]
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.sampled_from(["a", "b", "Always", "/", "engine"]),
    "integer": st.sampled_from([0, 1, 80, 8000, 8080, 23333]),
    "number": st.just(1),
    "boolean": st.booleans(),
    "scalar": st.sampled_from(["1", 2]),
    "any": st.just({"a": "b"}),
}
_LEVELS = 6


def overlays(kind: str = ROOT, levels: int = _LEVELS) -> st.SearchStrategy[JSON]:
    """Values of one type of the table, with a few of its fields each."""
    fields = types()[kind]
    keyed = {"name", "mountPath", "containerPort", "ip", "topologyKey", "uid", "devicePath"} & fields.keys()

    @st.composite
    def value(draw: st.DrawFn) -> JSON:
        names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)) if levels else []
        result = {name: draw(_field(name, fields[name], levels - 1)) for name in {*names, *keyed}}
        result |= dict.fromkeys(name for name in result if name not in keyed and draw(_SELDOM) == 0)
        return result | draw(_directives(result, fields))

    return value()


_SELDOM = st.integers(0, 19)


@st.composite
def _directives(draw: st.DrawFn, value: JSON, fields: Mapping[str, Field]) -> JSON:
    """At times, what says how to merge the value."""
    result: JSON = {}
    if draw(_SELDOM) == 0:
        result["$patch"] = draw(st.sampled_from(["replace", "delete"]))
    elif draw(_SELDOM) == 0:
        result["$retainKeys"] = sorted({*value, *draw(st.lists(st.sampled_from(sorted(fields)), max_size=2))})
    for name in value:
        key = fields[name].merge
        if key and isinstance(value[name], list) and draw(_SELDOM) < 3:
            given = [entry[key] for entry in value[name] if "$patch" not in entry]
            ours = draw(st.lists(st.sampled_from(_WORDS.get(key, ["x"])), max_size=2))
            result[f"$setElementOrder/{name}"] = [{key: one} for one in dict.fromkeys([*ours, *given])]
    return result


def _field(name: str, field: Field, levels: int) -> st.SearchStrategy[Any]:
    one = _one(name, field.kind, levels)
    if field.shape == "list":
        return st.lists(one, max_size=3)
    if field.shape == "map":
        return st.dictionaries(st.sampled_from(_KEYS), one, max_size=2)
    return one


def _one(name: str, kind: str, levels: int) -> st.SearchStrategy[Any]:
    if kind in types():
        return overlays(kind, levels)
    return st.sampled_from(_WORDS[name]) if name in _WORDS and kind == "string" else _SCALARS[kind]


def pod_overlays() -> st.SearchStrategy[JSON]:
    """Overlays that mostly speak of containers, volumes and labels, where the operator has its parts."""
    parts = {
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                name: st.dictionaries(st.sampled_from(_KEYS), st.just("x")) for name in ("labels", "annotations")
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": st.lists(overlays("Container", 3), max_size=3),
                "initContainers": st.lists(overlays("Container", 2), max_size=2),
                "volumes": st.lists(overlays("Volume", 2), max_size=2),
                "affinity": overlays("Affinity", 4),
                "securityContext": overlays("PodSecurityContext", 2),
            },
        ),
    }
    whole = st.fixed_dictionaries({}, optional=parts) | overlays()
    # What is refused at admission would hide the rest: most overlays are without it.
    return st.one_of(whole, whole.map(_without_owned), whole.map(_without_owned))


def _without_owned(overlay: JSON) -> JSON:
    spec = overlay.get("spec") or {}
    for owned in POD_FIELDS.values():
        for field in owned:
            spec.pop(field, None)
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or []:
            for field in container_fields("engine"):
                container.pop(field, None)
    for pairs in (overlay.get("metadata") or {}).values():
        if isinstance(pairs, dict):
            for key in ("llm-operator.dev/inputs", "app.kubernetes.io/name"):
                pairs.pop(key, None)
    return overlay
