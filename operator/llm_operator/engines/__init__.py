"""One folder per engine: from spec and plan to command line, environment, memory, capacity and failures. Pure.

Use: `check(spec)` says what the operator refuses, `render(request)` gives the EngineRun that a pod is built from,
`failures.diagnose(...)` names the reason of a crash. registry.py is the table of engines, interface.py what each one
answers. Flags follow a capability table per engine version.
"""

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines.interface import Engine
from llm_operator.engines.registry import UnknownEngineError, engine_of, known_versions, newest_version
from llm_operator.engines.table import Capabilities
from llm_operator.engines.types import EngineRun, KVAllocation, PlanFlags, RefusedError, RenderRequest
from llm_operator.problems import Problem, wrong_field

__all__ = [
    "EngineRun",
    "KVAllocation",
    "PlanFlags",
    "Problem",
    "RefusedError",
    "RenderRequest",
    "check",
    "engine_of",
    "known_versions",
    "newest_version",
    "render",
    "resolve",
]


def check(spec: LLMDeploymentSpec) -> tuple[Problem, ...]:
    """What only the operator can judge of a spec; empty if the engine will take it.

    What depends on the model's architecture is judged by render().
    """
    try:
        engine, table = _row(spec)
    except RefusedError as refused:
        return refused.refusals
    return engine.check(spec, table)


def render(request: RenderRequest) -> EngineRun:
    """Everything about a pod that depends on the engine; the same request gives the same run.

    Raises:
        RefusedError: the engine would refuse or misread it; says why.
    """
    engine, table = _row(request.spec)
    return engine.render(request, table)


def resolve(spec: LLMDeploymentSpec, architecture: str | None) -> tuple[str, Backend | None]:
    """The engine version and the backend that a spec comes to; the backend is None for an engine with one.

    Raises:
        RefusedError: the version is not known, or the backend does not support the architecture.
    """
    engine, table = _row(spec)
    return table.version, engine.backend(spec, table, architecture)


def _row(spec: LLMDeploymentSpec) -> tuple[Engine, Capabilities]:
    try:
        engine = engine_of(spec.engine.type)
    except UnknownEngineError as error:
        text = f"{error}: choose one of them, or an operator that knows {spec.engine.type}"
        raise RefusedError((wrong_field("UnknownEngine", "spec.engine.type", text),)) from error
    table = engine.options.capabilities(spec.engine.version)
    if table is None:
        raise RefusedError((_unknown_version(engine, str(spec.engine.version)),))
    return engine, table


def _unknown_version(engine: Engine, version: str) -> Problem:
    serving = [known for known in engine.options.versions if engine.serves(known)]
    nearest = " or ".join(known for known in engine.options.nearest(version) if known in serving) or serving[0]
    text = (
        f"this operator does not know {engine.name} {version}: nearest known {nearest}; all known: {', '.join(serving)}"
    )
    return wrong_field("UnknownEngineVersion", "spec.engine.version", text)
