"""One row for each architecture of attention and networks: how it departs from Llama."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from llm_operator.models.fields import Fields
from llm_operator.models.known.general import Mixture, Traits, all_layers, every
from llm_operator.models.layers import Places, everywhere, stepped


def _ernie(fields: Fields, layers: int) -> Places:
    first = fields.integer("moe_layer_start_index", 0, least=0)
    last = fields.integer("moe_layer_end_index", layers - 1, least=-1)
    step = fields.integer("moe_layer_interval", 1)
    last = layers - 1 if last < 0 else last
    return tuple(layer for layer in range(layers) if (layer + 1) % step == 0 and first <= layer <= last)


def _never(fields: Fields, layers: int) -> Places:
    return everywhere(layers)


BIAS = ("attention_bias", False)
USE_BIAS = ("use_bias", False)
LLAMA = Traits(qkv_bias=BIAS, output_bias=BIAS, mlp_bias=("mlp_bias", False))
LOCAL = Mixture(size=("intermediate_size",), sparse=_never)
GEMMA_LIKE = Traits(head_dim=256, qkv_bias=BIAS, output_bias=BIAS, norms=2)
# transformers and the model's own repository spell its name differently.
PHI_MOE = Traits(
    qkv_bias=BIAS,
    output_bias=BIAS,
    head_bias=("lm_head_bias", False),
    norm_bias=True,
    mixture=LOCAL,
    windows=all_layers,
)

ROWS: Mapping[str, tuple[str, Traits]] = MappingProxyType(
    {
        "AfmoeForCausalLM": (
            "Afmoe",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                query_norms="head",
                norms=4,
                output_gate=True,
                mixture=Mixture(shared="*num_shared_experts", router_bias=True),
                windows=every(4, "global_attn_every_n_layers"),
            ),
        ),
        "ApertusForCausalLM": (
            "Apertus",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="head", gated=False, activation_numbers=2),
        ),
        "AquilaForCausalLM": ("Llama", LLAMA),
        "ArceeForCausalLM": (
            "Arcee",
            Traits(qkv_bias=BIAS, output_bias=BIAS, mlp_bias=("mlp_bias", False), gated=False),
        ),
        "BaichuanForCausalLM": ("Baichuan", Traits()),
        "BaiChuanForCausalLM": ("Baichuan", Traits()),
        "BailingMoeForCausalLM": (
            "Bailing",
            Traits(
                qkv_bias=("use_qkv_bias", False),
                output_bias=USE_BIAS,
                query_norms="head",
                query_norms_if=("use_qk_norm", False),
                mixture=Mixture(shared="*num_shared_experts"),
            ),
        ),
        "BailingMoeV2ForCausalLM": (
            "Bailing",
            Traits(
                qkv_bias=("use_qkv_bias", False),
                output_bias=USE_BIAS,
                query_norms="head",
                query_norms_if=("use_qk_norm", True),
                partial_rotary=0.5,
                mixture=Mixture(shared="*num_shared_experts"),
            ),
        ),
        "CohereForCausalLM": (
            "Cohere",
            Traits(
                tied=True,
                qkv_bias=BIAS,
                output_bias=BIAS,
                query_norms="whole",
                query_norms_if=("use_qk_norm", False),
                norms=1,
            ),
        ),
        "Cohere2ForCausalLM": (
            "Cohere2",
            Traits(
                tied=True,
                qkv_bias=BIAS,
                output_bias=BIAS,
                norms=1,
                windows=every(4, "sliding_window_pattern", "_sliding_window_pattern"),
            ),
        ),
        "Cohere2MoeForCausalLM": (
            "Cohere2",
            Traits(
                tied=True,
                qkv_bias=BIAS,
                output_bias=BIAS,
                norms=1,
                mixture=Mixture(
                    size=("intermediate_size",),
                    shared="*num_shared_experts",
                    dense=("prefix_dense_intermediate_size", "intermediate_size"),
                ),
                windows=every(4, "sliding_window_pattern"),
            ),
        ),
        "CwmForCausalLM": ("Llama", replace(LLAMA, qkv_bias=False, output_bias=False, windows=every(4))),
        "DeepseekForCausalLM": (
            "DeepSeek",
            Traits(qkv_bias=BIAS, output_bias=BIAS, mixture=Mixture(shared="*n_shared_experts")),
        ),
        "Dots1ForCausalLM": (
            "Dots1",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                query_norms="head",
                mixture=Mixture(shared="*n_shared_experts"),
                windows=all_layers,
            ),
        ),
        "Ernie4_5ForCausalLM": (
            "Ernie",
            Traits(tied=True, head_dim=128, qkv_bias=USE_BIAS, output_bias=USE_BIAS, mlp_bias=USE_BIAS),
        ),
        "Ernie4_5_MoeForCausalLM": (
            "Ernie",
            Traits(
                tied=True,
                qkv_bias=USE_BIAS,
                output_bias=USE_BIAS,
                mlp_bias=USE_BIAS,
                head_bias=USE_BIAS,
                mixture=Mixture(shared="*moe_num_shared_experts", shared_default=2, router_bias=True, sparse=_ernie),
            ),
        ),
        "Exaone4ForCausalLM": (
            "Exaone",
            Traits(query_norms="head", windows=every(4, "sliding_window_pattern"), rotary_tables=1),
        ),
        "ExaoneMoeForCausalLM": (
            "Exaone",
            Traits(
                query_norms="head",
                windows=every(4, "sliding_window_pattern"),
                mixture=Mixture(shared="*num_shared_experts"),
            ),
        ),
        "FlexOlmoForCausalLM": (
            "Olmo",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="whole", mixture=LOCAL),
        ),
        "GraniteForCausalLM": ("Granite", LLAMA),
        "GraniteMoeForCausalLM": ("Granite", Traits(qkv_bias=BIAS, output_bias=BIAS, mixture=LOCAL)),
        "GraniteMoeSharedForCausalLM": (
            "Granite",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                mixture=Mixture(size=("intermediate_size",), shared="shared_intermediate_size", sparse=_never),
            ),
        ),
        "GraniteSWAForCausalLM": ("Granite", replace(LLAMA, sinks=True, windows=every(4))),
        "GraniteMoeSWAForCausalLM": (
            "Granite",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                sinks=True,
                mixture=Mixture(size=("intermediate_size",), shared="shared_intermediate_size", sparse=_never),
            ),
        ),
        "HYV3ForCausalLM": (
            "HunYuan",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                mlp_bias=("mlp_bias", False),
                query_norms="head",
                mixture=Mixture(shared="*num_shared_experts"),
            ),
        ),
        "HunYuanDenseV1ForCausalLM": (
            "HunYuan",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="head", query_norms_if=("use_qk_norm", True)),
        ),
        "InternLMForCausalLM": ("InternLM", Traits(qkv_bias=("bias", True), output_bias=("bias", True))),
        "IQuestCoderForCausalLM": ("Llama", LLAMA),
        "Jais2ForCausalLM": (
            "Jais",
            Traits(qkv_bias=BIAS, output_bias=BIAS, mlp_bias=("mlp_bias", True), gated=False, norm_bias=True),
        ),
        "LLaMAForCausalLM": ("Llama", LLAMA),
        "MellumForCausalLM": ("Mellum", Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="head", mixture=Mixture())),
        "MiMoForCausalLM": ("MiMo", Traits(qkv_bias=("attention_bias", True))),
        "MiniCPMForCausalLM": ("MiniCPM", Traits(tied=True)),
        "MinistralForCausalLM": ("Mistral", Traits(windows=all_layers)),
        "Ministral3ForCausalLM": ("Mistral", Traits(head_dim=128, windows=all_layers)),
        "MiniMaxM2ForCausalLM": (
            "MiniMax",
            Traits(
                query_norms="whole",
                query_norms_if=("use_qk_norm", True),
                mixture=LOCAL,
            ),
        ),
        "NanoChatForCausalLM": (
            "NanoChat",
            Traits(qkv_bias=BIAS, output_bias=BIAS, gated=False, norms=0, last_norm=False),
        ),
        "NemotronForCausalLM": (
            "Nemotron",
            Traits(
                qkv_bias=BIAS,
                output_bias=BIAS,
                mlp_bias=("mlp_bias", False),
                gated=False,
                norm_bias=True,
                partial_rotary=0.5,
            ),
        ),
        "OlmoForCausalLM": ("Olmo", Traits(qkv_bias=BIAS, output_bias=BIAS, norms=0, last_norm=False)),
        "Olmo2ForCausalLM": ("Olmo", Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="whole")),
        "Olmo3ForCausalLM": (
            "Olmo",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="whole", windows=every(4), rotary_tables=2),
        ),
        "OlmoeForCausalLM": (
            "Olmo",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="whole", mixture=LOCAL),
        ),
        "OrionForCausalLM": ("Orion", Traits(norm_bias=True)),
        # Huawei's embedded Pangu: Llama with biases of all four projections (vLLM 0.33.0, models/openpangu.py).
        "PanguEmbeddedForCausalLM": ("Pangu", Traits(qkv_bias=("bias", False), output_bias=("bias", False))),
        "PhiForCausalLM": (
            "Phi",
            Traits(
                qkv_bias=True,
                output_bias=True,
                mlp_bias=True,
                head_bias=True,
                gated=False,
                norms=1,
                norm_bias=True,
                query_norms="head",
                query_norms_if=("qk_layernorm", False),
                partial_rotary=0.5,
            ),
        ),
        "PhimoeForCausalLM": ("Phi", PHI_MOE),
        "PhiMoEForCausalLM": ("Phi", PHI_MOE),
        "SDARForCausalLM": ("SDAR", Traits(head_dim=128, qkv_bias=BIAS, output_bias=BIAS, query_norms="head")),
        "SDARMoeForCausalLM": (
            "SDAR",
            Traits(qkv_bias=BIAS, output_bias=BIAS, query_norms="head", mixture=Mixture(sparse=stepped)),
        ),
        "SeedOssForCausalLM": (
            "SeedOss",
            Traits(
                head_dim=128,
                qkv_bias=("attention_bias", True),
                output_bias=("attention_out_bias", False),
                mlp_bias=("mlp_bias", False),
            ),
        ),
        "SmolLM3ForCausalLM": (
            "SmolLM",
            Traits(tied=True, qkv_bias=BIAS, output_bias=BIAS, mlp_bias=("mlp_bias", False)),
        ),
        "SolarForCausalLM": ("Solar", LLAMA),
        "SolarOpenForCausalLM": (
            "Solar",
            Traits(
                head_dim=128,
                qkv_bias=BIAS,
                mixture=Mixture(shared="*n_shared_experts", shared_default=1, sparse=_never),
            ),
        ),
        "StableLmForCausalLM": (
            "StableLM",
            Traits(
                qkv_bias=("use_qkv_bias", False),
                query_norms="whole",
                query_norms_if=("qk_layernorm", False),
                norm_bias=True,
                one_norm_if=("use_parallel_residual", False),
                partial_rotary=0.25,
            ),
        ),
        "Starcoder2ForCausalLM": (
            "Starcoder",
            Traits(
                tied=True,
                qkv_bias=("use_bias", True),
                output_bias=("use_bias", True),
                mlp_bias=("use_bias", True),
                gated=False,
                norm_bias=True,
                windows=all_layers,
            ),
        ),
        "TeleChat3ForCausalLM": ("Llama", LLAMA),
        "TeleFLMForCausalLM": ("Llama", LLAMA),
        "VaultGemmaForCausalLM": ("Gemma", replace(GEMMA_LIKE, tied=True, windows=every(2))),
        "XverseForCausalLM": ("Llama", LLAMA),
    }
)
