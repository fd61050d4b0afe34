"""vLLM: arguments for an image whose entrypoint is `vllm serve`.

Facts are of vLLM 0.33.0 unless a version is named; paths are inside its wheel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_operator.api.quantity import bytes_of
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common, guard
from llm_operator.engines.arguments import LONGEST_NUMBER, Rules, check_arguments, is_adapter
from llm_operator.engines.table import Capabilities, release
from llm_operator.engines.types import EngineRun, RefusedError, RenderRequest
from llm_operator.engines.vllm.batch import TOKENS, Batch, batched_tokens, check_batch
from llm_operator.problems import Problem, wrong_field

NAME = "VLLM"
PORT = 8000
CHAT_TEMPLATE = "template.jinja"
"""File of spec.model.chatTemplate (vllm/renderers/chat_utils/chat_template.py)."""
COMMAND = ("vllm", "serve")
"""As the image's entrypoint has it."""

EXIT_MARGIN_SECONDS = 20
"""With --shutdown-timeout 30 a stream ended after 20.4 s and the process after 29.2 s (0.32.0 for CPU)."""

KV_CACHE_DTYPE = {"None": "auto", "Int8": "int8_per_token_head", "Int4": "int4_per_token_head", "FP8": "fp8"}
"""There is no plain int8 or int4 (vllm/config/cache.py)."""
QUANTIZATION = {"AWQ": "awq", "GPTQ": "gptq", "CompressedTensors": "compressed-tensors", "FP8": "fp8", "MXFP4": "mxfp4"}

FORCES_SLOW_KERNEL_UNTIL = {"GPTQ": release("0.22.0"), "AWQ": release("0.24.0")}
"""Before these releases `--quantization gptq` or `awq` keeps vLLM from its Marlin kernel, which it takes when
config.json alone says the format; gptq then refuses bfloat16 (0.20.2, model_executor/layers/quantization)."""

_OTHER_PODS = (
    "--pipeline-parallel-size",
    "--prefill-context-parallel-size",
    "--nnodes",
    "--node-rank",
    "--headless",
    "--master-addr",
    "--master-port",
    "--data-parallel-size",
    "--data-parallel-rank",
    "--data-parallel-start-rank",
    "--data-parallel-size-local",
    "--data-parallel-address",
    "--data-parallel-rpc-port",
    "--data-parallel-backend",
    "--data-parallel-hybrid-lb",
    "--data-parallel-external-lb",
    "--data-parallel-multi-port-external-lb",
    "--data-parallel-supervisor-port",
)
_TLS = (
    "--ssl-keyfile",
    "--ssl-certfile",
    "--ssl-ca-certs",
    "--ssl-cert-reqs",
    "--ssl-ciphers",
    "--enable-ssl-refresh",
)
UTILIZATION = "--gpu-memory-utilization"
RULES = Rules(
    owned={
        "--model": "spec.model",
        "--host": "the pod's address",
        "--port": "the pod's port",
        "--download-dir": "the pod's cache volume",
        "--shutdown-timeout": "spec.drainTimeoutSeconds",
        "--tensor-parallel-size": "spec.parallelism.tensor",
        "--max-model-len": "spec.contextLength",
        "--max-num-seqs": "spec.maxConcurrentSequences",
        "--kv-cache-memory-bytes": "spec.kvCache.memory",
        "--num-gpu-blocks-override": "spec.kvCache.memory",
        "--kv-cache-dtype": "spec.kvCache.quantization",
        "--enable-prefix-caching": "spec.kvCache.prefixCaching",
        "--quantization": "spec.model.format",
        "--served-model-name": "spec.model.servedName",
        "--revision": "spec.model.huggingFace.revision",
        "--trust-remote-code": "spec.model.trustRemoteCode",
        "--api-key": "spec.engine.apiKey",
    },
    refused={
        "--config": "would set options out of the operator's sight: give them in extraArgs",
        "--uds": "replaces the port that the Service and the probes use: remove it",
        "--device-ids": "chooses GPUs that the device plugin has chosen already: remove it",
        "--grpc-port": "needs another server, which does not keep clients from the engine's management API: remove it",
        "--grpc": "replaces the HTTP API that the Service and the probes use: remove it",
        **dict.fromkeys(_OTHER_PODS, "spreads one replica over more GPUs or nodes than its pod has: use spec.replicas"),
        **dict.fromkeys(_TLS, "makes the pod's probes fail, which speak plain HTTP: end TLS in front of the Service"),
    },
    catalogues={
        "--tool-call-parser": "tool_parsers",
        "--reasoning-parser": "reasoning_parsers",
        "--load-format": "load_formats",
    },
    # vllm/entrypoints/common/cli_args.py, validate_parsed_serve_args
    needs={"--enable-auto-tool-choice": "--tool-call-parser", "--enable-log-outputs": "--enable-log-requests"},
    shapes={"--lora-modules": (is_adapter, "adapter: NAME=PATH, or a JSON object with name and path")},
)

MARLIN_VARIABLE = "VLLM_MXFP4_USE_MARLIN"
MARLIN_VARIABLE_UNTIL = release("0.26.0")
_TRUE = frozenset({"1", "true", "True"})

OWNED_VARIABLES: Mapping[str, str] = {
    "VLLM_API_KEY": "spec.engine.apiKey says it",
    "VLLM_USE_MODELSCOPE": "spec.model.modelScope says it",
    "VLLM_SERVER_DEV_MODE": "it lets clients run code in the engine",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "it lets clients load files of the pod",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "it lets requests carry pickles, which run code",
    "VLLM_USE_RUST_FRONTEND": "its server does not keep clients from the engine's management API",
    "VLLM_RUST_FRONTEND_PATH": "its server does not keep clients from the engine's management API",
    "VLLM_PORT": "it sets a port of the workers, not of the API, and vLLM chooses it",
}

MODES_OFF: Mapping[str, str] = dict.fromkeys(
    (
        "VLLM_SERVER_DEV_MODE",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
        "VLLM_ALLOW_INSECURE_SERIALIZATION",
        "VLLM_USE_RUST_FRONTEND",
    ),
    "0",
)
"""Read as an integer or as a word (0.20.2 and 0.33.0, vllm/envs.py); without a frontend its path says nothing."""


def default_image(version: str) -> str:
    """The project's published image of a version."""
    return f"vllm/vllm-openai:v{version}"


def check(spec: LLMDeploymentSpec, table: Capabilities) -> tuple[Problem, ...]:
    """What vLLM of this version would refuse or do differently."""
    return _check(spec, table, Batch(spec.max_concurrent_sequences, spec.context_length))


def _check(spec: LLMDeploymentSpec, table: Capabilities, batch: Batch) -> tuple[Problem, ...]:
    against_arguments = check_arguments(NAME, table, RULES, spec.engine.extra_args)
    return (
        *_check_kv_cache(spec, table),
        *_check_utilization(spec),
        *common.check_chat_template(spec, f"vLLM {table.version}", "Jinja", (".json",)),
        *common.check_environment(spec, OWNED_VARIABLES),
        # What an option says beside others is of interest once it is one.
        *(against_arguments or check_batch(spec, batch)),
    )


def _check_kv_cache(spec: LLMDeploymentSpec, table: Capabilities) -> list[Problem]:
    wanted = KV_CACHE_DTYPE[spec.kv_cache.quantization]
    if wanted in table.names["kv_cache_dtypes"]:
        return []
    possible = [word for word, dtype in KV_CACHE_DTYPE.items() if dtype in table.names["kv_cache_dtypes"]]
    text = (
        f"vLLM {table.version} has no KV cache of type {wanted}; expected one of {', '.join(possible)}, "
        "or a newer engine.version"
    )
    return [wrong_field("UnsupportedKVQuantization", "spec.kvCache.quantization", text)]


def expert_kernels_given(spec: LLMDeploymentSpec) -> str:
    """Return the kernels of experts that extraArgs or the environment set; empty: vLLM chooses.

    0.20.2 to 0.33.0, fused_moe/oracle/mxfp4.py: `--moe-backend` decides; 0.26.0 no longer reads the variable.
    """
    named = (common.value_given(spec, "--moe-backend") or "auto").lower()
    if named != "auto":
        return named
    version = spec.engine.version
    if version is None or release(version) >= MARLIN_VARIABLE_UNTIL:
        return ""
    forced = any(variable.name == MARLIN_VARIABLE and variable.value in _TRUE for variable in spec.engine.env)
    return "marlin" if forced else ""


def utilization_given(spec: LLMDeploymentSpec) -> float | None:
    """The share of the GPU's memory that extraArgs give vLLM; None without one, or if it is not a share."""
    text = common.value_given(spec, UTILIZATION)
    try:
        share = float(text) if text is not None and len(text) <= LONGEST_NUMBER else 0.0
    except ValueError:
        return None
    return share if 0 < share <= 1 else None


def _check_utilization(spec: LLMDeploymentSpec) -> list[Problem]:
    """A share of the total in extraArgs sizes the cache in vLLM's own way, beside which no field may size it."""
    if not common.given(spec, UTILIZATION):
        return []
    cache, field = spec.kv_cache, "spec.engine.extraArgs"
    set_too = "spec.kvCache.memoryPercent" if cache.memory_percent is not None else "spec.kvCache.memory"
    if cache.memory_percent is not None or cache.memory is not None:
        text = f"{UTILIZATION} and {set_too} both size the KV cache: remove one of them"
        return [wrong_field("ConflictingArgument", field, text)]
    if utilization_given(spec) is None:
        text = f"{UTILIZATION} is a share of the GPU's memory: expected more than 0 and at most 1, such as 0.9"
        return [wrong_field("InvalidArgument", field, text)]
    return []


def _check_share(request: RenderRequest) -> list[Problem]:
    kv, cache = request.kv, request.spec.kv_cache
    if cache.memory_percent is None or cache.memory is not None:
        return []
    if kv.kv_cache_memory_bytes is not None or kv.utilization_percent is not None:
        return []
    text = (
        "memoryPercent cannot be computed for vLLM, which takes bytes: that needs the sizes of model and GPU; "
        "set kvCache.memory instead"
    )
    return [wrong_field("MemoryShareUnknown", "spec.kvCache.memoryPercent", text)]


def render(request: RenderRequest, table: Capabilities) -> EngineRun:
    """The pod's part of vLLM.

    Raises:
        RefusedError: see check(); and a memoryPercent that no one has turned into bytes.
    """
    spec = request.spec
    refusals = (*_check(spec, table, _batch(request)), *_check_share(request))
    if refusals:
        raise RefusedError(refusals)
    served_names = spec.model.names(request.name)
    return common.run(
        request,
        type=NAME,
        version=table.version,
        backend=None,
        default_image=default_image(table.version),
        command=guard.guarded(COMMAND),
        args=(common.model_path(request), *_options(request, table, served_names)),
        variables=_variables(request),
        port=PORT,
        metrics_need_key=False,
        exit_margin_seconds=EXIT_MARGIN_SECONDS,
        served_name=served_names[0],
    )


def _batch(request: RenderRequest) -> Batch:
    spec = request.spec
    return Batch(
        sequences=spec.max_concurrent_sequences or request.kv.max_sequences,
        context=request.context_length or spec.context_length,
        tokens=request.kv.max_batched_tokens,
    )


def _options(request: RenderRequest, table: Capabilities, served_names: Sequence[str]) -> list[str]:
    spec, batch = request.spec, _batch(request)
    size = request.kv.kv_cache_memory_bytes
    if size is None and spec.kv_cache.memory is not None:
        size = bytes_of(spec.kv_cache.memory)
    share = None if common.given(spec, UTILIZATION) else request.kv.utilization_percent
    wanted: dict[str, str | int | None] = {
        "--host": "0.0.0.0",  # noqa: S104 - the pod's own network
        "--port": PORT,
        "--served-model-name": served_names[0],
        "--tensor-parallel-size": request.tensor,
        "--max-model-len": batch.context,
        "--max-num-seqs": batch.sequences,
        TOKENS: batched_tokens(spec, batch),
        "--kv-cache-dtype": KV_CACHE_DTYPE[spec.kv_cache.quantization],
        "--kv-cache-memory-bytes": size,
        UTILIZATION: None if share is None else f"{share / 100:.2f}",
        "--quantization": _quantization(spec, table),
        "--revision": common.revision(request),
        "--chat-template": common.chat_template_path(spec, CHAT_TEMPLATE),
        # Without it SIGTERM cuts running streams (0.32.0: after 0.02 s).
        "--shutdown-timeout": spec.drain_timeout_seconds if "--shutdown-timeout" in table.options else None,
    }
    words = [word for name, value in wanted.items() if value is not None for word in (name, str(value))]
    after = words.index("--served-model-name") + 2
    words[after:after] = served_names[1:]
    words.append("--enable-prefix-caching" if spec.kv_cache.prefix_caching else _no_prefix_caching(table))
    if spec.model.trust_remote_code:
        words.append("--trust-remote-code")
    if not common.given(spec, "--allowed-origins"):
        # The default lets every web page read answers.
        words.append("--allowed-origins=[]")
    return words


def _no_prefix_caching(table: Capabilities) -> str:
    # 0.33.0 still reads the old word, but only as a rewritten one (vllm/utils/argparse_utils.py).
    return "--disable-prefix-caching" if "--disable-prefix-caching" in table.options else "--no-enable-prefix-caching"


def _quantization(spec: LLMDeploymentSpec, table: Capabilities) -> str | None:
    forced_until = FORCES_SLOW_KERNEL_UNTIL.get(spec.model.format)
    if forced_until is not None and table.release < forced_until:
        return None
    return QUANTIZATION.get(spec.model.format)


def _variables(request: RenderRequest) -> list[dict[str, Any]]:
    spec = request.spec
    variables = common.model_variables(request, "VLLM_USE_MODELSCOPE")
    # The key as a variable stays out of the process list.
    if spec.engine.api_key is not None:
        variables.append(common.secret_variable("VLLM_API_KEY", spec.engine.api_key))
    # Usage statistics would leave the cluster without anyone's request.
    variables.append({"name": "VLLM_NO_USAGE_STATS", "value": "1"})
    return variables
