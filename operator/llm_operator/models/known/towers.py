"""Encoders of images and audio: their tensors, and how many patches one image is at the model's own defaults.

vLLM shards towers as it shards decoders; matrices are TOWER_IN and TOWER_OUT therefore, and never quantized.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llm_operator.models.fields import Fields
from llm_operator.models.layers import vector
from llm_operator.models.shape import Role, Tensor, Tower

Built = tuple[tuple[Tensor, ...], Tower]
# Most pixels of one image that Qwen's processors pass on where the repository says nothing else (14 * 14 * 4 * 16384).
QWEN_PIXELS = 12_845_056


def into(rows: int, columns: int, count: int = 1, *, bias: bool = False) -> Iterator[Tensor]:
    """Yield matrices split over their outputs, with biases."""
    yield Tensor(Role.TOWER_IN, rows, columns, count, linear=False)
    if bias:
        yield Tensor(Role.TOWER_IN, rows, 1, count, linear=False)


def out(rows: int, columns: int, count: int = 1, *, bias: bool = False) -> Iterator[Tensor]:
    """Yield matrices split over their inputs, with biases, which every rank keeps."""
    yield Tensor(Role.TOWER_OUT, rows, columns, count, linear=False)
    if bias:
        yield vector(rows, count)


def whole(rows: int, columns: int, count: int = 1, *, bias: bool = False) -> Iterator[Tensor]:
    """Yield matrices that every rank keeps: patches, positions, projectors."""
    yield Tensor(Role.REPLICATED, rows, columns, count, linear=False)
    if bias:
        yield vector(rows, count)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of an encoder. norms: vectors of `width` per block, biases counted. key_bias: keys have one as well."""

    width: int
    inner: int
    layers: int
    norms: int = 4
    gated: bool = False
    attention_bias: bool = True
    key_bias: bool = True
    output_bias: bool = True
    network_bias: bool = True


def blocks(of: Blocks) -> Iterator[Tensor]:
    """Yield the tensors of an encoder's blocks."""
    width, inner, layers = of.width, of.inner, of.layers
    if not layers:
        return
    yield from into(width, width, 3 * layers)
    if of.attention_bias:
        yield Tensor(Role.TOWER_IN, width, 1, (3 if of.key_bias else 2) * layers, linear=False)
    yield from out(width, width, layers, bias=of.output_bias)
    yield from into(inner, width, (2 if of.gated else 1) * layers, bias=of.network_bias)
    yield from out(width, inner, layers, bias=of.network_bias)
    yield vector(width, of.norms * layers)


def side(fields: Fields, name: str) -> int:
    """Return a number that may stand as a pair of equal ones. Raises InvalidModelConfigError if it is less than 1."""
    value = fields.values.get(name)
    if isinstance(value, list) and value:
        return Fields({name: fields.integers(name)[0]}, fields.architecture).integer(name)
    return fields.integer(name)


def _grid(vision: Fields) -> int:
    return (side(vision, "image_size") // side(vision, "patch_size")) ** 2


def _patch(vision: Fields) -> int:
    return vision.integer("num_channels", vision.integer("in_channels", 3)) * side(vision, "patch_size") ** 2


def siglip(vision: Fields, text: int) -> Built:
    """Gemma 3: SigLIP and a projector that is a norm and a matrix."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tensors = [
        *whole(width, _patch(vision), bias=True),
        *whole(_grid(vision), width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        vector(width, 1),
        *whole(text, width),
    ]
    if vision.boolean("vision_use_head", True):
        tensors += [*blocks(Blocks(width, inner, 1, norms=2)), vector(width, 1)]
    return tuple(tensors), Tower(width, inner, layers, _grid(vision), 256)


def siglip2(vision: Fields, parent: Fields, text: int) -> Built:
    """LFM2-VL: SigLIP 2 with its pooling head, and a projector of two matrices over merged patches."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    patches = vision.integer("num_patches", 256)
    merged = width * parent.integer("downsample_factor", 2) ** 2
    projector = parent.integer("projector_hidden_size", 2560)
    bias = parent.boolean("projector_bias", True)
    head = vision.boolean("vision_use_head", True)
    tensors = [
        *whole(width, _patch(vision), bias=True),
        *whole(patches, width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *whole(projector, merged, bias=bias),
        *whole(text, projector, bias=bias),
    ]
    if parent.boolean("projector_use_layernorm", True):
        tensors.append(vector(merged, 2))
    if head:
        tensors += [*blocks(Blocks(width, inner, 1, norms=2)), vector(width, 1)]
    return tuple(tensors), Tower(width, inner, layers, 1024, 256)


def clip(vision: Fields, parent: Fields, text: int) -> Built:
    """LLaVA: CLIP and a projector of two matrices."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    bias = parent.boolean("multimodal_projector_bias", True)
    tensors = (
        vector(width, 1),
        *whole(width, _patch(vision)),
        *whole(_grid(vision) + 1, width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 4),
        *whole(text, width, bias=bias),
        *whole(text, text, bias=bias),
    )
    return tensors, Tower(width, inner, layers, _grid(vision) + 1, _grid(vision))


def pixtral(vision: Fields, parent: Fields, text: int, *, merger: bool) -> Built:
    """Pixtral and Mistral 3: a gated encoder. merger: patches are merged and normed before the projector."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    bias = parent.boolean("multimodal_projector_bias", not merger)
    plain = Blocks(
        width, inner, layers, norms=2, gated=True, attention_bias=False, output_bias=False, network_bias=False
    )
    tensors = [
        *whole(width, _patch(vision)),
        vector(width, 1),
        *blocks(plain),
        *whole(text, width, bias=bias),
        *whole(text, text, bias=bias),
    ]
    merge = parent.integer("spatial_merge_size", 2) if merger else 1
    if merger:
        tensors += [vector(width, 1), *whole(width, width * merge**2)]
    patches = _grid(vision)
    return tuple(tensors), Tower(width, inner, layers, patches, patches // merge**2)


def internvit(vision: Fields, parent: Fields, text: int) -> Built:
    """InternVL: InternViT, scales of layers, and a projector of two matrices over merged patches."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    bias = vision.boolean("attention_bias", vision.boolean("qkv_bias", False))
    rms = vision.string("norm_type", "layer_norm") == "rms_norm"
    ratio = parent.number("downsample_ratio", 0.5)
    merged = int(width / ratio**2)
    query_norms = 2 if vision.boolean("use_qk_norm", vision.boolean("qk_normalization", False)) else 0
    norms = (2 if rms else 4) + 2 + query_norms
    tensors = [
        vector(width, 1),
        *whole(width, _patch(vision), bias=True),
        *blocks(Blocks(width, inner, layers, norms=norms, attention_bias=bias)),
        vector(merged, 2),
        *whole(text, merged, bias=True),
        *whole(text, text, bias=True),
    ]
    if vision.boolean("use_absolute_position_embeddings", True):
        tensors += whole(_grid(vision) + 1, width)
    if vision.boolean("use_mask_token", False):
        tensors.append(vector(width, 1))
    if not vision.boolean("use_mean_pooling", True):
        tensors.append(vector(width, 1 if rms else 2))
    # Twelve tiles and a thumbnail.
    tiles = parent.integer("max_dynamic_patch", 12) + 1
    return tuple(tensors), Tower(
        width, inner, layers, (_grid(vision) + 1) * tiles, int(_grid(vision) * ratio**2) * tiles
    )


def _qwen_patch(vision: Fields) -> int:
    return vision.integer("in_channels", 3) * vision.integer("temporal_patch_size", 2) * side(vision, "patch_size") ** 2


def _qwen_tower(vision: Fields, width: int, inner: int, layers: int) -> Tower:
    patches = QWEN_PIXELS // side(vision, "patch_size") ** 2
    tokens = patches // vision.integer("spatial_merge_size", 2) ** 2
    return Tower(width, inner, layers, patches, tokens, heads=vision.integer("num_heads", 16))


def qwen2(vision: Fields, text: int) -> Built:
    """Qwen2-VL."""
    width, layers = vision.integer("embed_dim"), vision.integer("depth")
    inner = int(width * vision.number("mlp_ratio", 4))
    merged = width * vision.integer("spatial_merge_size", 2) ** 2
    tensors = (
        *whole(width, _qwen_patch(vision)),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *into(merged, merged, bias=True),
        *out(vision.integer("hidden_size", text), merged, bias=True),
    )
    return tensors, _qwen_tower(vision, width, inner, layers)


def qwen2_5(vision: Fields, text: int) -> Built:
    """Qwen2.5-VL: gated networks, one vector per norm."""
    width, inner, layers = (vision.integer(name) for name in ("hidden_size", "intermediate_size", "depth"))
    merged = width * vision.integer("spatial_merge_size", 2) ** 2
    tensors = (
        *whole(width, _qwen_patch(vision)),
        *blocks(Blocks(width, inner, layers, norms=2, gated=True)),
        vector(width, 1),
        *into(merged, merged, bias=True),
        *out(vision.integer("out_hidden_size", text), merged, bias=True),
    )
    return tensors, _qwen_tower(vision, width, inner, layers)


def qwen3(vision: Fields, text: int) -> Built:
    """Qwen3-VL, 3.5 and Omni: positions, a merger, and one more for each layer that feeds the decoder directly."""
    width, inner, layers = (vision.integer(name) for name in ("hidden_size", "intermediate_size", "depth"))
    merged, target = width * vision.integer("spatial_merge_size", 2) ** 2, vision.integer("out_hidden_size", text)
    deep = len(vision.integers("deepstack_visual_indexes"))
    tensors = [
        *whole(width, _qwen_patch(vision), bias=True),
        *whole(vision.integer("num_position_embeddings", 2304), width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *into(merged, merged, 1 + deep, bias=True),
        *out(target, merged, 1 + deep, bias=True),
    ]
    if deep:
        tensors.append(vector(merged, 2 * deep))
    return tuple(tensors), _qwen_tower(vision, width, inner, layers)


def glm4v(vision: Fields, text: int) -> Built:
    """GLM-4.1V to 4.6V: gated blocks whose width follows from the output, a downsampling and a gated merger."""
    width, layers, target = (
        vision.integer("hidden_size"),
        vision.integer("depth"),
        vision.integer("out_hidden_size", text),
    )
    merge, inner = vision.integer("spatial_merge_size", 2), vision.integer("intermediate_size")
    bias = vision.boolean("attention_bias", False)
    tensors = (
        *whole(width, _qwen_patch(vision), bias=True),
        *whole(_grid(vision), width),
        *blocks(
            Blocks(
                width, target, layers, norms=2, gated=True, attention_bias=bias, output_bias=False, network_bias=False
            )
        ),
        vector(width, 2),
        *whole(target, width * merge**2, bias=True),
        *into(target, target),
        vector(target, 2),
        *into(inner, target, 2),
        *out(target, inner),
    )
    patches = 4_816_896 // side(vision, "patch_size") ** 2
    return tensors, Tower(width, target, layers, patches, patches // merge**2)


def llama4(vision: Fields, text: int) -> Built:
    """Llama 4: an encoder without rope tables of note, pixels shuffled, two matrices and a projector."""
    width, inner, layers = (vision.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    first, second = vision.integer("projector_input_dim", 4096), vision.integer("projector_output_dim", 4096)
    tensors = (
        vector(width, 1),
        *whole(_grid(vision) + 1, width),
        *whole(width, _patch(vision)),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 4),
        *into(first, inner),
        *out(second, first),
        *whole(text, vision.integer("vision_output_dim", second)),
    )
    tiles = 17
    return tensors, Tower(width, inner, layers, (_grid(vision) + 1) * tiles, _grid(vision) // 4 * tiles)


def whisper(audio: Fields, text: int) -> Built:
    """Voxtral: Whisper's encoder and a projector over four frames."""
    width, inner, layers = (audio.integer(n) for n in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tensors = (
        *whole(width, 3 * audio.integer("num_mel_bins", 128), bias=True),
        *whole(width, 3 * width, bias=True),
        *whole(audio.integer("max_source_positions", 1500), width),
        *blocks(Blocks(width, inner, layers, key_bias=False)),
        vector(width, 2),
        *whole(text, inner),
        *whole(text, text),
    )
    frames = audio.integer("max_source_positions", 1500)
    return tensors, Tower(width, inner, layers, frames, frames // 4)


def qwen_audio(audio: Fields) -> Built:
    """Qwen3-Omni's ears: three convolutions over the spectrum, an encoder, two matrices."""
    width, inner = audio.integer("d_model", 1280), audio.integer("encoder_ffn_dim", 5120)
    layers, side_ = audio.integer("encoder_layers", 32), audio.integer("downsample_hidden_size", 480)
    bins = audio.integer("num_mel_bins", 128)
    for _ in range(3):
        bins = (bins + 1) // 2
    tensors = (
        *whole(side_, 9, bias=True),
        *whole(side_, 9 * side_, 2, bias=True),
        *whole(width, side_ * bins),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *whole(width, width, bias=True),
        *whole(audio.integer("output_dim", 3584), width, bias=True),
    )
    return tensors, Tower(width, inner, layers, 3000, 750)


def qwen25_audio(audio: Fields) -> tuple[Tensor, ...]:
    """Qwen2.5-Omni's ears: Whisper's encoder without positions, two tokens that begin and end, one matrix."""
    width, inner = audio.integer("d_model", 1280), audio.integer("encoder_ffn_dim", 5120)
    layers, target = audio.integer("encoder_layers", 32), audio.integer("output_dim", 3584)
    return (
        *whole(width, 3 * audio.integer("num_mel_bins", 128), bias=True),
        *whole(width, 3 * width, bias=True),
        *blocks(Blocks(width, inner, layers, key_bias=False)),
        vector(width, 2),
        *whole(2, target),
        *whole(target, width, bias=True),
    )


def moonvit(vision: Fields, parent: Fields, text: int) -> Built:
    """Kimi-VL and Kimi K2.5: MoonViT, positions of a square, a norm and two matrices (vLLM models/kimi_k25_vit.py)."""
    width = vision.integer("hidden_size", vision.integer("vt_hidden_size", 1152))
    inner = vision.integer("intermediate_size", vision.integer("vt_intermediate_size", 4304))
    layers = vision.integer("num_hidden_layers", vision.integer("vt_num_hidden_layers", 27))
    merged = width * 4
    positions = vision.integer("init_pos_emb_height", 64) * vision.integer("init_pos_emb_width", 64)
    tensors = (
        *whole(
            width,
            3 * side(Fields({"patch_size": 14, **vision.values}, vision.architecture), "patch_size") ** 2,
            bias=True,
        ),
        *whole(positions, width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        vector(parent.integer("projection_hidden_size", width), 2),
        *whole(merged, merged, bias=True),
        *whole(text, merged, bias=True),
    )
    return tensors, Tower(width, inner, layers, 16_384, 4096)
