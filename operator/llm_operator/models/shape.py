"""The shape of a language model: which tensors it has and what its layers keep per token.

A shape is facts about a checkpoint only. Which rank holds what, and in how many bytes, is the engines' affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a tensor is for; decides how an engine shards it."""

    EMBEDDING = "Embedding"
    HEAD = "Head"
    QUERY = "Query"
    KEY_VALUE = "KeyValue"
    ATTENTION_OUTPUT = "AttentionOutput"
    LATENT_DOWN = "LatentDown"  # MLA q_a and kv_a: one latent for all heads
    LATENT_QUERY = "LatentQuery"  # MLA q_b, or q if no latent query is used
    LATENT_KEY_VALUE = "LatentKeyValue"  # MLA kv_b
    GATE_UP = "GateUp"
    DOWN = "Down"
    EXPERT_GATE_UP = "ExpertGateUp"
    EXPERT_DOWN = "ExpertDown"
    ROUTER = "Router"
    MIXER_IN = "MixerIn"  # linear attention, Mamba, short convolutions: projections into heads, sharded by heads
    MIXER_OUT = "MixerOut"  # and the projection back
    TOWER_IN = "TowerIn"  # vision and audio towers: split over outputs where the engine shards towers at all
    TOWER_OUT = "TowerOut"  # split over inputs
    REPLICATED = "Replicated"  # norms, sinks, biases added after the reduction


class AttentionKind(StrEnum):
    """What a layer keeps of the past."""

    FULL = "Full"
    SLIDING = "Sliding"
    LATENT = "Latent"
    INDEX = "Index"  # keys of a sparse attention's indexer, beside the latents


@dataclass(frozen=True, slots=True)
class CheckpointQuantization:
    """quantization_config of a checkpoint.

    method: awq, gptq, fp8, mxfp4, nvfp4, int4, int8, bitsandbytes or compressed-tensors. bits: per weight. group_size:
    weights per scale along the input (None: one scale per output channel or tensor). scale_bits: bits of a scale.
    block: rows x columns per scale of block-wise FP8. symmetric: no zero points. skipped: roles of which every matrix
    stays in 16 bit; where only some do, these are `kept` tensors of the shape. desc_act, version: as GPTQ and AWQ name
    them, where given. kv_cache_bits: of the KV cache that the checkpoint has scales for, which vLLM then uses unasked.
    named: quant_method as the file spells it, which engines compare; empty: no file says it.
    """

    method: str
    bits: int
    group_size: int | None = None
    block: tuple[int, int] | None = None
    symmetric: bool = True
    desc_act: bool = False
    version: str | None = None
    skipped: frozenset[Role] = frozenset()
    scale_bits: int = 16
    kv_cache_bits: int | None = None
    named: str = ""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`count` equal tensors of `rows` x `columns` elements each.

    rows: output features (vocabulary for embeddings), columns: input features; 1 for vectors (norms, biases).
    linear: a matrix that weight quantization may replace. kept: a matrix that the checkpoint's quantization leaves in
    16 bit. shared: of a shared expert. module: name below a layer, and places: the layers that have it, in order; both
    empty if the role says it. heads: KV heads of a key or value projection that has others than the shape. how:
    its own quantization in a checkpoint that has several; None: the checkpoint's.
    """

    role: Role
    rows: int
    columns: int
    count: int
    linear: bool = True
    kept: bool = False
    shared: bool = False
    module: str = ""
    places: tuple[int, ...] = ()
    heads: int = 0
    how: CheckpointQuantization | None = None

    @property
    def parameters(self) -> int:
        """Elements of all `count` tensors."""
        return self.rows * self.columns * self.count


@dataclass(frozen=True, slots=True)
class AttentionLayers:
    """`layers` layers with the same cache.

    kv_heads: KV heads before sharding (1 for a latent). key_dim, value_dim: elements per KV head and token; for a
    latent key_dim is kv_lora_rank + qk_rope_head_dim and value_dim is 0; for an indexer key_dim is the bytes of one
    token. window: tokens a sliding layer looks back.
    """

    kind: AttentionKind
    layers: int
    kv_heads: int
    key_dim: int
    value_dim: int
    window: int | None = None


@dataclass(frozen=True, slots=True)
class CompressedLayers:
    """`layers` layers with one shared latent that keep a window of tokens whole, and every token compressed.

    width: elements of a latent. window: tokens that are kept whole. rate: tokens that become one compressed latent; 0:
    the layers keep the window alone. index: elements of the compressed keys of an indexer; 0: there is none. overlap:
    groups of tokens to compress reach into the one before.
    """

    layers: int
    width: int
    window: int
    rate: int = 0
    index: int = 0
    overlap: bool = False


@dataclass(frozen=True, slots=True)
class StateLayers:
    """`layers` layers that keep a state of fixed size for each sequence instead of keys and values of each token.

    channels: of the causal convolution that are split over ranks as heads are. groups, group_size: its channels that
    come in groups (keys and queries, Mamba's B and C), twice groups * group_size. kernel: length of the convolution in
    tokens, 0 if there is none. heads, recurrent: heads of the recurrent state and elements of one; 0 if there is
    none. recurrent_bytes: bytes of one of its elements; None: as wide as the model's own dtype.
    """

    layers: int
    channels: int
    groups: int
    group_size: int
    kernel: int
    heads: int
    recurrent: int
    recurrent_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Tower:
    """What turns images (or audio) into tokens, as far as its first run in the engine is concerned.

    hidden, intermediate: widths. layers: of the tower. patches: most patches of one image at the model's own defaults,
    before they are merged into `tokens` tokens of the decoder. heads: of its attention; 0: not known.
    """

    hidden: int
    intermediate: int
    layers: int
    patches: int
    tokens: int
    heads: int = 0


@dataclass(frozen=True, slots=True)
class Experts:
    """Mixture of experts: routed experts per layer, how many a token takes, their width, layers that have them."""

    count: int
    per_token: int
    intermediate_size: int
    layers: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder that generates text.

    architecture: first entry of `architectures`. dtype: torch_dtype of the unquantized tensors (bfloat16, float16,
    float32). context_length: max_position_embeddings, in tokens. rotary_dim: elements of a head that are rotated;
    rotary_tables: distinct cos/sin tables (2 where sliding layers use another base). rotary_sections: positions have
    time, height and width (mrope_section). states: layers with a state per sequence. compressed: layers that keep a
    window whole and every token compressed, in place of `attention`. streams: residual streams of the hidden size.
    tower: the encoder of images, None for a model of text. unplanned: why its cache cannot be computed although its
    tensors are known; empty: it can. tower_by_files: what sees is counted by the size of the weight files (see
    `completed`). unserved: most parameters of the files that no engine loads, such as what speaks, adapters. own_code:
    model_type of a config.json that names a configuration class of its repository (auto_map); empty: it names none.
    """

    architecture: str
    family: str
    layers: int
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    heads: int
    kv_heads: int
    head_dim: int
    tied_embeddings: bool
    dtype: str
    context_length: int
    tensors: tuple[Tensor, ...]
    attention: tuple[AttentionLayers, ...]
    experts: Experts | None = None
    quantization: CheckpointQuantization | None = None
    rotary_dim: int = 0
    rotary_tables: int = 1
    rotary_sections: bool = False
    states: tuple[StateLayers, ...] = ()
    compressed: tuple[CompressedLayers, ...] = ()
    streams: int = 1
    tower: Tower | None = None
    unplanned: str = ""
    unserved: int = 0
    tower_by_files: bool = False
    own_code: str = ""

    @property
    def parameters(self) -> int:
        """Parameters as transformers counts them: a tied head counts once."""
        return sum(tensor.parameters for tensor in self.tensors)

    @property
    def is_latent(self) -> bool:
        """Whether any layer keeps a latent (MLA)."""
        return bool(self.compressed) or any(group.kind is AttentionKind.LATENT for group in self.attention)

    @property
    def keeps_tokens(self) -> bool:
        """Whether any layer keeps something of each token; without one there is no KV cache to compute."""
        return any(group.layers for group in self.attention) or bool(self.compressed)

    @property
    def has_window(self) -> bool:
        """Whether any layer has a sliding window."""
        return bool(self.compressed) or any(group.kind is AttentionKind.SLIDING for group in self.attention)
