"""More encoders of images: LLaVA's kin, Aya, Idefics, Aria, Mllama, OCR models, MiniCPM-V, Phi, DeepSeek-OCR."""

from __future__ import annotations

from llm_operator.models.errors import UnknownArchitectureError
from llm_operator.models.fields import Fields
from llm_operator.models.known.towers import (
    QWEN_PIXELS,
    Blocks,
    Built,
    blocks,
    clip,
    into,
    out,
    pixtral,
    side,
    whole,
)
from llm_operator.models.layers import first_integer, vector
from llm_operator.models.shape import Tensor, Tower

# Encoders that no config describes: the parameters of the published files.
RADIO_HUGE = 651_645_440
SAM_BASE = 95_569_152
PHI4_TOWERS = 907_982_272
WHISPER_MEDIUM = 307_217_408
CLIP_LARGE_336 = 303_507_456
CLIP_LARGE_224 = 303_177_728


def _sizes(vision: Fields) -> tuple[int, int, int]:
    return (
        vision.integer("hidden_size"),
        vision.integer("intermediate_size"),
        vision.integer("num_hidden_layers"),
    )


def _grid(vision: Fields) -> int:
    return (side(vision, "image_size") // side(vision, "patch_size")) ** 2


def _siglip(vision: Fields, *, head: bool) -> tuple[Tensor, ...]:
    """Return SigLIP's encoder: patches with a bias, positions, blocks, a last norm; head: it pools as well."""
    width, inner, layers = _sizes(vision)
    found = [
        *whole(width, 3 * side(vision, "patch_size") ** 2, bias=True),
        *whole(_grid(vision), width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
    ]
    if head and vision.boolean("vision_use_head", True):
        found += [*blocks(Blocks(width, inner, 1, norms=2)), vector(width, 1)]
    return tuple(found)


def _tower(vision: Fields, tokens: int, *, tiles: int = 1) -> Tower:
    return Tower(*_sizes(vision), _grid(vision) * tiles, tokens * tiles)


def _tiles(parent: Fields) -> int:
    """Return how many tiles the largest of the image's shapes has, the whole image counted as one more."""
    points = parent.values.get("image_grid_pinpoints")
    vision = Fields(parent.optional_object("vision_config"), parent.architecture)
    edge = vision.integer("image_size", 336)
    most = 1
    for point in points if isinstance(points, list) else ():
        pair = point if isinstance(point, list) and len(point) == 2 else (edge, edge)
        high, wide = (value if isinstance(value, int) and 0 < value <= 1 << 14 else edge for value in pair)
        most = max(most, -(-high // edge) * -(-wide // edge))
    return most + 1


def llava_next(vision: Fields, parent: Fields, text: int) -> Built:
    """LLaVA-NeXT, its video form and OneVision: LLaVA over tiles, with a vector that ends lines."""
    tiles = _tiles(parent)
    bias = parent.boolean("multimodal_projector_bias", True)
    kind = vision.string("model_type", "")
    if kind == "pixtral":
        tensors, tower = pixtral(vision, parent, text, merger=False)
        return (*tensors, vector(text, 1)), tower
    if kind == "clip_vision_model":
        tensors, _ = clip(vision, parent, text)
        return (*tensors, vector(text, 1)), _tower(vision, _grid(vision), tiles=tiles)
    if kind != "siglip_vision_model":
        raise UnknownArchitectureError(f"{parent.architecture} with an encoder of {kind[:60]}")
    width = vision.integer("hidden_size")
    layers = parent.values.get("vision_feature_layer")
    inputs = width * (len(layers) if isinstance(layers, list) else 1)
    tensors = (
        *_siglip(vision, head=True),
        *whole(text, inputs, bias=bias),
        *whole(text, text, bias=bias),
        vector(text, 1),
    )
    return tensors, _tower(vision, _grid(vision), tiles=tiles)


def aya(vision: Fields, parent: Fields, text: int) -> Built:
    """Aya Vision and Command A Vision: SigLIP, patches merged, a gated projector."""
    width, factor = vision.integer("hidden_size"), parent.integer("downsample_factor", 2)
    merged, norm = width * factor**2, parent.string("model_type", "aya_vision") == "aya_vision"
    inner = parent.integer("alignment_intermediate_size", text if norm else 36_864)
    tensors = [
        *_siglip(vision, head=True),
        *whole(inner, merged, bias=True),
        *whole(text, inner // 2, bias=True),
    ]
    if norm:
        tensors.append(vector(merged, 2))
    return tuple(tensors), _tower(vision, _grid(vision) // factor**2, tiles=13)


def idefics3(vision: Fields, parent: Fields, text: int) -> Built:
    """Idefics 3 and SmolVLM: SigLIP without its head, patches merged, one matrix."""
    scale = parent.integer("scale_factor", 2)
    tensors = (*_siglip(vision, head=False), *whole(text, vision.integer("hidden_size") * scale**2))
    return tensors, _tower(vision, _grid(vision) // scale**2, tiles=17)


def paligemma(vision: Fields, _: Fields, text: int) -> Built:
    """PaliGemma: SigLIP and one matrix."""
    width = vision.integer("hidden_size")
    target = vision.integer("projection_dim", text)
    return (*_siglip(vision, head=True), *whole(target, width, bias=True)), _tower(vision, _grid(vision))


def aria(vision: Fields, parent: Fields, text: int) -> Built:
    """Aria: Idefics' encoder, and queries that attend to it."""
    width, queries = vision.integer("hidden_size"), parent.integer("max_value_projector_patch_to_query_dict", 256)
    tensors = (
        *_siglip(vision, head=False),
        *whole(queries, width),
        *whole(width, width, 7),
        *whole(width, width, bias=True),
        vector(width, 3 + 1 + 6),
        *whole(text, width),
        *whole(text, text),
    )
    return tensors, _tower(vision, queries)


def mllama(vision: Fields, _: Fields, text: int) -> Built:
    """Llama 3.2 Vision: two encoders one after the other, positions of tiles, gates."""
    width, inner, layers = _sizes(vision)
    tiles, positions = vision.integer("max_num_tiles", 4), _grid(vision) + 1
    ratios = vision.values.get("supported_aspect_ratios")
    shapes = (len(ratios) if isinstance(ratios, list) else 8) + 1
    plain = Blocks(width, inner, layers, attention_bias=False, output_bias=False)
    above = Blocks(width, inner, vision.integer("num_global_layers", 8), attention_bias=False, output_bias=False)
    tensors = (
        vector(width, 1),
        *whole(width, 3 * side(vision, "patch_size") ** 2),
        *whole(positions, width),
        *whole(shapes, tiles * positions * width),
        *whole(shapes, tiles * width, 2),
        vector(3 + 2 * above.layers, 1),
        vector(width, 4),
        *blocks(plain),
        *blocks(above),
        *whole(text, vision.integer("vision_output_dim", 7680), bias=True),
    )
    return tensors, Tower(width, inner, layers + above.layers, positions * tiles, positions * tiles)


def exaone(vision: Fields, _: Fields, text: int) -> Built:
    """EXAONE 4.5: Qwen2.5-VL's encoder with fewer keys and values than queries."""
    width, inner, layers = (vision.integer(name) for name in ("hidden_size", "intermediate_size", "depth"))
    keys = vision.integer("num_key_value_heads", 8) * (width // vision.integer("num_heads"))
    merged = width * vision.integer("spatial_merge_size", 2) ** 2
    patch = 3 * vision.integer("temporal_patch_size", 2) * side(vision, "patch_size") ** 2
    tensors = (
        *whole(width, patch),
        *into(width + 2 * keys, width, layers, bias=True),
        *out(width, width, layers, bias=True),
        *into(inner, width, 2 * layers, bias=True),
        *out(width, inner, layers, bias=True),
        vector(width, 2 * layers + 1),
        *into(merged, merged, bias=True),
        *out(vision.integer("out_hidden_size", text), merged, bias=True),
    )
    patches = QWEN_PIXELS // side(vision, "patch_size") ** 2
    return tensors, Tower(width, inner, layers, patches, patches // vision.integer("spatial_merge_size", 2) ** 2)


def glm_ocr(vision: Fields, _: Fields, text: int) -> Built:
    """GLM-OCR: GLM-4.1V's encoder with norms of queries and keys and a merger three times as wide."""
    width, inner, layers = (vision.integer(name) for name in ("hidden_size", "intermediate_size", "depth"))
    target, merge = vision.integer("out_hidden_size", text), vision.integer("spatial_merge_size", 2)
    bias = vision.boolean("attention_bias", True)
    plain = Blocks(width, inner, layers, norms=2, gated=True, attention_bias=bias, output_bias=bias, network_bias=bias)
    tensors = (
        *whole(width, 3 * vision.integer("temporal_patch_size", 2) * side(vision, "patch_size") ** 2, bias=True),
        *blocks(plain),
        vector(width // vision.integer("num_heads"), 2 * layers),
        vector(width, 1),
        *whole(target, width * merge**2, bias=True),
        *into(target, target),
        vector(target, 2),
        *into(3 * target, target, 2),
        *out(target, 3 * target),
    )
    patches = 4_816_896 // side(vision, "patch_size") ** 2
    return tensors, Tower(width, inner, layers, patches, patches // merge**2)


def paddle(vision: Fields, _: Fields, text: int) -> Built:
    """PaddleOCR-VL: SigLIP without its head, patches merged, two matrices."""
    width, merge = vision.integer("hidden_size"), vision.integer("spatial_merge_size", 2)
    merged = width * merge**2
    tensors = (
        *_siglip(vision, head=False),
        vector(width, 2),
        *whole(merged, merged, bias=True),
        *whole(text, merged, bias=True),
    )
    patches = 2_822_400 // side(vision, "patch_size") ** 2
    return tensors, Tower(*_sizes(vision), patches, patches // merge**2)


def dots(vision: Fields, _: Fields, text: int) -> Built:
    """dots.ocr: gated blocks without biases, a norm after the patches and one at the end (vLLM models/dots_ocr.py)."""
    width = vision.integer("embed_dim", 1536)
    inner, layers = vision.integer("intermediate_size", 4224), vision.integer("num_hidden_layers", 42)
    merged = width * vision.integer("spatial_merge_size", 2) ** 2
    bias = vision.boolean("use_bias", False)
    plain = Blocks(width, inner, layers, norms=2, gated=True, attention_bias=bias, output_bias=bias, network_bias=bias)
    patch = side(Fields({"patch_size": 14, **vision.values}, vision.architecture), "patch_size")
    tensors = (
        *whole(width, 3 * patch**2, bias=True),
        *blocks(plain),
        vector(width, 1 + (1 if vision.boolean("post_norm", True) else 0) + 2),
        *into(merged, merged, bias=True),
        *out(vision.integer("hidden_size", text), merged, bias=True),
    )
    patches = 11_289_600 // patch**2
    return tensors, Tower(width, inner, layers, patches, patches // 4)


def minicpmv(vision: Fields, parent: Fields, text: int) -> Built:
    """MiniCPM-V: SigLIP without its head, and queries of the decoder's width that attend to it (vLLM minicpmv.py)."""
    width, inner, layers = _sizes(vision)
    if parent.boolean("drop_vision_last_layer", True):
        layers -= 1
    queries = parent.integer("query_num", 64)
    tensors = (
        *whole(width, 3 * side(vision, "patch_size") ** 2, bias=True),
        *whole(_grid(vision), width),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *whole(queries, text),
        *whole(text, width),
        *whole(text, text, 5),
        vector(text, 3 + 1 + 6),
    )
    # Nine slices and the whole image, 448 x 448 each.
    patches = 10 * (448 // side(vision, "patch_size")) ** 2
    return tensors, Tower(width, inner, layers, patches, 10 * queries)


def phi3v(_: Fields, __: Fields, text: int) -> Built:
    """Phi-3 and 3.5 Vision: CLIP at 336 pixels, tiles merged, two matrices (vLLM models/phi3v.py)."""
    tensors = (
        vector(CLIP_LARGE_336, 1),
        vector(4096, 1),
        *whole(text, 4096, bias=True),
        *whole(text, text, bias=True),
    )
    return tensors, Tower(1024, 4096, 24, 577 * 17, 144 * 17)


def radio(_: Fields, parent: Fields, text: int) -> Built:
    """Nemotron Nano VL: C-RADIO H, which every rank keeps, and a projector of two matrices with a norm.

    The projector has biases beside Llama (vLLM 0.33.0, models/nemotron_vl.py) and none beside Nemotron-H.
    """
    bias = parent.architecture == "Llama_Nemotron_Nano_VL"
    width = parent.integer("vit_hidden_size", 1280)
    merged = int(width / parent.number("downsample_ratio", 0.5) ** 2)
    inner = parent.integer("projector_hidden_size", 4 * text)
    tensors = (
        vector(RADIO_HUGE, 1),
        vector(merged, 2 if bias else 1),
        *whole(inner, merged, bias=bias),
        *whole(text, inner, bias=bias),
    )
    patches = (parent.integer("force_image_size", 512) // parent.integer("patch_size", 16)) ** 2
    tiles = 13
    return tensors, Tower(width, 4 * width, 32, patches * tiles, patches // 4 * tiles)


def deepseek_ocr(_: Fields, __: Fields, text: int) -> Built:
    """DeepSeek-OCR: SAM and CLIP one after the other, one matrix (vLLM 0.33.0, models/deepseek_ocr.py)."""
    # SAM's base model with the two convolutions that narrow it, then CLIP.
    tensors = (
        vector(SAM_BASE, 1),
        vector(CLIP_LARGE_224, 1),
        *whole(text, 2048, bias=True),
        vector(text, 2),
    )
    return tensors, Tower(1024, 4096, 24, 4096 + 6 * 1600, 256 + 6 * 100)


def phi4mm(_: Fields, __: Fields, ___: int) -> Built:
    """Phi-4 multimodal: SigLIP at 448 pixels and a conformer that hears, at the one published size."""
    tensors = (vector(PHI4_TOWERS, 1),)
    return tensors, Tower(1152, 4304, 27, 1024 * 17, 256 * 17)


def ernie(vision: Fields, parent: Fields, text: int) -> Built:
    """ERNIE 4.5 VL: Qwen2-VL's encoder, and a resampler over space and time (vLLM 0.33.0, models/ernie45_vl.py)."""
    width, layers = first_integer(vision, "hidden_size", "embed_dim"), vision.integer("depth", 32)
    inner = int(width * vision.number("mlp_ratio", 4))
    space = width * parent.integer("spatial_conv_size", vision.integer("spatial_merge_size", 2)) ** 2
    time = space * parent.integer("temporal_conv_size", 2)
    tensors = (
        *whole(width, 3 * side(vision, "patch_size") ** 2),
        *blocks(Blocks(width, inner, layers)),
        vector(width, 2),
        *whole(space, space, 3, bias=True),
        *whole(space, time, bias=True),
        vector(space, 4),
        *whole(text, space, bias=True),
        vector(text, 1),
    )
    patches = QWEN_PIXELS // side(vision, "patch_size") ** 2
    return tensors, Tower(width, inner, layers, patches, patches // 4)


def minicpmo(vision: Fields, parent: Fields, text: int) -> Built:
    """MiniCPM-o: MiniCPM-V that also hears, with Whisper's medium encoder and two matrices."""
    tensors, tower = minicpmv(vision, parent, text)
    return (*tensors, vector(WHISPER_MEDIUM, 1), *whole(text, 1024, bias=True), *whole(text, text, bias=True)), tower
