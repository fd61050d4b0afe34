"""Layers that keep a state per sequence: gated delta rule, Kimi's delta attention, Mamba 1 and 2, short convolutions.

Sizes of the states: vLLM 0.33.0, model_executor/layers/mamba/mamba_utils.py. Engines keep one token less than the
convolution is long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llm_operator.models.fields import Fields
from llm_operator.models.layers import Places, vector
from llm_operator.models.shape import Role, StateLayers, Tensor

Mixer = tuple[tuple[Tensor, ...], StateLayers]
FLOAT = 4


def _placed(places: Places, *tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(replace(tensor, places=places) for tensor in tensors)


def _inner(rows: int, columns: int, count: int) -> Tensor:
    """Return a matrix that is sharded by heads and never quantized: convolutions, decays."""
    return Tensor(Role.MIXER_IN, rows, columns, count, linear=False)


def gated_delta(fields: Fields, hidden: int, places: Places, *, split: bool) -> Mixer:
    """Qwen3-Next and 3.5: a gated delta rule. split: projections for q, k, v and for the gate are stored apart."""
    names = ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim")
    fields.require(*names)
    key_heads, value_heads, key_dim, value_dim = (fields.integer(name) for name in names)
    kernel, count = fields.integer("linear_conv_kernel_dim", 4), len(places)
    keys, values = key_heads * key_dim, value_heads * value_dim
    qkv = "linear_attn.in_proj_qkv" if split else "linear_attn.in_proj_qkvz"
    tensors = _placed(
        places,
        Tensor(Role.MIXER_IN, 2 * keys + values, hidden, count, module=qkv),
        Tensor(Role.MIXER_IN, values, hidden, count, module="linear_attn.in_proj_z" if split else qkv),
        Tensor(Role.MIXER_IN, 2 * value_heads, hidden, count, module="linear_attn.in_proj_ba"),
        Tensor(Role.MIXER_OUT, hidden, values, count, module="linear_attn.out_proj"),
        _inner(2 * keys + values, kernel, count),
        _inner(value_heads, 1, 2 * count),
        vector(value_dim, count),
    )
    wide = FLOAT if fields.string("mamba_ssm_dtype", "") == "float32" else None
    recurrent = value_dim * key_dim
    return tensors, StateLayers(count, values, key_heads, key_dim, kernel, value_heads, recurrent, wide)


def delta_attention(fields: Fields, hidden: int, places: Places, *, full_rank: bool = False) -> Mixer:
    """Kimi Linear: the delta rule with a gate for each channel. Sizes in linear_attn_config or, newer, beside it.

    full_rank: the gate of the output is one matrix as wide as the values, as in Kimi K3, instead of two narrow ones.
    """
    nested = Fields(fields.optional_object("linear_attn_config"), fields.architecture)
    heads = nested.integer("num_heads", fields.integer("linear_num_heads", 32))
    width = nested.integer("head_dim", fields.integer("linear_head_dim", 128))
    kernel = nested.integer("short_conv_kernel_size", fields.integer("linear_conv_kernel_dim", 4))
    count, inner = len(places), heads * width
    gate: tuple[Tensor, ...] = (
        Tensor(Role.REPLICATED, width, hidden, count, module="self_attn.g_a_proj"),
        Tensor(Role.MIXER_IN, inner, width, count, module="self_attn.g_b_proj"),
    )
    if full_rank:
        gate = (Tensor(Role.MIXER_IN, inner, hidden, count, module="self_attn.g_proj"),)
    tensors = _placed(
        places,
        *(Tensor(Role.MIXER_IN, inner, hidden, count, module=f"self_attn.{name}_proj") for name in "qkv"),
        Tensor(Role.REPLICATED, width, hidden, count, module="self_attn.f_a_proj"),
        *gate,
        Tensor(Role.MIXER_IN, inner, width, count, module="self_attn.f_b_proj"),
        Tensor(Role.MIXER_IN, heads, hidden, count, module="self_attn.b_proj"),
        Tensor(Role.MIXER_OUT, hidden, inner, count, module="self_attn.o_proj"),
        _inner(3 * inner, kernel, count),
        _inner(inner + heads, 1, count),
        vector(width, count),
    )
    return tensors, StateLayers(count, inner, heads, width, kernel, heads, width * width, FLOAT)


@dataclass(frozen=True, slots=True)
class Mamba2:
    """Where an architecture keeps the sizes of its Mamba 2 layers.

    names: fields of heads, size of a head, groups, state and convolution. bias, out_bias, conv_bias: fields of the
    projections' and the convolution's biases. norm: a gated norm. module: the layers' name.
    """

    names: tuple[str, str, str, str, str] = (
        "mamba_n_heads",
        "mamba_d_head",
        "mamba_n_groups",
        "mamba_d_state",
        "mamba_d_conv",
    )
    norm: bool = True
    bias: str = "mamba_proj_bias"
    out_bias: str = "mamba_proj_bias"
    conv_bias: str = "mamba_conv_bias"
    module: str = "mamba"


def mamba2(fields: Fields, hidden: int, places: Places, of: Mamba2) -> Mixer:
    """Mamba 2: one projection into gate, channels, B, C and time steps, a convolution, one projection back."""
    heads, width, groups, state, kernel = (fields.integer(name) for name in of.names)
    inner, count = heads * width, len(places)
    channels = inner + 2 * groups * state
    projected = inner + channels + heads
    tensors = [
        Tensor(Role.MIXER_IN, projected, hidden, count, module=f"{of.module}.in_proj"),
        Tensor(Role.MIXER_OUT, hidden, inner, count, module=f"{of.module}.out_proj"),
        _inner(channels, kernel + (1 if fields.boolean(of.conv_bias, True) else 0), count),
        _inner(heads, 1, 3 * count),
    ]
    if of.norm:
        tensors.append(_inner(inner, 1, count))
    if fields.boolean(of.bias, False):
        tensors.append(_inner(projected, 1, count))
    if fields.boolean(of.out_bias, False):
        tensors.append(vector(hidden, count))
    wide = FLOAT if fields.string("mamba_ssm_cache_dtype", "") == "float32" else None
    state_layers = StateLayers(count, inner, groups, state, kernel, heads, width * state, wide)
    return _placed(places, *tensors), state_layers


def mamba1(fields: Fields, hidden: int, places: Places, *, norms: bool) -> Mixer:
    """Mamba 1 as Jamba has it. norms: of time step, B and C."""
    state, kernel = fields.integer("mamba_d_state", 16), fields.integer("mamba_d_conv", 4)
    inner, count = fields.integer("mamba_expand", 2) * hidden, len(places)
    rank = fields.integer("mamba_dt_rank", -(-hidden // 16))
    bias = fields.boolean("mamba_proj_bias", False)
    tensors = [
        Tensor(Role.MIXER_IN, 2 * inner, hidden, count, module="mamba.in_proj"),
        Tensor(Role.MIXER_OUT, hidden, inner, count, module="mamba.out_proj"),
        Tensor(Role.MIXER_OUT, rank + 2 * state, inner, count, module="mamba.x_proj"),
        _inner(inner, rank + 1, count),
        _inner(inner, state + 1, count),
        _inner(inner, kernel + (1 if fields.boolean("mamba_conv_bias", True) else 0), count),
    ]
    if norms:
        tensors.append(vector(rank + 2 * state, count))
    if bias:
        tensors += [_inner(2 * inner, 1, count), vector(hidden, count)]
    # The recurrent state is one number a channel and state; channels stand for heads here.
    return _placed(places, *tensors), StateLayers(count, inner, 0, 0, kernel, inner, state)


def short_convolution(fields: Fields, hidden: int, places: Places) -> Mixer:
    """LFM2: a gated convolution over a few tokens."""
    kernel, count, bias = fields.integer("conv_L_cache", 3), len(places), fields.boolean("conv_bias", False)
    tensors = [
        Tensor(Role.MIXER_IN, 3 * hidden, hidden, count, module="conv.in_proj"),
        Tensor(Role.MIXER_OUT, hidden, hidden, count, module="conv.out_proj"),
        _inner(hidden, kernel + (1 if bias else 0), count),
    ]
    if bias:
        tensors += [_inner(3 * hidden, 1, count), vector(hidden, count)]
    return _placed(places, *tensors), StateLayers(count, hidden, 0, 0, kernel, 0, 0)


def lightning(fields: Fields, hidden: int, places: Places, heads: int, width: int) -> Mixer:
    """MiniMax-Text-01 and M1: linear attention with a decay for each head; no convolution."""
    count, inner = len(places), heads * width
    tensors = _placed(
        places,
        Tensor(Role.MIXER_IN, 3 * inner, hidden, count, module="self_attn.qkv_proj"),
        Tensor(Role.MIXER_IN, inner, hidden, count, module="self_attn.output_gate"),
        Tensor(Role.MIXER_OUT, hidden, inner, count, module="self_attn.out_proj"),
        _inner(inner, 1, count),
    )
    return tensors, StateLayers(count, 0, 0, 0, 0, heads, width * width, FLOAT)
