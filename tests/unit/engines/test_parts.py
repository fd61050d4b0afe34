# ruff: noqa: E501 - lines of logs are quoted whole
"""The part of the engine whose code failed decides if no line says why, and only then."""

from __future__ import annotations

import itertools

import pytest

from llm_operator.engines.death import read_log
from llm_operator.engines.failures import GENERIC, diagnose, known_failure
from llm_operator.engines.parts import PARTS
from llm_operator.engines.registry import ENGINES
from llm_operator.reasons import NAMES
from tests.unit.engines.test_remedies import of_any_version, options

VLLM, LMDEPLOY = "VLLM", "LMDeploy"
PACKAGES = "/usr/local/lib/python3.12/dist-packages/"
CORE = "(EngineCore pid=84) ERROR 05-07 12:00:00 [core.py:1108] "
# Engine, frames from outside to inside, error, reason.
FAILED = [
    (VLLM, ["vllm/engine/arg_utils.py:create_engine_config", "vllm/config/vllm.py:__post_init__"], "ValueError: this and that", "SettingRefused"),
    (VLLM, ["vllm/v1/engine/core.py:__init__", "vllm/v1/spec_decode/eagle.py:propose", "vllm/model_executor/models/llama_eagle3.py:forward"], "IndexError: list index out of range", "SpeculationFailed"),
    (VLLM, ["vllm/v1/worker/gpu_model_runner.py:load_model", "vllm/model_executor/models/qwen3.py:load_weights", "vllm/model_executor/models/utils.py:_load_module"], "AttributeError: 'Parameter' object has no attribute 'x'", "WeightsMismatch"),
    (VLLM, ["vllm/v1/worker/gpu_model_runner.py:profile_run", "vllm/lora/ops/triton_ops/lora_shrink_op.py:_lora_shrink"], "AssertionError", "AdapterRefused"),
    (VLLM, ["vllm/model_executor/model_loader/base_loader.py:load_model", "vllm/model_executor/layers/quantization/gptq.py:create_weights"], "TypeError: unsupported operand", "FormatMismatch"),
    (VLLM, ["vllm/v1/worker/gpu_worker.py:compile_or_warm_up_model", "vllm/v1/worker/gpu_model_runner.py:capture_model", "vllm/v1/attention/backends/x.py:build"], "AssertionError", "GraphCaptureFailed"),
    (VLLM, ["vllm/v1/worker/gpu_model_runner.py:execute_model", "vllm/v1/attention/backends/mla/common.py:build"], "AssertionError", "AttentionNotSupported"),
    (VLLM, ["vllm/multimodal/profiling.py:_get_dummy_mm_inputs", "transformers/models/x/processing_x.py:__call__"], "TypeError: 'NoneType' object is not subscriptable", "MultimodalFailed"),
    (VLLM, ["vllm/model_executor/models/qwen3.py:__init__", "torch/nn/modules/module.py:__getattr__"], "IndexError: list index out of range", "ModelCodeFailed"),
    (VLLM, ["vllm/v1/engine/core.py:_initialize_kv_caches", "vllm/v1/core/kv_cache_utils.py:get_kv_cache_configs"], "AssertionError", "KVCacheLayoutFailed"),
    (VLLM, ["vllm/v1/structured_output/backend_xgrammar.py:compile_grammar"], "RuntimeError: something of a grammar", "StructuredOutputFailed"),
    (VLLM, ["vllm/distributed/kv_transfer/kv_connector/v1/nixl_connector.py:__init__"], "RuntimeError: no", "KVTransferFailed"),
    (VLLM, ["vllm/__init__.py:<module>", "pyarrow/lib.py:<module>"], "AttributeError: module has nothing", "PackageMismatch"),
    (VLLM, ["vllm/model_executor/layers/fused_moe/layer.py:__init__"], "AssertionError", "KernelFailed"),
    (VLLM, ["vllm/transformers_utils/configs/x.py:__init__"], "KeyError: 'type'", "ModelConfigInvalid"),
    (VLLM, ["vllm/transformers_utils/tokenizer.py:get_tokenizer"], "KeyError: 'type'", "TokenizerMismatch"),
    (VLLM, ["vllm/model_executor/model_loader/x.py:load", "safetensors/torch.py:load_file"], "RuntimeError: no", "WeightsCorrupt"),
    (LMDEPLOY, ["lmdeploy/turbomind/turbomind.py:__init__", "lmdeploy/turbomind/deploy/source_model/llama.py:x"], "KeyError: 'x'", "FormatMismatch"),
    (LMDEPLOY, ["lmdeploy/pytorch/models/qwen3.py:__init__"], "IndexError: list index out of range", "ModelCodeFailed"),
    (LMDEPLOY, ["lmdeploy/messages.py:__post_init__"], "AssertionError: this and that", "SettingRefused"),
    (LMDEPLOY, ["lmdeploy/vl/model/x.py:build_model"], "TypeError: no", "MultimodalFailed"),
    (LMDEPLOY, ["lmdeploy/pytorch/weight_loader/model_weight_loader.py:load_model_weights"], "KeyError: 'x'", "WeightsMismatch"),
]  # fmt: skip


def traceback(prefix: str, frames: list[str], error: str) -> list[str]:
    lines = [f"{prefix}Traceback (most recent call last):"]
    for frame in frames:
        module, function = frame.split(":")
        lines += [f'{prefix}  File "{PACKAGES}{module}", line 7, in {function}', f"{prefix}    call()"]
    return [*lines, f"{prefix}{error}"]


@pytest.mark.parametrize("prefix", ["", CORE, "(EngineCore pid=84) "])
@pytest.mark.parametrize(
    ("engine", "frames", "error", "reason"), FAILED, ids=[f"{row[0]}-{row[3]}-{row[1][-1]}" for row in FAILED]
)
def test_the_part_that_failed_is_named(engine: str, frames: list[str], error: str, reason: str, prefix: str) -> None:
    text = "\n".join(traceback(prefix, frames, error))
    found = diagnose(engine, 1, None, text)
    assert found.reason == reason
    assert error in found.message
    assert found.reason in NAMES


# Errors without frames, as a message may keep them: engine, error, reason.
SPOKEN = [
    (VLLM, "AttributeError: 'EagleProposer' object has no attribute 'positions'", "SpeculationFailed"),
    (VLLM, "ValueError: base_model.model.x is unsupported LoRA weight", "AdapterRefused"),
    (VLLM, "AssertionError: External KV connector is not verified yet", "KVTransferFailed"),
    (VLLM, "RuntimeError: the grammar of xgrammar has no rule", "StructuredOutputFailed"),
    (VLLM, "ValueError: Attempted to assign 25 + 25 = 50 multimodal tokens to 147 placeholders", "MultimodalFailed"),
    (VLLM, "TypeError: Received a XImageProcessorFast for argument image_processor, but a XImageProcessor was expected.", "TokenizerMismatch"),
    (VLLM, "AssertionError: h.0.weight shape mismatch between model and checkpoint: torch.Size([3]) != torch.Size([4])", "WeightsMismatch"),
    (VLLM, "AttributeError: MoE Model X does not support BitsAndBytes quantization yet.", "FormatMismatch"),
    (VLLM, "AttributeError: 'Qwen3VLMoeModel' object has no attribute 'x'", "ModelCodeFailed"),
    (LMDEPLOY, "AssertionError: quant_method of x is not y", "FormatMismatch"),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "error", "reason"), SPOKEN, ids=[f"{row[0]}-{row[2]}" for row in SPOKEN])
def test_the_words_of_an_error_name_a_part(engine: str, error: str, reason: str) -> None:
    assert diagnose(engine, 1, None, error).reason == reason
    assert diagnose(engine, 1, None, f"{CORE}{error}").reason == reason


def test_an_option_that_is_named_is_what_to_change() -> None:
    error = "ValueError: --limit-mm-per-prompt must be set for multimodal items of this model"
    assert diagnose(VLLM, 1, None, error).reason == "SettingRefused"


def test_a_line_that_says_why_comes_before_its_place() -> None:
    text = traceback("", ["vllm/v1/spec_decode/eagle.py:propose"], "torch.OutOfMemoryError: CUDA out of memory.")
    assert diagnose(VLLM, 1, None, "\n".join(text)).reason == "GPUOutOfMemory"


def test_what_only_wraps_it_does_not_hide_it() -> None:
    frames = ["vllm/v1/engine/core_client.py:__init__", "vllm/v1/engine/utils.py:wait_for_engine_startup"]
    told = traceback(CORE, ["vllm/v1/spec_decode/eagle.py:propose"], "IndexError: no")
    wrapper = traceback(
        "(APIServer pid=1) ", frames, "RuntimeError: Engine core initialization failed. See root cause above."
    )
    assert diagnose(VLLM, 1, None, "\n".join((*told, *wrapper))).reason == "SpeculationFailed"


def test_processes_that_print_at_the_same_time_are_kept_apart() -> None:
    one = traceback("(Worker_TP0 pid=3) ERROR 05-07 12:00:00 [x.py:1] ", ["vllm/lora/models.py:load"], "IndexError: no")
    other = traceback(
        "(Worker_TP1 pid=4) ERROR 05-07 12:00:00 [x.py:1] ", ["vllm/lora/models.py:load"], "IndexError: no"
    )
    mixed = list(itertools.chain.from_iterable(zip(one, other, strict=True)))
    assert [frames for _, frames in read_log("\n".join(mixed)).raised] == [(f"{PACKAGES}vllm/lora/models.py:load",)] * 2


@pytest.mark.parametrize("code", [137, 143])
def test_what_was_killed_did_not_fail_at_its_last_traceback(code: int) -> None:
    text = "\n".join(traceback(CORE, ["vllm/v1/spec_decode/eagle.py:propose"], "IndexError: no"))
    assert diagnose(VLLM, code, None, text).reason in GENERIC | {"EngineTerminated"}


def test_the_traceback_of_a_request_is_none_of_the_engine() -> None:
    request = traceback(
        "(APIServer pid=1) ERROR 04-28 14:17:50 [serving.py:2] ", ["vllm/multimodal/media.py:fetch"], "IndexError: no"
    )
    served = "\n".join(("INFO:     Application startup complete.", *request))
    assert diagnose(VLLM, 1, None, served).reason in GENERIC
    died = "ERROR 06-26 00:04:52 [async_llm.py:420] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."
    assert diagnose(VLLM, 1, None, f"{served}\n{died}").reason == "MultimodalFailed"


def test_a_client_that_has_gone_ends_no_engine() -> None:
    request = traceback("", ["vllm/multimodal/media.py:fetch"], "IndexError: no")
    gone = "ConnectionResetError: [Errno 104] Connection reset by peer"
    served = "\n".join(("INFO:     Application startup complete.", gone, *request))
    assert diagnose(VLLM, 1, None, served).reason in GENERIC


def test_frames_alone_say_nothing_of_a_healthy_engine() -> None:
    text = "\n".join(
        traceback(
            "(EngineCore pid=84) WARNING 05-07 12:00:00 [x.py:1] ", ["vllm/lora/models.py:load"], "IndexError: no"
        )
    )
    assert known_failure(VLLM, text) is None
    assert diagnose(VLLM, 1, None, text).reason in GENERIC


@pytest.mark.parametrize("engine", ENGINES)
def test_the_options_of_a_remedy_are_the_engines(engine: str) -> None:
    for part in (*ENGINES[engine].log.parts, *PARTS):
        assert options(part.remedy) - of_any_version(engine) == set()
        assert part.reason in NAMES - GENERIC
