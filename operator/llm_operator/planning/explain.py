"""An estimate as a plan: every number with the formula it comes from and the formula's inputs."""

from __future__ import annotations

import math

from llm_operator.planning.cache import LMDEPLOY_BLOCK, VLLM_BLOCK, slab_bytes
from llm_operator.planning.estimate import Estimate
from llm_operator.planning.runtime import default_batch
from llm_operator.planning.types import VLLM_DEFAULT_UTILIZATION, Backend, Engine, EngineSettings, Plan, Term
from llm_operator.planning.weights import weight_groups

# What a rank of vLLM has taken when it checks the free memory: v1/worker/gpu_worker.py, init_device.
AT_THE_FIRST_CHECK = ("context", "libraries", "NCCL")
MODEL = "config.json, tensors of the architecture"


def as_plan(found: Estimate) -> Plan:
    """Return the plan with settings and explanation."""
    request = found.request
    profile = found.profile or (*found.runtime.before, *found.runtime.after)
    return Plan(
        tensor=found.tensor,
        gpus_per_replica=found.tensor,
        gpu_memory_bytes=request.gpu.memory_bytes,
        weight_bytes_per_gpu=found.weights.total,
        kv_bytes_per_gpu=found.budget,
        kv_bytes_per_token=found.per_token,
        kv_tokens=found.likely.tokens,
        kv_tokens_low=min(found.low.tokens, found.likely.tokens),
        max_concurrent_requests=found.requests,
        context_length=found.context,
        memory_percent=found.percent,
        settings=_settings(found),
        terms=(_weights(found), _free(found), _cache(found), _per_token(found), _tokens(found), _requests(found)),
        overheads=tuple(part for part in profile if part.high),
    )


def _settings(found: Estimate) -> EngineSettings:
    vllm = found.request.engine is Engine.VLLM
    share = found.request.gpu_memory_utilization
    return EngineSettings(
        tensor=found.tensor,
        context_length=found.context or None,
        vllm_max_sequences=_lowered(found.batch.sequences, default_batch(found.request).sequences),
        vllm_max_batched_tokens=_lowered(found.batch.tokens, default_batch(found.request).tokens),
        lmdeploy_ratio_percent=None if vllm else found.percent or None,
        vllm_kv_cache_memory_bytes=(found.budget or None) if vllm and share is None else None,
        vllm_gpu_memory_utilization=share if share is not None or not vllm else _passing_share(found),
    )


def _passing_share(found: Estimate) -> float | None:
    """Return a utilization that vLLM's first check passes; None where its default does.

    With a cache in bytes the share sizes nothing, but vLLM still refuses to start where less is free than the share of
    the total, and each rank has taken its context and NCCL's buffers by then (0.33.0, v1/worker/utils.py,
    request_memory). On small cards these are more than the eight percent that the default leaves.
    """
    total = found.request.gpu.memory_bytes
    free = total - sum(part.high for part in found.runtime.before if part.name in AT_THE_FIRST_CHECK)
    if math.ceil(total * VLLM_DEFAULT_UTILIZATION) <= free:
        return None
    return max(100 * free // total - 2, 1) / 100


def _lowered(planned: int, default: int) -> int | None:
    return planned if planned != default else None


def _weights(found: Estimate) -> Term:
    shape = found.request.shape
    inputs: dict[str, int | float | str] = {
        "parameters": shape.parameters,
        "tensor": found.tensor,
        "dtype": shape.dtype,
        **weight_groups(found.request, found.tensor),
        "extra": found.weights.extra,
    }
    formula = "sum over the rank's tensors of rows * columns * bytes, by group, + what the engine adds"
    return Term("weightBytesPerGpu", found.weights.total, "bytes", formula, inputs, MODEL)


def _free(found: Estimate) -> Term:
    inputs: dict[str, int | float | str] = {
        "total": found.request.gpu.memory_bytes,
        "weights": found.weights.total,
        "overheads": found.runtime.before_likely,
    }
    return Term("freeBytes", found.free, "bytes", "total - weights - overheads before the cache", inputs, "likely")


def _cache(found: Estimate) -> Term:
    request = found.request
    name, unit = "kvBytesPerGpu", "bytes"
    if request.gpu_memory_utilization is not None:
        inputs: dict[str, int | float | str] = {
            "total": request.gpu.memory_bytes,
            "utilization": request.gpu_memory_utilization,
            "weights": found.weights.total,
            "profile": sum(part.likely for part in found.profile),
        }
        formula = "ceil(utilization * total) - weights - profile"
        return Term(name, found.budget, unit, formula, inputs, "vLLM v1/worker/gpu_worker.py")
    if request.kv_memory_bytes is not None:
        return Term(name, found.budget, unit, "as given", {"kvCache.memory": request.kv_memory_bytes})
    inputs = {"memoryPercent": found.percent or 0, "free": found.free, "mustStayFree": found.reserve}
    if found.set_aside:
        inputs["setAside"] = found.set_aside
        return Term(
            name,
            found.budget,
            unit,
            "memoryPercent / 100 * (free - setAside)",
            inputs,
            "LMDeploy pytorch/engine/executor",
        )
    source = "vLLM --kv-cache-memory-bytes" if request.engine is Engine.VLLM else "LMDeploy turbomind.cc"
    return Term(name, found.budget, unit, "memoryPercent / 100 * free", inputs, source)


def _per_token(found: Estimate) -> Term:
    request = found.request
    inputs: dict[str, int | float | str] = {
        "layers": request.shape.layers,
        "kvHeads": request.shape.attention[0].kv_heads,
        "headDim": request.shape.attention[0].key_dim,
        "kvQuantization": request.kv_quantization.value,
        "tensor": found.tensor,
    }
    formula = "sum over layers of KV heads on a rank * (bytes of K + bytes of V); a latent once"
    return Term("kvBytesPerToken", found.per_token, "bytes", formula, inputs)


def _tokens(found: Estimate) -> Term:
    request = found.request
    inputs: dict[str, int | float | str] = {
        "kvBytes": found.budget,
        "blocks": found.likely.blocks,
        "blockBytes": found.likely.block_bytes,
    }
    if request.engine is Engine.VLLM:
        inputs["blockTokens"] = VLLM_BLOCK
        inputs["context"] = found.context
        formula = "blocks / blocks of one request of the context * context"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "vLLM v1/core/kv_cache_utils.py")
    inputs["blockTokens"] = LMDEPLOY_BLOCK
    if request.backend is Backend.TURBOMIND:
        inputs["slabBytes"] = slab_bytes(found.likely.block_bytes)
        formula = "whole slabs in kvBytes * whole blocks in a slab * blockTokens"
        return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "LMDeploy src/turbomind/memory")
    formula = "whole blocks in kvBytes * blockTokens"
    return Term("kvTokens", found.likely.tokens, "tokens", formula, inputs, "LMDeploy pytorch/engine/executor")


def _requests(found: Estimate) -> Term:
    inputs: dict[str, int | float | str] = {
        "blocks": found.likely.blocks,
        "context": found.context,
        "maxSequences": found.batch.sequences,
    }
    formula = "min(blocks / blocks of one request of the context, maxSequences)"
    return Term("maxConcurrentRequests", found.requests, "requests", formula, inputs)
