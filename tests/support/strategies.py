"""Hypothesis strategies for the resource: valid specs, and documents that are anything but.

They follow the CRD's own schema, so that a new field is generated the day it is added. `valid_specs` repairs what rules
across fields forbid; `documents` leaves that in and breaks more.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from llm_operator.api import API_VERSION, KIND, LLMDeployment
from llm_operator.api.crd import custom_resource_definition

Json = Any
Path = tuple[str | int, ...]

_ROOT = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
SPEC_SCHEMA: dict[str, Any] = _ROOT["spec"]
STATUS_SCHEMA: dict[str, Any] = _ROOT["status"]

_CONTAINER_RESOURCES = ["cpu", "memory", "ephemeral-storage"]
_METADATA_KEYS = ["a", "example.com/team", "llm-operator.dev/a", "app.kubernetes.io/name", "x" * 63]
_MAP_KEYS = {
    ".nodeSelector": ["a", "nvidia.com/gpu.product", "kubernetes.io/hostname", "A_b.c-9", "x" * 63, "d." * 5 + "e/f"],
    ".resources.requests": _CONTAINER_RESOURCES,
    ".resources.limits": _CONTAINER_RESOURCES,
    ".service.labels": _METADATA_KEYS,
    ".service.annotations": _METADATA_KEYS,
    ".webUI.service.labels": _METADATA_KEYS,
    ".webUI.service.annotations": _METADATA_KEYS,
    ".labels": _METADATA_KEYS,
    ".annotations": _METADATA_KEYS,
    ".weightQuantization.resources.requests": _CONTAINER_RESOURCES,
    ".webUI.resources.requests": _CONTAINER_RESOURCES,
    ".webUI.resources.limits": _CONTAINER_RESOURCES,
    ".weightQuantization.resources.limits": _CONTAINER_RESOURCES,
    ".network.from[].podSelector.matchLabels": ["app", "kubernetes.io/metadata.name"],
    ".network.from[].namespaceSelector.matchLabels": ["app", "kubernetes.io/metadata.name"],
}
_ANY_KEYS = ["a", "example.com/b"]
_QUANTITIES = ["1", "0", "0.000", "500m", "0.001m", "2Gi", "20Gi", "1.5G", "16Ti", "999999999999999P", "8Pi", "9P"]
_SMALL_LIST = 3


def from_schema(schema: dict[str, Any], path: str = "") -> st.SearchStrategy[Json]:
    """Values that a structural schema takes, rules across fields left aside."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _BY_TYPE[schema["type"]](schema, path)


OVERLAYS: list[Json] = [
    {},
    {"metadata": {"labels": {"team": "a"}, "annotations": {"cost": "1"}}},
    {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["hub"]}], "schedulerName": "other"}},
]
"""Pod templates that no check refuses, for the fields whose content the schema does not say."""


def _objects(schema: dict[str, Any], path: str) -> st.SearchStrategy[Json]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.sampled_from(OVERLAYS).map(copy.deepcopy)
    if "properties" not in schema:
        values = from_schema(schema["additionalProperties"], path + ".*")
        return st.dictionaries(st.sampled_from(_map_keys(path)), values, max_size=_SMALL_LIST)
    parts = {name: from_schema(part, f"{path}.{name}") for name, part in schema["properties"].items()}
    required = {name: parts.pop(name) for name in schema.get("required", [])}
    strategy = st.fixed_dictionaries(required, optional=parts)
    return _briefly_named(strategy) if path == ".network" else strategy


def _briefly_named(strategy: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """The same strategy with a short text: hypothesis warns of one of more than 30,000 characters."""

    @st.composite
    def part(draw: st.DrawFn) -> Json:
        return draw(strategy)

    return part()


def _map_keys(path: str) -> list[str]:
    """Keys of a map; its path may begin at any field above it."""
    return next((keys for known, keys in _MAP_KEYS.items() if known.endswith(path)), _ANY_KEYS)


def _lists(schema: dict[str, Any], path: str) -> st.SearchStrategy[Json]:
    items = from_schema(schema["items"], path + "[]")
    keys = schema.get("x-kubernetes-list-map-keys")
    unique: Callable[[Json], Any] | None = (lambda item: tuple(item[key] for key in keys)) if keys else None
    low, high = schema.get("minItems", 0), min(_SMALL_LIST, schema["maxItems"])
    return st.lists(items, min_size=low, max_size=high, unique_by=unique)


def _strings(schema: dict[str, Any], _path: str) -> st.SearchStrategy[Json]:
    low, high = schema.get("minLength", 0), schema["maxLength"]
    pattern = schema.get("pattern")
    if pattern is None or pattern.startswith("^[^"):
        text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=low, max_size=12)
        return text | st.sampled_from(["--flag=1", "x" * high])
    if "Gi" in pattern:
        return st.sampled_from(_QUANTITIES)
    if path_like(pattern):
        return st.sampled_from(["", "models", "a/b.c", "a//b", "./a", "/a", "a/../b", "..", "..a"])
    return _matching(pattern, low, high)


def _matching(pattern: str, low: int, high: int) -> st.SearchStrategy[str]:
    """Texts that a pattern takes: mostly such as users write, else random, which takes four fifths of a spec's time."""
    arbitrary = st.from_regex(pattern, fullmatch=True, alphabet=_ASCII).filter(lambda text: low <= len(text) <= high)
    usual = [text for text in _TEXTS if low <= len(text) <= high and re.fullmatch(pattern, text)]
    if not usual:
        return arbitrary
    return st.one_of(*(st.sampled_from(usual) for _ in range(3)), arbitrary)


_TEXTS = [
    *("", "a", "b", "0", "-", "_", "a-1", "a.b", "A_b.c-9", "HOME", "a_b", "1.2.3", "0.9.2.post1", "main", "v1.0"),
    *("org/model", "a/b", "a.b/C_d", "nvidia.com/gpu", "amd.com/gpu", "NVIDIA-H100-80GB-HBM3", "NVIDIA-RTX-A6000"),
    *("docker.io/org/image:1.2-cuda", "registry:5000/a", "org/image@sha256:" + "0" * 64, "name:1", "hf--org/m.1"),
    *(
        "1",
        "500m",
        "2Gi",
        "1.5G",
        "0.001",
        "10.0.0.0/8",
        "2001:db8::/32",
        "2026-01-02T03:04:05Z",
        "fp16",
        "e" * 40,
        "x" * 52,
        "x" * 63,
        "x" * 64,
    ),
    *("d." * 30 + "com", "d." * 126 + "c", "x" * 128, "x" * 253, "d." * 120 + "c/" + "x" * 63, "x/" + "y" * 94),
]
_ASCII = st.characters(min_codepoint=32, max_codepoint=126)


def path_like(pattern: str) -> bool:
    """Whether the pattern is that of a directory inside a claim, whose rule is CEL's."""
    return pattern == "^[-A-Za-z0-9._/]*$"


def _integers(schema: dict[str, Any], _path: str) -> st.SearchStrategy[Json]:
    low, high = schema["minimum"], schema["maximum"]
    return st.integers(low, high) | st.sampled_from([low, high])


_BY_TYPE: dict[str, Callable[[dict[str, Any], str], st.SearchStrategy[Json]]] = {
    "object": _objects,
    "array": _lists,
    "string": _strings,
    "integer": _integers,
    "boolean": lambda _schema, _path: st.booleans(),
}

raw_specs = from_schema(SPEC_SCHEMA)
"""Specs that the schema takes and the rules across fields may not."""

statuses = from_schema(STATUS_SCHEMA)
"""Statuses that the schema takes."""


def _keep_one(members: dict[str, Any], names: list[str], default: Json = None) -> None:
    given = [name for name in names if name in members]
    for name in given[1:]:
        del members[name]
    if not given and default is not None:
        members[names[0]] = default


def _repair(spec: Json) -> Json:
    """The spec with the least change that satisfies every rule across fields."""
    model, engine = spec["model"], spec["engine"]
    _keep_one(model, ["huggingFace", "modelScope", "persistentVolumeClaim", "image"], {"repository": "org/model"})
    _keep_one(model, ["servedName", "servedNames"])
    if "servedNames" in model:
        model["servedNames"] = sorted(set(model["servedNames"]))
    if "persistentVolumeClaim" in model or "image" in model:
        model.pop("credentials", None)
        _repair_path(model.get("persistentVolumeClaim") or model["image"])
    if engine["type"] != "LMDeploy":
        engine.pop("backend", None)
    if engine["type"] != "LMDeploy" or engine.get("backend") == "PyTorch":
        engine.pop("conversion", None)
    _repair_weights(spec)
    for variable in engine.get("env", []):
        _keep_one(variable, ["value", "valueFrom"])
        if "valueFrom" in variable:
            _keep_one(variable["valueFrom"], ["secretKeyRef", "configMapKeyRef"], {"name": "a", "key": "b"})
    _repair_cache(spec.get("kvCache", {}), engine)
    _repair_quantities(spec)
    for toleration in spec.get("tolerations", []):
        _repair_toleration(toleration)
    for peer in spec.get("network", {}).get("from", []):
        _repair_peer(peer)
    _repair_service(spec.get("service", {}))
    page = spec.get("webUI", {})
    _repair_service(page.get("service", {}))
    if "password" not in page:
        page.pop("userName", None)
    _repair_limits(page.get("resources", {}))
    return spec


def _repair_peer(peer: Json) -> None:
    if "ipBlock" in peer or not peer:
        peer.setdefault("ipBlock", {"cidr": "10.0.0.0/8"})
        peer.pop("podSelector", None)
        peer.pop("namespaceSelector", None)
    for selector in (peer.get("podSelector", {}), peer.get("namespaceSelector", {})):
        for entry in selector.get("matchExpressions", []):
            if entry["operator"] in ("In", "NotIn"):
                entry["values"] = entry.get("values") or ["a"]
            else:
                entry.pop("values", None)


def _repair_service(service: Json) -> None:
    if "clusterIP" in service:
        service.pop("port", None)
        service.pop("type", None)
    for pairs in (service.get("labels", {}), service.get("annotations", {})):
        for key in ("llm-operator.dev/a", "app.kubernetes.io/name"):
            pairs.pop(key, None)


def _repair_path(source: Json) -> None:
    if source.get("path", "").startswith("/") or ".." in source.get("path", "").split("/"):
        source["path"] = "models/a"


def _repair_weights(spec: Json) -> None:
    """The cache, and what needs one."""
    recipe = spec.get("weightQuantization")
    if recipe is not None or spec["engine"].get("conversion") == "TurboMind":
        spec.setdefault("cache", {})
    if "cache" in spec:
        cache = spec["cache"]
        _keep_one(cache, ["claimName", "size"], "models")
        if "claimName" in cache:
            for name in ("storageClassName", "accessMode", "retentionPolicy"):
                cache.pop(name, None)
    if recipe is None:
        return
    spec["model"].pop("format", None)
    recipe["bits"], recipe["groupSize"] = 4, 128
    calibration = recipe.get("calibration", {})
    if "text" in calibration:
        calibration["dataset"] = "Text"
        _keep_one(calibration["text"], ["configMap", "persistentVolumeClaim"], {"name": "a", "key": "b"})
        if "persistentVolumeClaim" in calibration["text"]:
            _repair_path(calibration["text"]["persistentVolumeClaim"])
    quality = recipe.get("quality", {})
    if "maxPerplexityIncreasePercent" in quality:
        quality["evaluate"] = True
    _repair_limits(recipe.get("resources", {}))


def _repair_cache(cache: Json, engine: Json) -> None:
    if engine["type"] != "VLLM":
        cache.pop("memory", None)
        if cache.get("quantization") == "FP8" and engine.get("backend") != "PyTorch":
            cache["quantization"] = "Int8"
    _keep_one(cache, ["memory", "memoryPercent"])


def _repair_quantities(spec: Json) -> None:
    holders = [(spec.get("kvCache", {}), "memory"), (spec.get("gpu", {}), "memory"), (spec, "sharedMemory")]
    for holder, name in [*holders, (spec.get("cache", {}), "size")]:
        if holder.get(name) in ("0", "0.000"):
            holder[name] = "1Gi"
    _repair_limits(spec.get("resources", {}))


def _repair_limits(resources: Json) -> None:
    for name in resources.get("limits", {}).keys() & resources.get("requests", {}).keys():
        resources["requests"][name] = resources["limits"][name]


def _repair_toleration(toleration: Json) -> None:
    if "key" not in toleration:
        toleration["operator"] = "Exists"
    if toleration.get("operator") == "Exists":
        toleration.pop("value", None)
    if "tolerationSeconds" in toleration:
        toleration["effect"] = "NoExecute"


valid_specs: st.SearchStrategy[Json] = raw_specs.map(_repair)
"""Specs that pydantic and the API server both take, as JSON."""


def resource(spec: Json, name: str = "fuzz") -> dict[str, Any]:
    """A whole object around a spec."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


valid_resources: st.SearchStrategy[LLMDeployment] = valid_specs.map(lambda spec: LLMDeployment.parse(resource(spec)))
"""Valid objects, parsed."""

# What breaks readers: wrong types, whole and broken floats, the edges of int32, 2^53 and int64, ends of lines that `$`
# may let through, digits and blanks that only Unicode calls so, empty and null containers.
ODD_VALUES: list[Json] = [
    *(None, True, False, 0, 1, -1, 3.0, 0.5, -0.0, 1e300, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 2**64, 10**30),
    *("", "\n", "a\n", "\na", " a", "a ", "a\u00a0", "\u0663", "\u00e9", "\ufeffa", "\U0001f600", "\0", "a\0b", "a\r"),
    *("None", "true", "1", "0", "1Gi\n", "1e3", "-1Gi", "+1", "1Ei", "1.2345", ".5", "Auto", "auto", "..", "."),
    *([], {}, [None], {"a": None}, [""], [[]], {"a": "b"}, {"name": "a"}, {"name": None}, [{"name": "a"}] * 2),
    *({"repository": "a/b"}, {"repository": "a/b/c"}, {"claimName": "a", "path": "../b"}, {"name": "a", "key": "k"}),
    *({"-a": "b"}, {"a": "b "}, {"cpu": "1"}, {"gpu": "1"}, {"a/b/c": ""}, {"x" * 64: ""}, {"A.b/c": ""}),
]
_LENGTHS = [32, 33, 63, 64, 128, 129, 253, 254, 317, 318, 512, 513, 2048, 2049, 4096, 4097]


def paths(value: Json, prefix: Path = ()) -> Iterator[Path]:
    """The path of every value inside a JSON value, parents first."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*prefix, key)
        yield from paths(entry, (*prefix, key))


odd_values = st.sampled_from(ODD_VALUES).map(copy.deepcopy)
"""Each a copy of its own: the next change may be made inside of it."""


def _odd(_value: Json, draw: st.DrawFn) -> Json:
    return draw(odd_values)


def _neighbour(value: int, draw: st.DrawFn) -> Json:
    return value + draw(st.sampled_from([-1, 1, 0.5])) if type(value) is int else value


def _float(value: int, _draw: st.DrawFn) -> Json:
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _length(value: str, draw: st.DrawFn) -> Json:
    size = draw(st.sampled_from(_LENGTHS))
    return (value or "a") * (size // len(value or "a")) + "a" * (size % len(value or "a"))


def _end(value: str, draw: st.DrawFn) -> Json:
    return draw(st.sampled_from([value + "\n", value + " ", "\n" + value, value + "\u00e9", value.upper()]))


def _repeat(value: list[Json], draw: st.DrawFn) -> Json:
    return [*value, copy.deepcopy(draw(st.sampled_from(value or ODD_VALUES)))]


def _many(value: list[Json], draw: st.DrawFn) -> Json:
    return (value or [draw(odd_values)]) * draw(st.sampled_from([17, 33, 65]))


def _member(value: dict[str, Json], draw: st.DrawFn) -> Json:
    name = draw(st.sampled_from(["unknown", "a\n", "-a", "x" * 64, "", "é"]))
    return {**value, name: draw(odd_values)}


# Ways to break one value by its type; what is named twice is drawn twice as often.
_CHANGES: dict[type, list[Callable[[Json, st.DrawFn], Json]]] = {
    int: [_odd, _neighbour, _neighbour, _float],
    str: [_odd, _length, _end, _end],
    list: [_odd, _repeat, _repeat, _many],
    dict: [_odd, _member, _member, _member],
}


def _by_key(schema: dict[str, Any], path: Path) -> dict[str, Any]:
    """The schema at a path; empty where there is none."""
    for part in path:
        if isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties", {})
    return schema


def _mutate(document: Json, draw: st.DrawFn, schema: dict[str, Any]) -> None:
    """Changes, adds or removes one value below the top, in place."""
    path = draw(st.sampled_from(list(paths(document)) or [()]))
    if not path:
        return
    holder = document
    for part in path[:-1]:
        holder = holder[part]
    value = holder[path[-1]]
    how = draw(st.sampled_from([*_CHANGES.get(type(value), [_odd]), "remove", "add"]))
    if how == "remove":
        del holder[path[-1]]
    elif how == "add" and isinstance(holder, dict):
        # A sibling that the schema knows: null, odd or fine. Most rules across fields break this way.
        known = sorted(_by_key(schema, path[:-1]).get("properties", {})) or ["unknown"]
        name = draw(st.sampled_from(known))
        known_schema = _by_key(schema, (*path[:-1], name))
        holder[name] = draw(from_schema_or_null(known_schema, name) if known_schema else odd_values)
    elif callable(how):
        holder[path[-1]] = how(value, draw)


def from_schema_or_null(schema: dict[str, Any], name: str) -> st.SearchStrategy[Json]:
    """A value that the schema takes, or null."""
    nested = {"requests": ".resources.requests", "limits": ".resources.limits", "resources": ".resources"}
    prefix = nested.get(name, f".{name}")
    return st.none() | from_schema(schema, prefix)


@st.composite
def mutated(draw: st.DrawFn, values: st.SearchStrategy[Json], schema: dict[str, Any]) -> Json:
    """Values of a strategy, none to three times broken."""
    document = copy.deepcopy(draw(values))
    for _ in range(draw(st.integers(0, 3))):
        _mutate(document, draw, schema)
    return document


specs = valid_specs | raw_specs | mutated(valid_specs, SPEC_SCHEMA) | mutated(valid_specs, SPEC_SCHEMA)
"""Valid and invalid specs, about half and half."""
