"""`kubectl llm plan` in all its forms: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from llm_operator.cli.main import run
from llm_operator.models import parse_config_text
from llm_operator.planning import PlanRequest, gpu_by_name, plan, result_document
from tests.faulty_hub import Fault, FaultyHub
from tests.support.engine_names import Engine
from tests.unit.cli.plan_runs import ITEM, LARGE, LLAMA, OFFLINE, SMALL, check_plan, items, manifest, ran, refused


def test_what_fits_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-RTX-A6000:2")
    assert set(item) == ITEM
    assert item["verdict"] == "Fits"
    assert item["counterOffers"] == []
    check_plan(item["plan"])
    assert item["plan"]["tensor"] == item["plan"]["gpusPerReplica"] == 1
    assert item["plan"]["weightBytesPerGpu"] == 8030261248 * 2


def test_what_does_not_fit_ends_with_1_and_offers_what_does(capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = items(capsys, "--config", LARGE, "--gpu", "NVIDIA-RTX-A6000:2", code=1)
    assert item["verdict"] == "DoesNotFit"
    assert item["reasons"]
    assert item["counterOffers"]
    check_plan(item["plan"])
    for offer in item["counterOffers"]:
        assert set(offer) == {"change", "plan"}
        check_plan(offer["plan"])
        assert offer["plan"]["kvTokens"] > 0
    changed = {path for offer in item["counterOffers"] for path in offer["change"]}
    assert {"parallelism.tensor", "gpu.memory"} <= changed


def test_the_answer_is_the_planners_own(capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-L4", "--engine", "VLLM", "--engine-version", "0.26.0")
    shape = parse_config_text(Path(LLAMA).read_bytes())
    request = PlanRequest(shape, Engine.VLLM, "0.26.0", gpu_by_name("NVIDIA-L4"))
    assert item == json.loads(json.dumps(result_document("plan", plan(request))))


def test_yaml_says_what_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--config", LARGE, "--gpu", "NVIDIA-RTX-A6000:2")
    expected = items(capsys, *arguments, code=1)
    code, output, _ = ran(capsys, *arguments, "-o", "yaml")
    assert code == 1
    assert yaml.safe_load(output) == {"items": expected}


def test_a_plan_that_may_not_hold_a_request_is_called_tight(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["plan", "--config", LLAMA, "--engine", "VLLM", "--context-length", "4096", "--gpu-memory"]
    assert run([*given, "18Gi"]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[1].split()[1:3] == ["Fits", "(tight)"]
    assert "in the worst case no memory is left for the KV cache, and the engine does not start" in table
    assert run([*given, "24Gi"]) == 0
    assert "tight" not in capsys.readouterr().out


def test_the_table_has_a_line_for_each_and_the_offers(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    file = written(manifest("small"), manifest("wide", parallelism={"tensor": 3}))
    code, output, _ = ran(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-RTX-A6000:4")
    assert code == 1
    lines = output.splitlines()
    assert lines[0].split()[:3] == ["NAME", "VERDICT", "TP"]
    assert lines[1].split()[:2] == ["small", "Fits"]
    assert lines[2].split()[:2] == ["wide", "DoesNotFit"]
    assert any(line.startswith("wide: would fit with parallelism.tensor: ") for line in lines)


def test_a_wide_table_has_the_gpus_and_bytes_behind_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = ran(capsys, "--config", LLAMA, "--gpu", "A6000:2", "--tensor", "2", "-o", "wide")
    head, row = (re.split(r"  +", line) for line in output.splitlines()[:2])
    found = dict(zip(head, row, strict=True))
    assert code == 0
    assert (found["TP"], found["GPUS"], found["KV/TOKEN"], found["KV SHARE"]) == ("2", "2", "65,536 B", "80 %")
    assert found["GPU MEMORY"].endswith(" GiB")
    kept = round(float(found["KV/GPU"].removesuffix(" GiB")) * 2**30 / 65_536)
    assert kept == pytest.approx(int(found["KV TOKENS"].replace(",", "")), rel=0.01)
    assert ran(capsys, "--config", LARGE, "--gpu", "no-such", "-o", "wide")[0] == 2


def test_several_documents_files_and_lists(capsys: pytest.CaptureFixture[str], written: Callable[..., str]) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}}
    one = written(manifest("a"), service, None, manifest("b"), name="one.yaml")
    two = written({"apiVersion": "v1", "kind": "List", "items": [manifest("c"), manifest("a")]}, name="two.yaml")
    found = items(capsys, "-f", one, "-f", two, "--config", LLAMA, "--gpu", "NVIDIA-L4")
    assert [item["name"] for item in found] == ["a", "b", "c", "a-2"]
    assert items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-L4", "-f", one, two) == found


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump_all([manifest("a"), manifest("b", engine={"type": "VLLM"})])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    found = items(capsys, "-f", "-", "--config", LLAMA, "--gpu", "NVIDIA-L4")
    assert [(item["name"], item["verdict"]) for item in found] == [("a", "Fits"), ("b", "Fits")]
    assert found[0]["plan"]["kvTokens"] != found[1]["plan"]["kvTokens"]


def test_the_manifest_says_what_is_planned(capsys: pytest.CaptureFixture[str], written: Callable[..., str]) -> None:
    spec = {
        "parallelism": {"tensor": 2},
        "kvCache": {"quantization": "Int8", "memoryPercent": 40},
        "contextLength": 4096,
        "gpu": {"product": "NVIDIA-RTX-A6000"},
    }
    (item,) = items(capsys, "-f", written(manifest("a", **spec)), "--config", LLAMA)
    (flags,) = items(
        capsys, "--config", LLAMA, "--gpu", "NVIDIA-RTX-A6000:8", "--tensor", "2", "--kv", "Int8",
        "--memory-percent", "40", "--context-length", "4096",
    )  # fmt: skip
    assert item["plan"] == flags["plan"]
    assert (item["plan"]["tensor"], item["plan"]["contextLength"]) == (2, 4096)


def test_vllms_own_share_of_the_total(capsys: pytest.CaptureFixture[str], written: Callable[..., str]) -> None:
    engine = {"type": "VLLM", "extraArgs": ["--gpu-memory-utilization", "0.9"]}
    gpu = ("--gpu", "NVIDIA-H100-80GB-HBM3")
    (item,) = items(capsys, "-f", written(manifest("a", engine=engine)), "--config", LLAMA, *gpu)
    (flag,) = items(capsys, "--config", LLAMA, *gpu, "--engine", "VLLM", "--gpu-memory-utilization", "0.9")
    assert item["plan"] == flag["plan"]
    assert "ceil(utilization * total)" in item["plan"]["explanation"]
    (more,) = items(capsys, "--config", LLAMA, *gpu, "--engine", "VLLM", "--gpu-memory-utilization", "0.8")
    assert more["plan"]["kvTokens"] < item["plan"]["kvTokens"]


def test_what_engines_measured_is_planned_with(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ("--config", LLAMA, "--gpu", "NVIDIA-L40S", "--backend", "PyTorch", "--memory-percent", "60")
    (plain,) = items(capsys, *flags)
    row = {
        "engine": "LMDeploy", "backend": "PyTorch", "version": "0.18", "architecture": "LlamaForCausalLM",
        "quantization": "", "product": "NVIDIA-L40S", "tensor": 1,
        "weight_bytes": plain["plan"]["weightBytesPerGpu"], "extras": [1 << 30],
    }  # fmt: skip
    text = json.dumps([row])
    (tmp_path / "rows.json").write_text(text)
    (tmp_path / "map.json").write_text(json.dumps({"kind": "ConfigMap", "data": {"records.json": text}}))
    (tmp_path / "broken.json").write_text("[1]")
    found = [items(capsys, *flags, "--calibration", str(tmp_path / name))[0] for name in ("rows.json", "map.json")]
    assert found[0] == found[1]
    assert found[0]["plan"]["kvTokens"] < plain["plan"]["kvTokens"]
    assert "beyond the constants" in found[0]["plan"]["explanation"]
    for name in ("broken.json", "none.json"):
        assert run(["plan", *flags, "--calibration", str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


def test_any_card_by_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    (two,) = items(capsys, "--config", LLAMA, "--gpu-memory", "12Gi:2")
    assert two["plan"]["tensor"] == 2
    (bytes_,) = items(capsys, "--config", LLAMA, "--gpu-memory", str(12 << 30) + ":2")
    assert {**two["plan"], "explanation": ""} == {**bytes_["plan"], "explanation": ""}
    (item,) = items(capsys, "--config", LLAMA, "--gpu-memory", "48Gi", "--compute-capability", "6.1", code=1)
    assert "7.0" in " ".join(item["reasons"])


def test_spec_gpu_memory_stands_where_no_flag_does(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    file = written(manifest("a", gpu={"memory": "20Gi"}))
    (item,) = items(capsys, "-f", file, "--config", LLAMA)
    assert item["plan"]["gpuMemoryBytes"] == 20 << 30
    (item,) = items(capsys, "-f", file, "--config", LLAMA, "--gpu-memory", "40Gi")
    assert item["plan"]["gpuMemoryBytes"] == 40 << 30


def test_without_a_gpu_nothing_is_said(capsys: pytest.CaptureFixture[str], written: Callable[..., str]) -> None:
    (item,) = items(capsys, "-f", written(manifest("a")), "--config", LLAMA)
    assert (item["verdict"], item["plan"], item["counterOffers"]) == ("Unknown", None, [])
    assert "--gpu" in item["reasons"][0]


def test_compare_marks_one_best_of_all_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--config", LLAMA, "--gpu", "NVIDIA-L4:2", "--compare")
    (item,) = items(capsys, *arguments)
    grid = item.pop("compare")
    assert set(item) == ITEM
    cells = {(cell["tensor"], cell["kvQuantization"], cell["weights"]) for cell in grid}
    policies = ("None", "Int8", "Int4", "FP8")
    assert cells == {(tp, kv, weights) for tp in (1, 2) for kv in policies for weights in ("as they are", "AWQ 4-bit")}
    (best,) = [cell for cell in grid if cell["best"]]
    assert best["verdict"] == "Fits"
    rivals = [cell for cell in grid if cell["verdict"] == "Fits" and cell["tensor"] == best["tensor"]]
    assert best["plan"]["maxConcurrentRequests"] == max(cell["plan"]["maxConcurrentRequests"] for cell in rivals)
    code, output, _ = ran(capsys, *arguments)
    assert code == 0
    lines = output.splitlines()
    assert len([line for line in lines if line.startswith("*  ")]) == 1
    assert len([line for line in lines if line.startswith(("*  ", "   1", "   2"))]) == 16


def test_a_repository_of_the_hub(capsys: pytest.CaptureFixture[str], stub_hub: FaultyHub) -> None:
    weights = {"model-00001-of-00001.safetensors": b"not asked for", "tokenizer.json": b"{}"}
    stub_hub.add("org/model", {"config.json": Path(LLAMA).read_bytes(), **weights})
    (item,) = items(capsys, "--config", "org/model", "--gpu", "NVIDIA-L4")
    (local,) = items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-L4")
    assert item == local
    assert set(stub_hub.sent) == {"org/model/config.json"}


def test_quantization_that_stands_beside_config_json(
    capsys: pytest.CaptureFixture[str], stub_hub: FaultyHub, tmp_path: Path
) -> None:
    files = {
        "config.json": Path(LLAMA).read_bytes(),
        "hf_quant_config.json": json.dumps({"quantization": {"quant_algo": "FP8"}}).encode(),
    }
    stub_hub.add("org/model", files)
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    given = ("--gpu", "NVIDIA-L40S", "--engine", "VLLM")
    (plain,) = items(capsys, "--config", LLAMA, *given)
    for config in ("org/model", str(folder), str(folder / "config.json")):
        (item,) = items(capsys, "--config", config, *given)
        assert item["plan"]["weightBytesPerGpu"] < 0.6 * plain["plan"]["weightBytesPerGpu"]
    assert set(stub_hub.sent) == {"org/model/config.json", "org/model/hf_quant_config.json"}
    (folder / "hf_quant_config.json").write_text("<html>")
    assert "hf_quant_config.json" in refused(capsys, "--config", str(folder), *given)[0]


def test_the_model_that_a_manifest_names(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str], stub_hub: FaultyHub
) -> None:
    stub_hub.add("org/model", {"config.json": Path(LLAMA).read_bytes()})
    file = written(manifest("a"))
    (item,) = items(capsys, "-f", file, "--gpu", "NVIDIA-L4")
    assert item["verdict"] == "Fits"
    shutil.rmtree(stub_hub.root / "org" / "model")
    assert "org/model does not exist on the hub" in refused(capsys, "-f", file, "--gpu", "NVIDIA-L4")[0]
    stub_hub.faults = [Fault("status", "*/org/model*", status=403)]
    (item,) = items(capsys, "-f", file, "--gpu", "NVIDIA-L4")
    assert (item["verdict"], "gated" in item["reasons"][0]) == ("Unknown", True)
    stub_hub.faults = [Fault("status", "*/org/model*", status=500)]
    (item,) = items(capsys, "-f", file, "--gpu", "NVIDIA-L4")
    assert item["verdict"] == "Unknown"


@pytest.mark.parametrize("version", ["0.10.2", "0.12.3", "0.13.0", "0.18.0"])
def test_every_version_can_be_planned_with_flags_alone(capsys: pytest.CaptureFixture[str], version: str) -> None:
    (item,) = items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-L4", "--engine-version", version)
    assert item["verdict"] == "Fits"


def test_a_context_that_the_cache_cannot_hold_is_told_in_numbers_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (item,) = items(capsys, "--config", LLAMA, "--gpu", "NVIDIA-L4", "--context-length", "131072", code=1)
    assert "fewer than one request of 131,072 tokens" in item["reasons"][0]


def test_an_encoder_that_is_counted_by_the_weight_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = json.loads(Path(LLAMA).read_bytes())
    config = {"architectures": ["KananaVForConditionalGeneration"], "model_type": "kanana", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = ("--config", str(tmp_path), "--gpu", "NVIDIA-L40S", "--engine", "VLLM")
    (item,) = items(capsys, *given)
    assert item["verdict"] == "Unknown"
    assert "the size of the weight files, which is not known here" in item["reasons"][0]
    (plain,) = items(capsys, "--config", LLAMA, *given[2:])
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 16060522496 + (1 << 30)}, "weight_map": {"a": "b"}}))
    (item,) = items(capsys, *given)
    assert item["verdict"] == "Fits"
    assert item["plan"]["kvBytesPerToken"] == plain["plan"]["kvBytesPerToken"]
    assert item["plan"]["weightBytesPerGpu"] - plain["plan"]["weightBytesPerGpu"] == pytest.approx(1 << 30, abs=1 << 20)


def test_weights_that_are_another_models_are_no_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(Path(LLAMA).read_bytes())
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 16060522496}, "weight_map": {"a": "b"}}))
    (item,) = items(capsys, "--config", str(tmp_path), "--gpu", "NVIDIA-L4")
    assert item["verdict"] == "Fits"
    index.write_text(json.dumps({"metadata": {"total_size": 5700000000}, "weight_map": {"a": "b"}}))
    (item,) = items(capsys, "--config", str(tmp_path), "--gpu", "NVIDIA-L4")
    assert item["verdict"] == "Unknown"
    assert "5.31 GiB" in item["reasons"][0]


def test_a_plan_of_manifests_says_what_it_could_not_check(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    """On standard error, so that a document stays one; flags alone name nothing that could be missing."""
    file = written(manifest("a", gpu={"product": "NVIDIA-L4"}))
    for form in ("table", "json", "yaml"):
        assert ran(capsys, "-f", file, "--config", SMALL, "-o", form)[2] == OFFLINE
    assert ran(capsys, "--config", SMALL, "--gpu", "NVIDIA-L4")[2] == ""


def test_a_hub_that_is_away_is_named_with_the_way_on(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9", raising=False)
    (item,) = items(capsys, "-f", written(manifest("a")), "--gpu", "L4")
    assert item["verdict"] == "Unknown"
    assert item["reasons"][0].startswith("the hub 127.0.0.1:9 cannot be reached: ")
    assert item["reasons"][0].endswith("set HF_ENDPOINT to a mirror, or give config.json, or its folder, with --config")


def test_people_read_gibibytes_and_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    output = ran(capsys, "--config", LARGE, "--gpu", "A6000:2")[1]
    assert "GiB on each of 2 GPUs and the engine" in output
    assert re.search(r"[0-9]{5}", output) is None, output


def test_offers_stay_within_the_trained_context(capsys: pytest.CaptureFixture[str]) -> None:
    trained = json.loads(Path(LLAMA).read_text())["max_position_embeddings"]
    found = items(capsys, "--config", LLAMA, "--gpu", "L4", "--context-length", str(trained), code=1)
    offered = [offer["plan"]["contextLength"] for item in found for offer in item["counterOffers"]]
    assert offered
    assert max(offered) <= trained
    beyond = ran(capsys, "--config", LLAMA, "--gpu", "H200", "--context-length", str(4 * trained), "-o", "json")
    for item in json.loads(beyond[1])["items"] if beyond[1] else ():
        assert all(offer["plan"]["contextLength"] <= trained for offer in item["counterOffers"])
