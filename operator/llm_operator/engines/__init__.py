"""One module per engine: from the spec and the plan to command line, environment, ports and failure signatures. Pure.

Use: `check(spec)` says what the operator refuses, `render(request)` gives the EngineRun that a pod is built from,
`failures.diagnose(...)` names the reason of a crash. Flags follow a capability table per engine version.
"""

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines.lmdeploy import command as lmdeploy_command
from llm_operator.engines.table import Capabilities, capabilities, known_versions, nearest_versions, newest_version
from llm_operator.engines.types import EngineRun, KVAllocation, Refusal, RefusedError, RenderRequest
from llm_operator.engines.vllm import command as vllm_command

__all__ = [
    "EngineRun",
    "KVAllocation",
    "Refusal",
    "RefusedError",
    "RenderRequest",
    "check",
    "known_versions",
    "newest_version",
    "render",
    "resolve",
]


def check(spec: LLMDeploymentSpec) -> tuple[Refusal, ...]:
    """What only the operator can judge of a spec; empty where the engine will take it.

    What depends on the model's architecture is judged by render().
    """
    table = capabilities(spec.engine.type, spec.engine.version)
    if table is None:
        return (_unknown_version(spec),)
    if spec.engine.type == "VLLM":
        return vllm_command.check(spec, table)
    return lmdeploy_command.check(spec, table, spec.engine.backend)


def render(request: RenderRequest) -> EngineRun:
    """Everything about a pod that depends on the engine; the same request gives the same run.

    Raises:
        RefusedError: the engine would refuse or misread it; says why.
    """
    table = _table(request.spec)
    return (
        vllm_command.render(request, table)
        if request.spec.engine.type == "VLLM"
        else lmdeploy_command.render(request, table)
    )


def resolve(spec: LLMDeploymentSpec, architecture: str | None) -> tuple[str, Backend | None]:
    """The engine version and LMDeploy's backend that a spec comes to; the backend is None for vLLM.

    Raises:
        RefusedError: the version is not known, or the backend does not support the architecture.
    """
    table = _table(spec)
    backend = None if spec.engine.type == "VLLM" else lmdeploy_command.resolve_backend(spec, table, architecture)
    return table.version, backend


def _table(spec: LLMDeploymentSpec) -> Capabilities:
    table = capabilities(spec.engine.type, spec.engine.version)
    if table is None:
        raise RefusedError((_unknown_version(spec),))
    return table


def _unknown_version(spec: LLMDeploymentSpec) -> Refusal:
    engine, version = spec.engine.type, str(spec.engine.version)
    serving = [
        known for known in known_versions(engine) if engine != lmdeploy_command.NAME or lmdeploy_command.serves(known)
    ]
    nearest = " or ".join(known for known in nearest_versions(engine, version) if known in serving) or serving[0]
    text = f"this operator does not know {engine} {version}: nearest known {nearest}; all known: {', '.join(serving)}"
    return Refusal("UnknownEngineVersion", "spec.engine.version", text)
