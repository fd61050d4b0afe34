"""What `kubectl llm plan` refuses, and how it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_operator.cli.plan import NOT_CHECKED
from llm_operator.planning import gpu_by_name
from tests.unit.cli.plan_runs import LLAMA, OFFLINE, SMALL, items, manifest, ran, refused

# Eight lists of nine references to the one before.
BILLION = b"a: &a [x]\n" + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefghi")


def test_an_unknown_architecture_is_unknown_not_guessed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architectures": ["MambaForCausalLM"], "hidden_size": 64}))
    (item,) = items(capsys, "--config", str(config), "--gpu", "NVIDIA-L4")
    assert (item["verdict"], item["plan"]) == ("Unknown", None)
    assert "MambaForCausalLM" in item["reasons"][0]


def test_an_unknown_gpu_offers_the_nearest_names(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(capsys, "--config", LLAMA, "--gpu", "NVIDIA-A600")
    assert "NVIDIA-RTX-A6000" in line
    assert "such as 48Gi" in line


def test_every_mistake_of_a_manifest_is_told_at_once(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str], tmp_path: Path
) -> None:
    bad = manifest("BAD", engine={"type": "Triton"}, replicas=-1, contextLength=0)
    file = written(bad, {**manifest("old"), "apiVersion": "llm-operator.dev/v1"}, [1])
    missing = str(tmp_path / "missing.yaml")
    lines = refused(capsys, "-f", file, "-f", missing, "--tensor", "2", "--gpu", "NVIDIA-A600")
    for told in (
        "metadata.name", "spec.engine.type", "spec.replicas", "spec.contextLength", "[2]: apiVersion", "[3]: is a list",
        "missing.yaml: cannot be read", "--tensor and -f", "NVIDIA-A600",
    ):  # fmt: skip
        assert [told for line in lines if told in line] == [told], told
    assert all(line.startswith("kubectl llm plan: ") for line in lines)


def test_an_engine_that_refuses_the_spec_is_bad_input(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    file = written(manifest("a", engine={"type": "VLLM", "version": "9.9.9", "extraArgs": ["--max-model-len", "1"]}))
    lines = refused(capsys, "-f", file, "--config", LLAMA, "--gpu", "NVIDIA-L4")
    assert any("9.9.9" in line for line in lines)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (Path(LLAMA).read_bytes()[:200], "truncated"),
        (b"\xff\xfe\x00", "is UTF-16 text: save it as UTF-8"),
        (Path(LLAMA).read_text().encode("utf-16-be"), "is UTF-16 or UTF-32 text"),
        (Path(LLAMA).read_text().encode("utf-8-sig"), "is UTF-8 with a byte order mark"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b"null", "holds a JSON null; expected an object"),
        (b"17", "holds a JSON number"),
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "is an HTML page, not JSON: the hub, or a proxy on the way"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\x80\x02}q", "is a Python pickle"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "is a safetensors file"),
        (b"[1]", "expected an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "number"),
        (b" " * (4 << 20) + b"{}", "larger than"),
        (b"{}", "architectures"),
        (b'{"_class_name": "FluxPipeline", "_diffusers_version": "0.30"}', "diffusion"),
        (b'{"architectures": ["BertModel"]}', "encoder"),
        (b'{"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true}', "encoder-decoder"),
        (b'{"architectures": ["LlamaForCausalLM"]}', "lacks"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_configurations_that_are_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    (line,) = refused(capsys, "--config", str(path), "--gpu", "NVIDIA-L4")
    assert told in line
    assert str(path) in line


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads"])
@pytest.mark.parametrize("value", [-1, 0, 1 << 40, 1.5, "4096", True, [], 10**30])
def test_negative_and_absurd_sizes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, value: object
) -> None:
    config = json.loads(Path(LLAMA).read_text())
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, field: value}))
    (line,) = refused(capsys, "--config", str(path), "--gpu", "NVIDIA-L4")
    assert field in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to plan"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4:0"), "count is 0"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4:x"), "is not a whole number from 1 to 1,024"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4:-1"), "is not a whole number from 1 to 1,024"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4:"), "ends with a colon"),
        (("--config", "", "--gpu", "NVIDIA-L4"), "--config is empty"),
        (("--config", LLAMA, "--gpu", ""), "not in the catalogue"),
        (("--config", LLAMA, "--gpu-memory", "-5"), "is not a valid size"),
        (("--config", LLAMA, "--gpu-memory", "0"), "expected 0.25 GiB to 1,048,576.00 GiB, such as 48Gi"),
        (("--config", LLAMA, "--gpu-memory", "9P"), "expected 0.25 GiB to 1,048,576.00 GiB, such as 48Gi"),
        (("--config", LLAMA, "--gpu-memory", "48Gi:2000"), "count is 2,000"),
        (("--config", LLAMA, "--gpu-memory", "48Gi", "--compute-capability", "nine"), "such as 9.0"),
        (("--config", LLAMA, "--compute-capability", "9.0"), "belongs to --gpu-memory"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--gpu-memory", "48Gi"), "exclude each other"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--tensor", "-3"), "tensor"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--context-length", "99999999999999999999"), "contextLength"),
        (
            ("--config", LLAMA, "--gpu", "NVIDIA-L4", "--context-length", "9" * 5000),
            "5,000 characters: expected a whole",
        ),
        (("--config", LLAMA, "--gpu", "L40S:999999"), "GPU count is 999,999; expected 1 to 1,024"),
        (("--config", LLAMA, "--gpu", "L40S:" + "9" * 5000), "has 5,000 digits; expected 1 to 1,024"),
        (("--config", LLAMA, "--gpu", ""), "GPU name, which is empty,"),
        (("--config", LLAMA, "--gpu", "A100"), "similar names: NVIDIA-A100-80GB-PCIe, NVIDIA-A100-PCIE-40GB"),
        (("--config", LLAMA, "--gpu-memory", "null"), "is not a valid size"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--memory-percent", "100"), "memoryPercent"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--engine", "VLLM", "--backend", "PyTorch"), "backend"),
        (("--config", LLAMA, "--gpu", "NVIDIA-L4", "--kv", "FP8"), "Int8"),
        (("--config", "/nowhere/config.json", "--gpu", "NVIDIA-L4"), "cannot be read"),
        (("--config", "no such model", "--gpu", "NVIDIA-L4"), "not a valid repository name"),
    ],
)
def test_arguments_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    (line,) = refused(capsys, *arguments)
    assert told in line


@pytest.mark.parametrize("arguments", [("--tensor", "two"), ("--kv", "fp4"), ("--output", "xml"), ("--no-such",)])
def test_arguments_that_do_not_parse(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    code, output, errors = ran(capsys, "--config", LLAMA, *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("kubectl llm")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "is UTF-16"),
        (b"a: [", "not valid YAML"),
        (b"a: 2024-99-99", "not valid YAML"),
        (b"? [a]\n: b", "not valid YAML"),
        (b"[" * 20_000, "nested too deeply"),
        (b"&a [*a]", "contains itself"),
        (
            b"a: &a [x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in b"bcdefgh"),
            "200000",
        ),
        (b"#" * (3 << 20) + b"#", "larger than"),
        (b"", "no LLMDeployment"),
        (b"kind: Service\napiVersion: v1", "no LLMDeployment"),
        (b"kind: LlmDeployment\napiVersion: llm-operator.dev/v1alpha1", "kind is 'LlmDeployment', expected"),
        (b"kind: List\nitems: [3]", "is a int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_no_manifests(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_bytes(content)
    (line,) = refused(capsys, "-f", str(path))
    assert told in line


@pytest.mark.parametrize(
    ("name", "product"),
    [
        ("A6000", "NVIDIA-RTX-A6000"),
        ("a5000:2", "NVIDIA-RTX-A5000"),
        ("3090", "NVIDIA-GeForce-RTX-3090"),
        ("RTX4090", "NVIDIA-GeForce-RTX-4090"),
        ("RTXA6000", "NVIDIA-RTX-A6000"),
        ("T4", "Tesla-T4"),
        ("6000 Ada", "NVIDIA-RTX-6000-Ada-Generation"),
    ],
)
def test_short_names_of_cards(capsys: pytest.CaptureFixture[str], name: str, product: str) -> None:
    (short,) = items(capsys, "--config", SMALL, "--gpu", name)
    (full,) = items(capsys, "--config", SMALL, "--gpu", product + name[name.find(":") :] * (":" in name))
    assert short == full
    assert product in short["reasons"][0]


def test_a_manifest_must_name_the_label_in_full(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    (line,) = refused(capsys, "-f", written(manifest("a", gpu={"product": "A6000"})), "--config", SMALL)
    assert "similar names: NVIDIA-RTX-A6000" in line


def test_more_memory_than_a_card_has_is_corrected_aloud(
    capsys: pytest.CaptureFixture[str], written: Callable[..., str]
) -> None:
    file = written(manifest("a", gpu={"product": "NVIDIA-L4", "memory": "48Gi"}))
    code, output, errors = ran(capsys, "-f", file, "--config", SMALL, "-o", "json")
    assert code == 0
    assert json.loads(output)["items"][0]["plan"]["gpuMemoryBytes"] == gpu_by_name("NVIDIA-L4").memory_bytes
    assert errors == (
        "kubectl llm plan: a: spec.gpu.memory is 48.00 GiB, but programs get 22.03 GiB of an NVIDIA-L4: planned with "
        f"that\n{OFFLINE}"
    )
    less = written(manifest("a", gpu={"product": "NVIDIA-L4", "memory": "20Gi"}))
    assert ran(capsys, "-f", less, "--config", SMALL)[2] == f"kubectl llm plan: {NOT_CHECKED}\n"
