"""An estimate as a plan: every number with the formula it comes from and the formula's inputs."""

from __future__ import annotations

from llm_operator.memory.budget import Estimate
from llm_operator.memory.types import Term
from llm_operator.planning.engine import memory_of
from llm_operator.planning.types import Plan
from llm_operator.planning.weights import weight_groups

MODEL = "config.json, tensors of the architecture"


def as_plan(found: Estimate) -> Plan:
    """Return the plan with settings and explanation."""
    request = found.request
    engine = memory_of(request)
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
        settings=engine.settings(found),
        terms=(
            _weights(found),
            _free(found),
            engine.cache_term(found),
            _per_token(found),
            engine.tokens_term(found),
            _requests(found),
        ),
        overheads=tuple(part for part in profile if part.high or part.likely),
    )


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


def _per_token(found: Estimate) -> Term:
    request = found.request
    attention, compressed = request.shape.attention, request.shape.compressed
    inputs: dict[str, int | float | str] = {
        "layers": request.shape.layers,
        "kvHeads": attention[0].kv_heads if attention else 1,
        "headDim": attention[0].key_dim if attention else compressed[0].width,
        "kvQuantization": request.kv_quantization.value,
        "tensor": found.tensor,
    }
    if compressed:
        formula = "bytes of a block of the groups that keep everything / its tokens"
        return Term("kvBytesPerToken", found.per_token, "bytes", formula, inputs)
    formula = "sum over layers of KV heads on a rank * (bytes of K + bytes of V); a latent once"
    return Term("kvBytesPerToken", found.per_token, "bytes", formula, inputs)


def _requests(found: Estimate) -> Term:
    inputs: dict[str, int | float | str] = {
        "blocks": found.likely.blocks,
        "context": found.context,
        "maxSequences": found.batch.sequences,
    }
    formula = "min(blocks / blocks of one request of the context, maxSequences)"
    return Term("maxConcurrentRequests", found.requests, "requests", formula, inputs)
