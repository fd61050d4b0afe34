"""The whole space of specs, with extra arguments drawn from an engine version's own table."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from llm_operator.api import LLMDeployment
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import KVAllocation, RenderRequest, engine_of
from llm_operator.engines.arguments import Rules
from llm_operator.engines.lmdeploy import command as lmdeploy
from llm_operator.engines.table import Capabilities, Option
from llm_operator.engines.vllm import command as vllm
from tests.support.strategies import resource, valid_specs

TYPES = {"lmdeploy": "LMDeploy", "vllm": "VLLM"}
RULES: dict[str, Rules] = {"lmdeploy": lmdeploy.RULES, "vllm": vllm.RULES}
_TEXT = st.sampled_from(["a", "x y", "$(HOME)", "1", "-1", "0.5", "4Gi", "4k", "{}", '{"a": 1}', "None", "auto", "é"])
_WORDS: dict[str, st.SearchStrategy[str]] = {
    "int": st.integers(-1, 4096).map(str),
    "float": st.sampled_from(["0.5", "1", "0", "1e3"]),
    "json": st.sampled_from(["{}", '{"a": 1}', "[]", "{", "1"]),
    "number": st.sampled_from(["4096", "4k", "4K", "1.5g", "4Gi", "0"]),
}


def table_of(engine: str, version: str) -> Capabilities:
    """The table of a version that is known to be there."""
    table = engine_of(TYPES[engine]).options.capabilities(version)
    assert table is not None
    return table


def spec_of(engine: str, version: str, /, **parts: Any) -> LLMDeploymentSpec:
    """A small valid spec: keywords are its further members; `engine` members go beside type and version."""
    members = {
        "model": {"persistentVolumeClaim": {"claimName": "models"}, "trustRemoteCode": True, **parts.pop("model", {})},
        "engine": {"type": TYPES[engine], "version": version, **parts.pop("engine", {})},
        **parts,
    }
    return LLMDeployment.parse(resource(members)).spec


def serves(engine: str, version: str) -> bool:
    """Whether the operator serves with a version; an older LMDeploy only what it converted itself."""
    return engine != "lmdeploy" or lmdeploy.serves(version)


def request_of(spec: LLMDeploymentSpec, **decided: Any) -> RenderRequest:
    """The spec with what a plan decides."""
    tensor = decided.pop("tensor", spec.parallelism.tensor or 1)
    return RenderRequest(name="demo", namespace="team", spec=spec, tensor=tensor, **decided)


def _values(option: Option) -> st.SearchStrategy[list[str]]:
    one = _WORDS.get(option.type, _TEXT)
    if option.choices:
        one = st.sampled_from(option.choices) | one
    most = {"0": 0, "1": 1, "?": 1}.get(option.takes, 2)
    usual = st.lists(one, min_size=min(most, 1), max_size=most)
    return usual | st.lists(one, max_size=2)


@st.composite
def arguments(draw: st.DrawFn, table: Capabilities, *, wild: bool) -> list[str]:
    """Extra arguments: options of the table with fitting values; wild ones also abbreviated, unknown, or alone."""
    words: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(table.options)))
        values = draw(_values(table.options[name]))
        if wild and draw(st.integers(0, 3)) == 0:
            name = draw(
                st.sampled_from([name[:-1], name.replace("-", "_"), name + "x", name[2:], name + ".a", "-", "--"])
            )
        glued = len(values) == 1 and draw(st.booleans())
        words += [f"{name}={values[0]}"] if glued else [name, *values]
    return [word for word in words if word]


@st.composite
def requests(draw: st.DrawFn, engine: str, version: str) -> RenderRequest:
    """Any valid spec of this engine and version with any plan that the planner may make of it."""
    table = table_of(engine, version)
    document = draw(valid_specs)
    document["engine"] |= {"type": TYPES[engine], "version": version}
    document["engine"]["extraArgs"] = draw(st.just([]) | st.just([]) | arguments(table, wild=False))
    if "--trust-remote-code" not in table.options and draw(st.integers(0, 7)):
        document["model"]["trustRemoteCode"] = True  # else nearly all of an old LMDeploy's specs are refused for this
    document.setdefault("kvCache", {})
    if engine == "vllm":
        document["engine"].pop("backend", None)
        document["engine"].pop("conversion", None)
    else:
        document["kvCache"].pop("memory", None)
        if document["kvCache"].get("quantization") == "FP8":
            document["engine"]["backend"] = "PyTorch"
            document["engine"].pop("conversion", None)
        if not serves(engine, version) and draw(st.integers(0, 7)):
            document["engine"] |= {"backend": "TurboMind", "conversion": "TurboMind"}
            document.setdefault("cache", {"claimName": "models"})
            document["kvCache"].pop("quantization", None)
    spec = LLMDeployment.parse(resource(document)).spec
    positive = st.integers(1, 2**40)
    kv = KVAllocation(
        ratio_percent=draw(st.none() | st.integers(1, 99)),
        kv_cache_memory_bytes=draw(st.none() | positive),
        utilization_percent=draw(st.none() | st.integers(1, 99)),
        max_sequences=draw(st.none() | st.integers(1, 4096)),
        max_batched_tokens=draw(st.none() | st.integers(4096, 65536)),
    )
    tensor = spec.parallelism.tensor or draw(st.sampled_from([1, 2, 4, 8]))
    return request_of(spec, tensor=tensor, context_length=draw(st.none() | st.integers(1, 2**20)), kv=kv)
