"""Shapes from config.json: exact parameter counts, what layers keep, and refusals that say what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.models import (
    AttentionKind,
    InvalidModelConfigError,
    MissingFieldError,
    ModelConfigError,
    Role,
    UnknownArchitectureError,
    UnknownKindError,
    UnknownModelError,
    UnsupportedModelKindError,
    parse_config,
    parse_config_text,
)

HERE = Path(__file__).parent
CONFIGS = sorted((HERE / "configs").glob("*.json"))
PARAMETERS: dict[str, int] = json.loads((HERE / "parameters.json").read_text())


def config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((HERE / "configs" / f"{name}.json").read_text())
    return found


def test_at_least_25_public_configs_have_a_recorded_count() -> None:
    assert len(CONFIGS) >= 25
    assert {path.stem for path in CONFIGS} == set(PARAMETERS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_parameters_equal_those_of_transformers_on_the_meta_device(path: Path) -> None:
    assert parse_config_text(path.read_bytes()).parameters == PARAMETERS[path.stem]


def test_engines_own_figures_of_two_models() -> None:
    assert parse_config(config("internlm2_5-7b-chat")).parameters == 7_737_708_544
    assert parse_config(config("qwq-32b")).parameters == 32_763_876_352


@pytest.mark.parametrize(
    ("name", "full", "sliding", "window"),
    [
        ("gemma-3-1b-it", 4, 22, 512),
        ("gemma-2-2b", 13, 13, 4096),
        ("gpt-oss-20b", 12, 12, 128),
        ("mistral-7b-v0.1", 0, 32, 4096),
        ("mistral-7b-v0.3", 32, 0, None),
        ("qwen2.5-7b-instruct", 28, 0, None),
        ("phi-3-mini-4k", 0, 32, 2047),
    ],
)
def test_layers_by_what_they_keep(name: str, full: int, sliding: int, window: int | None) -> None:
    groups = {group.kind: group for group in parse_config(config(name)).attention}
    assert (groups[AttentionKind.FULL].layers if AttentionKind.FULL in groups else 0) == full
    assert (groups[AttentionKind.SLIDING].layers if AttentionKind.SLIDING in groups else 0) == sliding
    assert not sliding or groups[AttentionKind.SLIDING].window == window


def test_latent_attention_keeps_one_latent_of_576() -> None:
    (group,) = parse_config(config("deepseek-v3")).attention
    assert (group.kind, group.kv_heads, group.key_dim, group.value_dim) == (AttentionKind.LATENT, 1, 576, 0)


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "longest", "factor": 8.0},
        {"rope_type": "linear"},
        {"rope_type": "yarn", "factor": -4.0},
        {"rope_type": "dynamic", "factor": 0},
    ],
)
def test_a_stretch_that_no_engine_takes_is_refused(scaling: dict[str, Any]) -> None:
    with pytest.raises(InvalidModelConfigError, match=r"rope_scaling|factor"):
        parse_config(config("llama-3.1-8b") | {"rope_scaling": scaling})


def test_gemma_3_has_its_factor_in_its_context_already() -> None:
    assert parse_config(config("gemma-3-27b-it")).context_length == 131_072


def test_context_counts_a_stretched_rope_once() -> None:
    assert parse_config(config("deepseek-v3")).context_length == 163_840
    assert parse_config(config("llama-3.1-8b")).context_length == 131_072
    assert parse_config(config("internlm2_5-7b-chat")).context_length == 65_536
    stretched = config("qwen2.5-7b-instruct") | {
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    }
    assert parse_config(stretched).context_length == 131_072


def test_quantization_of_checkpoints() -> None:
    awq = parse_config(config("qwen2.5-7b-instruct-awq")).quantization
    assert awq is not None
    assert (awq.method, awq.bits, awq.group_size, awq.symmetric) == ("awq", 4, 128, False)
    fp8 = parse_config(config("deepseek-v3")).quantization
    assert fp8 is not None
    assert (fp8.method, fp8.block, Role.HEAD in fp8.skipped) == ("fp8", (128, 128), True)
    mxfp4 = parse_config(config("gpt-oss-20b")).quantization
    assert mxfp4 is not None
    assert Role.QUERY in mxfp4.skipped
    assert Role.EXPERT_DOWN not in mxfp4.skipped
    packed = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "symmetric": True, "type": "int"}}},
        "ignore": ["lm_head"],
    }
    found = parse_config(config("llama-3.1-8b") | {"quantization_config": packed}).quantization
    assert found is not None
    assert (found.bits, found.group_size, found.skipped) == (4, 32, frozenset({Role.HEAD}))
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True, "sym": False}
    found = parse_config(config("llama-3.1-8b") | {"quantization_config": gptq}).quantization
    assert found is not None
    assert (found.group_size, found.desc_act, found.symmetric) == (None, True, False)


@pytest.mark.parametrize("method", ["hqq", "gguf", ""])
def test_a_quantization_of_unknown_size_is_an_unknown_model(method: str) -> None:
    with pytest.raises(UnknownModelError, match="quantization_config has"):
        parse_config(config("llama-3.1-8b") | {"quantization_config": {"quant_method": method}})


@pytest.mark.parametrize("content", ["", "  ", '{"architectures": ["Llama', "[1]", "null", b"\xff\xfe\x00", "[" * 9000])
def test_unreadable_files(content: str | bytes) -> None:
    with pytest.raises(InvalidModelConfigError, match=r"config\.json"):
        parse_config_text(content)


def test_every_missing_field_is_named_at_once() -> None:
    broken = config("llama-3.1-8b")
    del broken["num_hidden_layers"], broken["vocab_size"]
    with pytest.raises(MissingFieldError, match="num_hidden_layers, vocab_size") as caught:
        parse_config(broken)
    assert caught.value.fields == ("num_hidden_layers", "vocab_size")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0"}, "diffusion"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "encoder"),
        ({"architectures": ["BertModel"]}, "encoder"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "classifier"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder-decoder"),
        ({"peft_type": "LORA", "base_model_name_or_path": "x"}, "adapter"),
        ({"architectures": ["WhisperForConditionalGeneration"], "is_encoder_decoder": True}, "encoder-decoder"),
        ({"architectures": ["BartForConditionalGeneration"]}, "encoder-decoder"),
        ({"architectures": ["MarianMTModel"]}, "encoder-decoder"),
        ({"architectures": ["VisionEncoderDecoderModel"]}, "encoder-decoder"),
        ({"architectures": ["SegformerForSemanticSegmentation"]}, "images or sound"),
        ({"architectures": ["HubertForCTC"]}, "images or sound"),
    ],
)
def test_the_wrong_kind_of_model_is_said_to_be_that(values: dict[str, Any], kind: str) -> None:
    with pytest.raises(UnsupportedModelKindError, match=kind):
        parse_config(values)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Qwen3Model", "embedding"),
        ("Gemma3TextModel", "embedding"),
        ("MistralModel", "embedding"),
        ("ColPaliForRetrieval", "embedding"),
        ("EagleLlamaForCausalLM", "draft"),
        ("DeepSeekMTPModel", "draft"),
    ],
)
def test_what_an_engine_may_serve_otherwise_is_unknown_and_said_to_be_that(name: str, kind: str) -> None:
    with pytest.raises(UnknownKindError, match=f"{kind} model.*nothing is blocked"):
        parse_config({"architectures": [name], "hidden_size": 64})


@pytest.mark.parametrize(
    ("values", "file"),
    [
        ({"metadata": {"total_size": 7}, "weight_map": {"a": "b"}}, "index of the weight files"),
        ({"add_bos_token": True, "tokenizer_class": "LlamaTokenizer"}, "tokenizer_config.json"),
        ({"bos_token_id": 1, "do_sample": True}, "generation_config.json"),
        ({"image_processor_type": "Qwen2VLImageProcessor"}, "preprocessor_config.json"),
        ({"dim": 4096, "n_layers": 32, "n_heads": 32}, "params.json"),
        ({"bits": 4, "group_size": 128, "desc_act": False}, "quantize_config.json"),
        ({"apiVersion": "v1", "kind": "LLMDeployment"}, "-f"),
    ],
)
def test_another_file_of_the_repository_is_recognised(values: dict[str, Any], file: str) -> None:
    with pytest.raises(InvalidModelConfigError, match=f"{file}.*give config.json"):
        parse_config(values)


def test_an_unknown_architecture_is_unknown_and_names_no_other() -> None:
    with pytest.raises(UnknownArchitectureError, match="Qwen9ForCausalLM is unknown") as caught:
        parse_config({"architectures": ["Qwen9ForCausalLM"], "hidden_size": 64})
    assert "Qwen3" not in str(caught.value)
    with pytest.raises(MissingFieldError, match="architectures"):
        parse_config({"model_type": "llama"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", -1),
        ("num_hidden_layers", 0),
        ("hidden_size", 10**12),
        ("vocab_size", "32000"),
        ("vocab_size", True),
        ("num_attention_heads", 32.5),
        ("num_key_value_heads", 5),
        ("tie_word_embeddings", "yes"),
        ("torch_dtype", "int3"),
        ("rope_scaling", [1]),
        ("architectures", "LlamaForCausalLM"),
    ],
)
def test_wrong_types_and_absurd_sizes(field: str, value: object) -> None:
    with pytest.raises(ModelConfigError) as caught:
        parse_config(config("llama-3.1-8b") | {field: value})
    assert field in str(caught.value) or str(value) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.sampled_from([path.stem for path in CONFIGS]), st.data())
def test_any_damage_ends_in_a_shape_or_a_typed_error(name: str, data: st.DataObject) -> None:
    values = config(name)
    for field in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3)):
        values[field] = data.draw(JSON)
    try:
        parameters = parse_config(values).parameters
    except ModelConfigError:
        return
    assert parameters > 0


@pytest.mark.parametrize("kind", [str, bytes])
def test_text_that_no_encoding_has_is_refused_and_whole_pairs_are_read(kind: type) -> None:
    half, whole = '{"architectures": ["\\ud83d"]}', '{"architectures": ["\\ud83d\\ude00"]}'
    with pytest.raises(InvalidModelConfigError, match="half of a surrogate pair"):
        parse_config_text(half if kind is str else half.encode())
    with pytest.raises(UnknownArchitectureError, match="😀"):
        parse_config_text(whole if kind is str else whole.encode())
    nested = half.replace('"\\ud83d"', "[" * 800 + '"\\ud83d"' + "]" * 800)
    with pytest.raises(InvalidModelConfigError):
        parse_config_text(nested)


def test_both_spellings_of_exaones_mixture_are_one_model() -> None:
    values: dict[str, Any] = {
        "architectures": ["ExaoneMoeForCausalLM"],
        **{"hidden_size": 6144, "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 8},
        **{"head_dim": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048, "vocab_size": 153600},
        **{"num_experts": 128, "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1},
        **{"max_position_embeddings": 262144, "sliding_window": 128, "sliding_window_pattern": "LLLG"},
    }
    other = parse_config(values | {"architectures": ["ExaoneMoEForCausalLM"]})
    assert other.parameters == parse_config(values).parameters
    assert other.parameters > 230_000_000_000
    assert other.attention == parse_config(values | {"sliding_window_pattern": 4}).attention
    odd = parse_config(values | {"num_hidden_layers": 47})
    assert sum(group.layers for group in odd.attention if group.window is None) == 12
