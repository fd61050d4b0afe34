"""Calibration text: one's own, in both formats, and the one shipped with the tools."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from llm_operator.modeltools import calibration, quality
from llm_operator.modeltools.recipe import Recipe
from llm_operator.modeltools.report import ToolError


def read(path: Path, content: str | bytes) -> list[str]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return calibration.read_texts(path)


def refused(path: Path, content: str | bytes) -> str:
    with pytest.raises(ToolError) as told:
        read(path, content)
    assert told.value.reason == "CalibrationDataMissing"
    return str(told.value)


def test_plain_text_and_json_lines_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "text"  # a ConfigMap's key has no extension
    assert read(file, "One.\r\n\r\nTwo,\r\nstill two.\n") == ["One.", "Two,\nstill two."]
    assert read(file, '{"text": "One."}\n\n{"text": "Zw\\u00f6lf", "more": 1}\n') == ["One.", "Zwölf"]
    # Prose that begins with a number, or a list, is no JSON object.
    assert read(file, "12\n\nmonkeys") == ["12", "monkeys"]
    assert read(file, "[1]\n") == ["[1]"]


def test_what_is_no_text_is_refused_with_the_place(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    assert "line 2" in refused(file, '{"text": "a"}\n{"txt": "b"}\n')
    assert "line 2" in refused(file, '{"text": "a"}\nnot json\n')
    assert "line 1" in refused(file, '{"text": 7}\n')
    assert "is empty" in refused(file, "\n \n")
    assert "not UTF-8 (byte 2)" in refused(file, b"ab\xff")
    with pytest.raises(ToolError, match="cannot be read"):
        calibration.read_texts(tmp_path / "missing")


def test_huge_text_is_cut_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "TEXT_LIMIT_BYTES", 40)
    assert read(tmp_path / "lines", '{"text": "abc"}\n{"text": "def"}\n{"text": "ghi"}\n') == ["abc", "def"]
    assert read(tmp_path / "plain", "ä" * 30) == ["ä" * 20]
    assert "only the first" in capsys.readouterr().err


def test_lmdeploy_finds_the_text_as_wikitext(tmp_path: Path) -> None:
    calibration.prepare_text(tmp_path, ["One.", "Zwölf\nzwei"])
    card = (tmp_path / "wikitext" / "README.md").read_text()
    assert "config_name: wikitext-2-raw-v1" in card
    assert card.startswith("---\n")
    lines = (tmp_path / "wikitext" / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["One.", "Zwölf\nzwei"]


@pytest.mark.parametrize(
    ("tokens", "samples", "length", "expected"),
    [
        (1_000_000, 128, 2048, (128, 2048)),
        (128 * 2048, 128, 2048, (128, 2048)),
        (13_000, 128, 2048, (6, 2048)),
        (2048, 128, 2048, (1, 2048)),
        (2047, 128, 2048, (1, 1984)),
        (64, 1, 128, (1, 64)),
    ],
)
def test_short_text_gives_fewer_samples(tokens: int, samples: int, length: int, expected: tuple[int, int]) -> None:
    fitting = calibration.fitted(Recipe(dataset="Text", samples=samples, sequence_length=length), tokens)
    assert (fitting.samples, fitting.sequence_length) == expected
    assert fitting.samples * fitting.sequence_length <= tokens


def test_a_handful_of_words_is_too_short() -> None:
    with pytest.raises(ToolError, match="63 tokens, at least 64"):
        calibration.fitted(Recipe(dataset="Text"), 63)


def test_own_text_never_reaches_the_cache_of_data_sets(tmp_path: Path) -> None:
    own = calibration.environment(Recipe(dataset="Text"), tmp_path)
    assert own["HF_DATASETS_CACHE"].startswith(str(tmp_path))
    assert own["HF_HUB_OFFLINE"] == "1"
    assert calibration.environment(Recipe(dataset="C4"), tmp_path) == {}
    assert calibration.environment(Recipe(samples=0, dataset="C4"), tmp_path)["HF_HUB_OFFLINE"] == "1"


def test_the_shipped_texts_are_varied_and_do_not_overlap() -> None:
    texts = calibration.read_texts(calibration.SHIPPED)
    content = calibration.SHIPPED.read_text()
    assert len(content) > 50_000
    # A paragraph that came twice would be no further text.
    assert len(set(texts)) == len(texts)
    words = re.findall(r"\w+", content.lower())
    assert len(set(words)) > 2500
    for part in ("def ", "func ", "SELECT ", "User:", "今天", "Пароход", "الطريق", "朝の", "der Werkstatt"):
        assert part in content
    evaluation = quality.TEXT.read_text()
    assert len(evaluation) > 7_000
    pieces = [piece for piece in calibration.read_texts(quality.TEXT) if len(piece) > 20]
    assert not [piece for piece in pieces if piece in content]
    assert len(json.loads(quality.PROMPTS.read_text())) == 8


@pytest.mark.parametrize(
    ("error", "retry", "advice"),
    [
        ("ModuleNotFoundError: No module named 'datasets'", False, "build images/lmdeploy"),
        ("ValueError: Compression type zstd not supported", False, "build images/lmdeploy"),
        ("RemoteProtocolError: peer closed connection without sending complete message body", True, "tried again"),
        (
            "FileNotFoundError: Couldn't find any data file at /tmp/openai/gsm8k. Couldn't find 'openai/gsm8k' on the "
            "Hugging Face Hub either: LocalEntryNotFoundError: An error happened while trying to locate the file",
            True,
            "tried again",
        ),
        ("RuntimeError: Dataset scripts are no longer supported, but found gsm8k.py", False, "copy it to the hub"),
        (
            "ConnectionError: Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)",
            False,
            "a way to the hub (HF_ENDPOINT, HTTPS_PROXY)",
        ),
    ],
)
def test_an_error_of_the_libraries_is_told_with_what_to_do(error: str, retry: bool, advice: str) -> None:
    with pytest.raises(ToolError) as told:
        calibration.outcome(Recipe(dataset="GSM8K"), {"step": "dataset", "error": error})
    assert (told.value.reason, told.value.retry) == ("CalibrationDataMissing", retry)
    assert f"the data set GSM8K cannot be loaded: {error}. " in str(told.value)
    assert advice in str(told.value)
    assert "calibration.dataset to Text, which works offline" in str(told.value)


def test_a_tokenizer_that_cannot_be_loaded_is_not_the_data_set_s_fault() -> None:
    with pytest.raises(ToolError, match="tokenizer cannot be loaded: OSError: no such file") as told:
        calibration.outcome(Recipe(), {"step": "tokenizer", "error": "OSError: no such file"})
    assert told.value.reason == "QuantizationFailed"
    assert calibration.outcome(Recipe(dataset="Text"), {"tokens": 700}) == 700
