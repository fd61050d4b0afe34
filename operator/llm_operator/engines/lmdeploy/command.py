"""LMDeploy: `lmdeploy serve api_server MODEL ...` with the TurboMind or the PyTorch backend.

Facts are of LMDeploy 0.18.0 unless a version is named; paths are inside its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_operator.api.model import Backend
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common, guard
from llm_operator.engines.arguments import FIELD, Rules, check_arguments
from llm_operator.engines.table import Capabilities, release
from llm_operator.engines.types import EngineRun, RefusedError, RenderRequest
from llm_operator.problems import Problem, wrong_field

NAME = "LMDeploy"
PORT = 23333
CHAT_TEMPLATE = "template.json"
"""File of spec.model.chatTemplate (lmdeploy/cli/utils.py, get_chat_template; 0.9.2 to 0.18.0)."""
COMMAND = ("lmdeploy", "serve", "api_server")
"""The image has no entrypoint."""

EXIT_MARGIN_SECONDS = 10
"""An idle server took up to 4.4 s from SIGTERM to its end (0.18.0 on an H200).

LMDeploy sets no limit for a drain, so the grace period is the only one.
"""

REMOTE_CODE_FLAG_SINCE = release("0.13.0")
"""Before, every model's code was run and the flag did not exist (lmdeploy/cli/serve.py)."""
CONVERTS_UNTIL = release("0.10.0")
"""First release without `lmdeploy convert` and without the loading of its workspaces (lmdeploy/cli)."""
SERVES_SINCE = release("0.10.2")
"""Before, the PyTorch backend reads pickles from its own TCP port on every address (GHSA-5h8j-6crg-7rmw;
lmdeploy/pytorch/engine/mp_engine/zmq_rpc.py), which no filter of HTTP requests closes."""
FP8_KV_SINCE = release("0.14.0")
CU128_IMAGES_SINCE = release("0.10.0")
"""First release whose build publishes `-cu12.8` (.github/workflows/docker.yml at the tags)."""

QUANT_POLICY = {"None": 0, "Int4": 4, "Int8": 8, "FP8": 16}
MODEL_FORMAT = {"AWQ": "awq", "GPTQ": "gptq", "CompressedTensors": "compressed-tensors", "FP8": "fp8", "MXFP4": "mxfp4"}
"""HF is missing: it is the default, and the PyTorch backend dies of `hf`, also after TurboMind's silent fallback."""

_ONE_POD = "spreads one replica over more GPUs or nodes than a pod of the operator has: use spec.replicas"
RULES = Rules(
    owned={
        "--server-name": "the pod's address",
        "--server-port": "the pod's port",
        "--download-dir": "the pod's cache volume",
        "--enable-metrics": "metrics are always on",
        "--tp": "spec.parallelism.tensor",
        "--session-len": "spec.contextLength",
        "--max-batch-size": "spec.maxConcurrentSequences",
        "--cache-max-entry-count": "spec.kvCache.memoryPercent",
        "--num-gpu-blocks": "spec.kvCache.memoryPercent",
        "--quant-policy": "spec.kvCache.quantization",
        "--enable-prefix-caching": "spec.kvCache.prefixCaching",
        "--model-format": "spec.model.format",
        "--model-name": "spec.model.servedName",
        "--revision": "spec.model.huggingFace.revision",
        "--trust-remote-code": "spec.model.trustRemoteCode",
        "--backend": "spec.engine.backend",
        "--api-keys": "spec.engine.apiKey",
    },
    refused={
        "--dp": _ONE_POD,
        "--nnodes": _ONE_POD,
        "--node-rank": _ONE_POD,
        "--dist-init-addr": _ONE_POD,
        "--ssl": "makes the probes of the pod fail, which speak plain HTTP: end TLS in front of the Service",
        "--proxy-url": "registers the pod under 0.0.0.0: use the Service that the operator makes",
    },
    catalogues={
        "--tool-call-parser": "tool_parsers",
        "--reasoning-parser": "reasoning_parsers",
        "--chat-template": "chat_templates",
    },
    needs={},
)

# Which backend reads an option (lmdeploy/cli/serve.py); the other one ignores it without a word.
PYTORCH_ONLY = frozenset(
    {
        "--adapters",
        "--device",
        "--eager-mode",
        "--kernel-block-size",
        "--distributed-executor-backend",
        "--speculative-algorithm",
        "--speculative-draft-model",
        "--speculative-num-draft-tokens",
        "--speculative-dflash-block-size",
        "--kv-transfer-config",
        "--role",
        "--migration-backend",
        "--enable-eplb",
        "--enable-microbatch",
        "--cudagraph-capture-batch-sizes",
        "--empty-init",
        "--piecewise-cudagraph-max-tokens",
        "--prefix-cache-state-budget",
        "--prefix-cache-decode-state-interval",
    }
)
TURBOMIND_ONLY = frozenset(
    {
        "--cp",
        "--communicator",
        "--rope-scaling-factor",
        "--num-tokens-per-iter",
        "--max-prefill-iters",
        "--async",
        "--moe-a2a-backend",
    }
)

OWNED_VARIABLES: Mapping[str, str] = {
    common.API_KEY_VARIABLE: "spec.engine.apiKey says it",
    "LMDEPLOY_USE_MODELSCOPE": "spec.model.modelScope says it",
}


def default_image(version: str) -> str:
    """The project's published image of a version."""
    suffix = "cu12.8" if release(version) >= CU128_IMAGES_SINCE else "cu12"
    return f"openmmlab/lmdeploy:v{version}-{suffix}"


def resolve_backend(spec: LLMDeploymentSpec, table: Capabilities, architecture: str | None) -> Backend:
    """The backend that will run, so that LMDeploy's own silent fallback never decides (lmdeploy/archs.py).

    Raises:
        RefusedError: TurboMind was requested and does not know the architecture.
    """
    known = table.names["turbomind_architectures"]
    supported = architecture is None or architecture in known
    if spec.engine.backend == "TurboMind" and not supported:
        text = (
            f"TurboMind of LMDeploy {table.version} does not support {architecture}; expected one of "
            f"{', '.join(sorted(known))}; use backend PyTorch, or leave backend out"
        )
        raise RefusedError((wrong_field("UnsupportedArchitecture", "spec.engine.backend", text),))
    return spec.engine.backend or ("TurboMind" if supported else "PyTorch")


def check(spec: LLMDeploymentSpec, table: Capabilities, backend: Backend | None) -> tuple[Problem, ...]:
    """What LMDeploy of this version would refuse, ignore or do differently; backend None: not decided yet."""
    return (
        *_check_release(spec, table, backend),
        *_check_model(spec, table, backend),
        *_check_conversion(spec, table),
        *_check_kv_cache(spec, table, backend),
        *_check_names(spec, table),
        *common.check_chat_template(spec, f"LMDeploy {table.version}", "JSON", (".jinja", ".jinja2", ".j2")),
        *common.check_environment(spec, OWNED_VARIABLES),
        *check_arguments(NAME, table, RULES, spec.engine.extra_args),
        *_check_backend_arguments(spec, backend),
    )


def serves(version: str) -> bool:
    """Whether the operator serves with this release, besides workspaces of TurboMind that no newer one reads."""
    return release(version) >= SERVES_SINCE


def _check_release(spec: LLMDeploymentSpec, table: Capabilities, backend: Backend | None) -> list[Problem]:
    # TurboMind opens no such port (lmdeploy/serve/openai/api_server.py), and a workspace is for TurboMind only.
    if serves(table.version) or (spec.engine.conversion == "TurboMind" and backend != "PyTorch"):
        return []
    text = (
        f"LMDeploy {table.version} can run code that anyone in the cluster sends it (GHSA-5h8j-6crg-7rmw): "
        "set version to 0.10.2 or newer"
    )
    return [wrong_field("InsecureEngineVersion", "spec.engine.version", text)]


def _check_model(spec: LLMDeploymentSpec, table: Capabilities, backend: Backend | None) -> list[Problem]:
    refusals = []
    if table.release < REMOTE_CODE_FLAG_SINCE and not spec.model.trust_remote_code:
        text = (
            f"LMDeploy {table.version} always runs code of the model's repository, which trustRemoteCode: false "
            "forbids; set it to true to accept that, or use version 0.13.0 or newer"
        )
        refusals.append(wrong_field("RemoteCodeAlwaysTrusted", "spec.model.trustRemoteCode", text))
    word = MODEL_FORMAT.get(spec.model.format)
    choices = table.options["--model-format"].choices
    if word is not None and choices and word not in choices:
        text = (
            f"LMDeploy {table.version} does not read {spec.model.format}; it reads {', '.join(choices)}: "
            "use Auto or a newer version"
        )
        refusals.append(wrong_field("UnsupportedFormat", "spec.model.format", text))
    elif backend == "PyTorch" and spec.model.format in _not_for_pytorch(table):
        text = (
            f"LMDeploy's PyTorch backend {table.version} does not read {spec.model.format} "
            "(lmdeploy/pytorch/config.py): use backend TurboMind, or engine VLLM"
        )
        refusals.append(wrong_field("UnsupportedFormat", "spec.model.format", text))
    return refusals


def _check_names(spec: LLMDeploymentSpec, table: Capabilities) -> list[Problem]:
    if len(spec.model.served_names or ()) < 2 or table.options["--model-name"].takes != "1":
        return []
    text = (
        f"LMDeploy {table.version} serves a model under one name (--model-name takes one value): give one name, or "
        "use engine VLLM"
    )
    return [wrong_field("UnsupportedServedNames", "spec.model.servedNames", text)]


def _not_for_pytorch(table: Capabilities) -> set[str]:
    return {"GPTQ", "MXFP4"} | ({"CompressedTensors"} if table.release < release("0.17.0") else set())


def _check_conversion(spec: LLMDeploymentSpec, table: Capabilities) -> list[Problem]:
    if spec.engine.conversion == "None" or table.release < CONVERTS_UNTIL:
        return []
    text = (
        f"LMDeploy {table.version} has no `lmdeploy convert`: TurboMind reads Hugging Face weights directly since "
        "0.10.0; remove conversion, or set version to 0.9.2.post1"
    )
    return [wrong_field("ConversionUnsupported", "spec.engine.conversion", text)]


def _check_kv_cache(spec: LLMDeploymentSpec, table: Capabilities, backend: Backend | None) -> list[Problem]:
    field = "spec.kvCache.quantization"
    if spec.kv_cache.quantization != "FP8":
        return []
    if backend == "TurboMind":
        text = "TurboMind takes no FP8 KV cache: use Int8 or Int4, or engine.backend PyTorch"
        return [wrong_field("UnsupportedKVQuantization", field, text)]
    if table.release < FP8_KV_SINCE:
        text = f"LMDeploy {table.version} has no FP8 KV cache: use Int8 or Int4, or version 0.14.0 or newer"
        return [wrong_field("UnsupportedKVQuantization", field, text)]
    return []


def _check_backend_arguments(spec: LLMDeploymentSpec, backend: Backend | None) -> list[Problem]:
    foreign = {"TurboMind": PYTORCH_ONLY, "PyTorch": TURBOMIND_ONLY}.get(backend or "", frozenset())
    written = {word.partition("=")[0] for word in spec.engine.extra_args}
    other = "PyTorch" if backend == "TurboMind" else "TurboMind"
    return [
        wrong_field(
            "IgnoredArgument",
            FIELD,
            f"{name} is read by backend {other} only: remove it, or use engine.backend {other}",
        )
        for name in sorted(written & foreign)
    ]


def render(request: RenderRequest, table: Capabilities) -> EngineRun:
    """The pod's part of LMDeploy.

    Raises:
        RefusedError: see check() and resolve_backend().
    """
    spec = request.spec
    backend = request.backend or resolve_backend(spec, table, request.architecture)
    refusals = check(spec, table, backend)
    if refusals:
        raise RefusedError(refusals)
    served_name = spec.model.names(request.name)[0]
    options = _options(request, table, backend, served_name)
    return common.run(
        request,
        type=NAME,
        version=table.version,
        backend=backend,
        default_image=default_image(table.version),
        command=guard.guarded(COMMAND),
        # The model first: --api-keys and others take any number of values and would swallow it.
        args=(common.model_path(request), *options),
        variables=_variables(request),
        port=PORT,
        metrics_need_key=True,
        exit_margin_seconds=EXIT_MARGIN_SECONDS,
        served_name=served_name,
    )


def _options(request: RenderRequest, table: Capabilities, backend: Backend, served_name: str) -> list[str]:
    spec = request.spec
    ratio = request.kv.ratio_percent or spec.kv_cache.memory_percent
    wanted: dict[str, str | int | None] = {
        "--backend": backend.lower(),
        "--server-name": guard.HOST,
        "--server-port": PORT,
        "--model-name": served_name,
        "--tp": request.tensor,
        "--session-len": request.context_length or spec.context_length,
        "--max-batch-size": spec.max_concurrent_sequences,
        "--cache-max-entry-count": None if ratio is None else f"{ratio / 100:.2f}",
        "--quant-policy": QUANT_POLICY[spec.kv_cache.quantization],
        "--model-format": MODEL_FORMAT.get(spec.model.format),
        "--revision": common.revision(request),
        "--chat-template": common.chat_template_path(spec, CHAT_TEMPLATE),
    }
    if backend == "PyTorch" and request.tensor > 1 and not common.given(spec, "--distributed-executor-backend"):
        # The default is ray, which wants more shared memory and its own processes for GPUs of the same pod.
        wanted["--distributed-executor-backend"] = "mp" if "--distributed-executor-backend" in table.options else None
    words = [word for name, value in wanted.items() if value is not None for word in (name, str(value))]
    if spec.kv_cache.prefix_caching:
        words.append("--enable-prefix-caching")
    if spec.model.trust_remote_code and "--trust-remote-code" in table.options:
        words.append("--trust-remote-code")
    if "--enable-metrics" in table.options:  # on by default since 0.11
        words.append("--enable-metrics")
    if not common.given(spec, "--allow-origins"):
        # The default lets every web page read answers; no page has an empty origin.
        words.append("--allow-origins=")
    if spec.engine.api_key is not None:
        # With `=` a key that begins with a dash stays a value.
        words.append(f"--api-keys=$({common.API_KEY_VARIABLE})")
    return words


def _variables(request: RenderRequest) -> list[dict[str, Any]]:
    spec = request.spec
    variables = common.model_variables(request, "LMDEPLOY_USE_MODELSCOPE")
    if spec.engine.api_key is not None:
        variables.append(common.secret_variable(common.API_KEY_VARIABLE, spec.engine.api_key))
    return variables
