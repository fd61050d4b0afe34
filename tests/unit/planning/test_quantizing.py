"""What quantizing takes, beside what `lmdeploy lite auto_awq` 0.18.0 took; and which recipes are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llm_operator.models import ModelShape, parse_config
from llm_operator.modeltools import ladder
from llm_operator.modeltools import recipe as tool
from llm_operator.modeltools.tensors import Tensor
from llm_operator.planning import (
    KVQuantization,
    QuantizationNeeds,
    Verdict,
    WeightQuantization,
    compare,
    plan,
    quantization_needs,
    quantization_problems,
    quantizing,
)
from llm_operator.planning.capability import awq_recipe
from llm_operator.planning.quantizing import CUDA_CONTEXT, QUANTIZABLE, QUANTIZABLE_WITHOUT_DATA, quantized_file_bytes
from tests.support.engine_names import Engine
from tests.support.planning import GIB, card, config, request, shape

SEVEN = shape("internlm2_5-7b-chat")
"""The sizes of the model that was quantized: 15,475,417,088 bytes in 16 bit."""
DATA = Path(tool.__file__).parent / "data" / "auto_awq.json"


def needs_of(shape: ModelShape, samples: int, sequence_length: int, **options: int | bool) -> QuantizationNeeds:
    recipe = WeightQuantization(samples=samples, sequence_length=sequence_length, **options)  # type: ignore[arg-type]
    return quantization_needs(shape, recipe)


# torch.cuda.max_memory_allocated() of the real tool on an H100; the first is the 4.49 GiB that it printed on an H200.
@pytest.mark.parametrize(
    ("samples", "sequence_length", "options", "allocated"),
    [
        (32, 2048, {}, 4_820_871_168),
        (128, 2048, {}, 16_902_039_552),
        (16, 512, {}, 2_073_896_448),
        (0, 2048, {}, 886_314_496),
        (32, 2048, {"batch_size": 8}, 6_028_845_056),
        (8, 2048, {"search_scale": True}, 2_777_364_992),
    ],
)
def test_memory_of_the_gpu(samples: int, sequence_length: int, options: dict[str, int], allocated: int) -> None:
    needs = needs_of(SEVEN, samples, sequence_length, **options)
    assert allocated < needs.gpu_bytes - CUDA_CONTEXT < allocated * 1.13


SHALLOW = parse_config(
    {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 4,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
)


# The tool on an H100 whose memory something else held but for so much: the calibrations that died, and the one after.
@pytest.mark.parametrize(
    ("free_mib", "died", "worked"),
    [
        (6998, (64, 2048), (64, 1024)),
        (2098, (32, 512), (16, 512)),
        (1498, (16, 512), (0, 0)),
    ],
)
def test_the_plan_draws_the_line_where_the_tool_did(
    free_mib: int, died: tuple[int, int], worked: tuple[int, int]
) -> None:
    free = free_mib << 20
    assert needs_of(SHALLOW, *worked).gpu_bytes < free < needs_of(SHALLOW, *died).gpu_bytes


def test_a_gpu_of_just_that_size_would_do() -> None:
    """The same tool with its memory limited on purpose."""
    short = needs_of(SEVEN, 32, 2048).gpu_bytes - CUDA_CONTEXT
    assert 4_915_000_000 < short < 5_150_000_000, "it died with the first, worked with the second"
    assert short == pytest.approx(5_112_856_576, rel=1e-3), "what it then reserved"
    long = needs_of(SEVEN, 128, 2048).gpu_bytes - CUDA_CONTEXT
    assert long == pytest.approx((7.74 + 8.0 + 1.02) * GIB, rel=1e-3), "allocated, asked for, lost in gaps"


def test_the_final_norm_sees_all_samples_at_once() -> None:
    """What runs out first on small cards."""
    hidden = 64 * 2048 * 4096 * 2
    more = needs_of(SEVEN, 128, 2048).gpu_bytes - needs_of(SEVEN, 64, 2048).gpu_bytes
    assert more == 8 * hidden


def test_memory_of_the_host_and_size_of_the_files() -> None:
    needs = needs_of(SEVEN, 32, 2048)
    assert quantized_file_bytes(SEVEN, WeightQuantization()) == pytest.approx(5_142_833_424, rel=1e-5)
    assert needs.host_bytes > 20_400_000_000, "the peak of the process's own memory"
    assert needs.host_bytes < 20_400_000_000 * 1.1


@pytest.mark.parametrize("name", ["internlm2_5-7b-chat", "qwen2.5-1.5b", "qwen3-30b-a3b", "phi-3-medium-4k"])
def test_the_job_does_not_ask_for_more_than_the_plan_gives(name: str) -> None:
    """The tool looks at the machine again, from the files' headers."""
    given = shape(name)
    tensors = [
        Tensor(f"model.layers.{number}.weight" if piece.linear else "norm.weight", "BF16", (piece.rows, piece.columns))
        for number, piece in enumerate(given.tensors)
        if piece.role != "Head"
        for _ in range(piece.count)
    ]
    heads = [piece for piece in given.tensors if piece.role == "Head"]
    tensors += [Tensor("lm_head.weight", "BF16", (head.rows, head.columns)) for head in heads]
    original, quantized = tool.sizes(tensors, tool.Recipe())
    needs = needs_of(given, 128, 2048)
    assert needs.host_bytes >= original + quantized + tool.HOST_MARGIN_BYTES
    assert quantized_file_bytes(given, WeightQuantization()) == pytest.approx(quantized, rel=0.01)


@pytest.mark.parametrize("name", ["qwq-32b", "mixtral-8x7b", "qwen3-30b-a3b", "llama-3.3-70b", "phi-4"])
def test_more_of_anything_takes_more(name: str) -> None:
    given = shape(name)
    least = needs_of(given, 16, 512)
    for more in (
        needs_of(given, 32, 512),
        needs_of(given, 16, 1024),
        needs_of(given, 16, 512, batch_size=4),
        needs_of(given, 16, 512, search_scale=True),
    ):
        assert more.gpu_bytes >= least.gpu_bytes
        assert replace(more, gpu_bytes=0) == replace(least, gpu_bytes=0), "the calibration stays on the GPU"
    assert needs_of(given, 0, 512).gpu_bytes < least.gpu_bytes
    assert quantized_file_bytes(given, WeightQuantization(group_size=32)) > quantized_file_bytes(
        given, WeightQuantization()
    )


def test_a_mixture_is_moved_layer_by_layer_with_all_its_experts() -> None:
    mixtral = needs_of(shape("mixtral-8x7b"), 16, 512)
    one_layer = 8 * 3 * 4096 * 14336 * 2
    assert one_layer < mixtral.gpu_bytes < 6 * one_layer


def test_a_recipe_that_works_has_no_problem() -> None:
    assert quantization_problems(SEVEN, WeightQuantization(), None) == ()
    assert quantization_problems(SEVEN, WeightQuantization(), 24 * GIB) == ()


@pytest.mark.parametrize(
    ("name", "recipe", "told"),
    [
        ("internlm2_5-7b-chat", WeightQuantization(bits=3), "with 3 bits is not served; expected AWQ with 4 bits"),
        ("internlm2_5-7b-chat", WeightQuantization(method="GPTQ"), "GPTQ with 4 bits is not served"),
        ("internlm2_5-7b-chat", WeightQuantization(group_size=100), "groups of 100 weights"),
        ("qwen2.5-7b-instruct-awq", WeightQuantization(), "already quantized (awq)"),
        ("qwen3-8b-fp8", WeightQuantization(), "already quantized (fp8)"),
        ("deepseek-v2-lite", WeightQuantization(), "does not know DeepseekV2ForCausalLM"),
        ("qwen1.5-moe-a2.7b", WeightQuantization(), "does not know Qwen2MoeForCausalLM"),
        ("gemma-2-2b", WeightQuantization(), "does not know Gemma2ForCausalLM"),
        ("qwen3-30b-a3b", WeightQuantization(), "calibration.dataset to None"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(name: str, recipe: WeightQuantization, told: str) -> None:
    assert any(told in problem for problem in quantization_problems(shape(name), recipe, None))
    engine = request(name, Engine.VLLM, gpu=card(80, 8), weight_quantization=recipe)
    result = plan(engine)
    assert result.verdict is Verdict.DOES_NOT_FIT
    assert any(told in reason for reason in result.reasons), "the plan says the same"


def test_everything_wrong_is_told_at_once() -> None:
    wrong = WeightQuantization(method="SmoothQuant", bits=8, group_size=48)
    assert len(quantization_problems(shape("gemma-2-2b"), wrong, None)) >= 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hidden_size": 4160, "head_dim": 128}, "hidden_size is 4160"),
        ({"intermediate_size": 14400}, "intermediate_size is 14400"),
        ({"head_dim": 80, "num_attention_heads": 36, "num_key_value_heads": 4}, "attention heads * head_dim is 2880"),
    ],
)
def test_widths_that_a_group_does_not_divide_are_named(change: dict[str, int], told: str) -> None:
    odd = parse_config(config("llama-3.1-8b") | change)
    (problem,) = quantization_problems(odd, WeightQuantization(), None)
    assert told in problem
    assert "group of 128" in problem


def test_smaller_groups_divide_more() -> None:
    odd = parse_config(config("llama-3.1-8b") | {"intermediate_size": 14400})
    assert quantization_problems(odd, WeightQuantization(group_size=64), None) == ()


def test_a_gpu_that_is_too_small_gets_an_offer_that_fits() -> None:
    needed = needs_of(SEVEN, 128, 2048).gpu_bytes
    assert quantization_problems(SEVEN, WeightQuantization(), needed) == ()
    (problem,) = quantization_problems(SEVEN, WeightQuantization(), needed - 1)
    assert f"about {needed / 2**30:.2f} GiB" in problem
    assert "64 samples of 2048 tokens would fit" in problem
    assert quantization_problems(SEVEN, WeightQuantization(samples=64), needed - 1) == ()


def test_the_offers_go_down_to_none() -> None:
    without = needs_of(SEVEN, 0, 0).gpu_bytes
    (problem,) = quantization_problems(SEVEN, WeightQuantization(search_scale=True), without)
    assert "without calibration data (dataset: None) it would fit" in problem
    (problem,) = quantization_problems(SEVEN, WeightQuantization(), without - 1)
    assert "would fit" not in problem
    (problem,) = quantization_problems(SEVEN, WeightQuantization(samples=0), without - 1)
    assert "packing its largest matrix" in problem
    assert "would fit" not in problem


def test_the_offers_end_where_the_job_ends() -> None:
    assert (quantizing.LEAST_SAMPLES, quantizing.LEAST_LENGTH) == (ladder.MIN_SAMPLES, ladder.MIN_LENGTH)


def test_a_mixture_without_calibration_is_offered_and_compared() -> None:
    given = request("qwen3-30b-a3b", Engine.VLLM, gpu=card(40))
    recipe = awq_recipe(given)
    assert recipe == WeightQuantization(samples=0)
    (offer,) = [offer for offer in plan(given).counter_offers if list(offer.change) == ["weightQuantization"]]
    assert offer.change["weightQuantization"] == {
        "method": "AWQ",
        "bits": 4,
        "groupSize": 128,
        "calibration": {"dataset": "None"},
    }
    assert recipe in {cell.weight_quantization for cell in compare(given)}
    assert awq_recipe(request("gpt-oss-20b")) is None


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("policy", [KVQuantization.NONE, KVQuantization.INT4])
def test_a_plan_with_quantized_weights(engine: Engine, policy: KVQuantization) -> None:
    """The origin's case: 14.4 GiB become 4.9, and what they leave goes to the cache."""
    whole = plan(request(engine=engine, gpu=card(24), kv_quantization=policy)).plan
    quantized = plan(
        request(engine=engine, gpu=card(24), kv_quantization=policy, weight_quantization=WeightQuantization())
    ).plan
    assert whole is not None
    assert quantized is not None
    assert whole.weight_bytes_per_gpu / GIB == pytest.approx(14.42, abs=0.02)
    assert quantized.weight_bytes_per_gpu / GIB == pytest.approx(4.87, abs=0.09)
    assert quantized.kv_bytes_per_token == whole.kv_bytes_per_token
    assert quantized.kv_tokens > 1.5 * whole.kv_tokens
    other = WeightQuantization(samples=16, sequence_length=512, batch_size=2, search_scale=True)
    same = plan(request(engine=engine, gpu=card(24), kv_quantization=policy, weight_quantization=other)).plan
    assert same == quantized, "how it was calibrated does not matter to what is served"


def test_families_are_those_of_the_real_tool() -> None:
    """modeltools/data holds what every release's own code says (tests/engines compares)."""
    newest = json.loads(DATA.read_text())["releases"][-1]
    own_names = {"ChatGLMModel"}  # the repository's code calls its class ChatGLMForConditionalGeneration
    assert QUANTIZABLE - own_names <= set(newest["calibrated"])
    assert set(newest["without_data_only"]) >= QUANTIZABLE_WITHOUT_DATA
    text_only = {
        name for name in newest["calibrated"] if not name.startswith(("Llava", "MGM", "Qwen2VL", "Qwen2_5_VL"))
    }
    assert text_only <= QUANTIZABLE


def test_needs_are_plain_numbers() -> None:
    needs = needs_of(SEVEN, 128, 2048)
    assert isinstance(needs, QuantizationNeeds)
    assert all(isinstance(getattr(needs, name), int) for name in QuantizationNeeds.__slots__)
