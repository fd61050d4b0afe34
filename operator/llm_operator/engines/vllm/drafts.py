"""Speculative decoding: what vLLM keeps and loads for the tokens that a draft proposes.

Sources: vLLM 0.33.0, config/speculative.py, v1/kv_cache_interface.py (MambaSpec) and layers/mamba/mamba_utils.py. A
public start of Qwen3.6-27B with three tokens logged tokens that are a whole number of these blocks. What the layer's
weights take was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common
from llm_operator.foreign import read_object
from llm_operator.memory.types import MIB, Draft, Overhead, PlanRequest
from llm_operator.memory.weights import even_share, quantization_in_force
from llm_operator.models import AttentionKind, Role

OPTIONS = ("--speculative-config", "-sc")
WITHOUT_WEIGHTS = frozenset({"ngram", "ngram_gpu", "suffix"})
MOST_TOKENS = 64
SOURCE = "vLLM 0.33.0, models/*_mtp.py: one layer more, and a matrix from two hidden states to one"
_ATTENTION = frozenset(
    {
        Role.QUERY,
        Role.KEY_VALUE,
        Role.ATTENTION_OUTPUT,
        Role.LATENT_DOWN,
        Role.LATENT_QUERY,
        Role.LATENT_KEY_VALUE,
    }
)
_EXPERTS = frozenset({Role.EXPERT_GATE_UP, Role.EXPERT_DOWN, Role.ROUTER})
_NETWORK = frozenset({Role.GATE_UP, Role.DOWN})


def draft_given(spec: LLMDeploymentSpec) -> Draft | None:
    """The draft of --speculative-config; None without one, and for a value that vLLM refuses."""
    config = read_object(next((value for name in OPTIONS if (value := common.value_given(spec, name))), None))
    tokens, method = config.get("num_speculative_tokens"), str(config.get("method") or "")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 < tokens <= MOST_TOKENS:
        return None
    own = method.endswith("mtp")
    return Draft(tokens, own_layer=own, other_model=not own and method not in WITHOUT_WEIGHTS)


def draft_layer(request: PlanRequest, tensor: int) -> tuple[Overhead, ...]:
    """Return what the model's own draft layer takes on one rank: one more with attention, and experts if it has any.

    Embedding and head are the model's. Some files hold the layer in 16 bit beside quantized ones: that is the bound.
    """
    if request.draft is None or not request.draft.own_layer:
        return ()
    shape, how = request.shape, quantization_in_force(request)
    whole = (group.layers for group in shape.attention if group.kind is not AttentionKind.INDEX)
    attending = sum(whole) + sum(group.layers for group in shape.compressed)
    network = _EXPERTS if shape.experts is not None else _NETWORK
    sparse = shape.experts.layers if shape.experts is not None else shape.layers
    likely, most = 0.0, 0
    for piece in shape.tensors:
        layers = attending if piece.role in _ATTENTION else sparse if piece.role in network or piece.shared else 0
        if not layers or piece.columns == 1:
            continue
        elements = _each(piece.count, layers) * _product(even_share(piece, request, tensor))
        most += 2 * elements
        likely += elements * (how.bits / 8 if how is not None and piece.role in _EXPERTS else 2)
    joined = 2 * 2 * shape.hidden_size * shape.hidden_size
    taken = int(likely) + joined
    return (Overhead("draft layer", taken, (most + joined) * 11 // 10 + 64 * MIB, SOURCE),)


def _each(count: int, layers: int) -> int:
    """Return how many of `count` tensors one of `layers` layers has, at least one."""
    return max(-(-count // max(layers, 1)), 1)


def _product(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def notes(request: PlanRequest) -> Iterator[str]:
    """Yield what a plan does not count of a draft."""
    if request.draft is not None and request.draft.other_model:
        yield (
            "the draft model of --speculative-config is not counted, neither its weights nor its KV cache: lower"
            " kvCache.memoryPercent, or set kvCache.memory, to leave it room"
        )
