"""Text that activations are measured with: the user's own, offline, or a data set of the hub.

LMDeploy knows data sets by name only. The user's own text is given to it as the data set `wikitext` in the working
directory, where the datasets library looks before it asks the hub (seen with LMDeploy 0.18.0 and datasets 5.2.0).

WikiText2 itself is given to it in the same way: LMDeploy up to 0.18.0 asks the hub for `wikitext`, and huggingface_hub
2.4.0 no longer takes a name without an organisation (huggingface_hub/hf_file_system.py, resolve_path).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_operator.modeltools import child
from llm_operator.modeltools.recipe import DATASETS, TEXT, Recipe
from llm_operator.modeltools.report import Reason, ToolError
from llm_operator.modeltools.text import read_json

SHIPPED = Path(__file__).with_name("data") / "calibration.txt"
TEXT_LIMIT_BYTES = 64 << 20
"""More is cut off: it would not change the scales, and tokenizing it takes minutes."""
LENGTH_STEP = 64
"""Shortened samples have a multiple of so many tokens."""
_MODULE = "llm_operator.modeltools.calibration"
WIKITEXT = ("Salesforce/wikitext", "wikitext-2-raw-v1")
"""Repository and configuration of WikiText2."""
_JOINT = "\n\n"
"""What LMDeploy puts between the texts of wikitext (lmdeploy/lite/utils/calib_dataloader.py, get_wikitext2)."""
# Releases before 0.12.0 also load the split `test`.
_DATASET_CARD = """---
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - split: train
    path: train.jsonl
  - split: test
    path: train.jsonl
---
"""


def own_modules(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which this Python finds these tools from any directory."""
    package = str(Path(__file__).resolve().parents[2])
    return {**env, "PYTHONPATH": os.pathsep.join(path for path in (package, env.get("PYTHONPATH", "")) if path)}


@dataclasses.dataclass(frozen=True)
class _Failure:
    """What to say and do where loading a data set ends with an error that matches."""

    pattern: str
    advice: str
    reason: Reason = "CalibrationDataMissing"
    retry: bool = False


_INSTEAD = "set calibration.dataset to Text, which works offline, or to None"
# The texts of datasets 5.2.0, huggingface_hub 2.4.0, httpx2 2.16.2 and transformers 5.19.0.
_FAILURES = (
    _Failure(
        r"No module named 'datasets'|zstd|zstandard",
        "The image lacks the Python packages `datasets` and `zstandard`: build images/lmdeploy and name it in "
        f"weightQuantization.image, or {_INSTEAD}",
    ),
    _Failure(
        r"chat.template",
        "It is made of conversations, and the model's tokenizer has no chat template: use WikiText2, C4, PileVal, "
        "GSM8K, OpenWebText or Text",
        reason="RecipeRefused",
    ),
    _Failure(
        r"ProtocolError|Read(?:Error|Timeout)|trying to locate the file|Server error '5|'429 ",
        f"The hub broke off; it is tried again. If it comes to nothing, {_INSTEAD}",
        retry=True,
    ),
    _Failure(
        r"doesn't exist on the Hub|gated dataset|'40[134] |RemoteEntryNotFound|DataFilesNotFound|EmptyDataset|scripts",
        "The hub does not have it, not as it is today, or not for this Job's token: copy it to the hub that "
        f"HF_ENDPOINT names, correct the token in model.credentials, or {_INSTEAD}",
    ),
    _Failure(r"", f"Give the Job a way to the hub (HF_ENDPOINT, HTTPS_PROXY), or {_INSTEAD}"),
)


def environment(recipe: Recipe, work: Path) -> dict[str, str]:
    """Variables for a command that calibrates: own text must not reach the data sets' cache under another's name."""
    if recipe.samples and recipe.dataset in DATASETS:
        return {}
    return {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "datasets-cache")}


def dataset_word(recipe: Recipe) -> str:
    """LMDeploy's word for the data set."""
    return DATASETS[recipe.dataset if recipe.dataset in DATASETS else "WikiText2"][0]


def read_texts(path: Path) -> list[str]:
    """The texts of a file: JSON lines with a field `text` where its first line is such a one, else plain text.

    Raises:
        ToolError: CalibrationDataMissing: there is no such file, or no text in it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_LIMIT_BYTES)
            cut = bool(file.read(1))
        content = raw.decode(errors="ignore" if cut else "strict")
    except OSError as error:
        raise _missing(
            f"the calibration text {path} cannot be read ({error.strerror}): name a file that is there"
        ) from None
    except UnicodeDecodeError as error:
        raise _missing(f"the calibration text {path} is not UTF-8 (byte {error.start}): convert it") from None
    if cut:
        sys.stderr.write(f"{path}: only the first {TEXT_LIMIT_BYTES >> 20} MiB are used\n")
    texts = _json_lines(path, content, cut) if _is_json_line(content) else content.replace("\r\n", "\n").split(_JOINT)
    texts = [text.strip("\n") for text in texts if text.strip()]
    if not texts:
        raise _missing(f"the calibration text {path} is empty: give plain text, or JSON lines with a field `text`")
    return texts


def prepare_text(work: Path, texts: Sequence[str]) -> None:
    """Put the texts into a command's working directory, where LMDeploy finds them instead of wikitext2."""
    folder = work / "wikitext"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(_DATASET_CARD)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def fitted(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with as many samples as a text has tokens for, so that none is used twice.

    Raises:
        ToolError: CalibrationDataMissing: the text is too short for a single one.
    """
    length = recipe.sequence_length
    if tokens < length:
        length = tokens // LENGTH_STEP * LENGTH_STEP
    if length == 0:
        raise _missing(
            f"the calibration text has {tokens} tokens, at least {LENGTH_STEP} are needed, and some ten thousand are "
            "useful: give more text"
        )
    return dataclasses.replace(recipe, sequence_length=length, samples=min(recipe.samples, max(tokens // length, 1)))


def probe(recipe: Recipe, model: Path, work: Path, env: Mapping[str, str]) -> int | None:
    """Load what will be calibrated with, before minutes go by with the model: tokens of own text, None of a data set.

    It runs in a child, because it needs LMDeploy and the model's tokenizer.

    Raises:
        ToolError: CalibrationDataMissing: the data set cannot be loaded; QuantizationFailed: the tokenizer cannot;
            RecipeRefused: the data set is none for this model.
    """
    command = [sys.executable, "-m", _MODULE, str(model), dataset_word(recipe), str(recipe.sequence_length)]
    command += ["--own-text"] if recipe.dataset == TEXT else []
    command += ["--trust-remote-code"] if recipe.trust_remote_code else []
    with child.running(command, cwd=work, env=own_modules(env), stdout=subprocess.PIPE) as process:
        output, _ = process.communicate()
    try:
        answer = read_json(output.decode(errors="replace").strip().splitlines()[-1])
    except (ValueError, IndexError):
        answer = {"step": "tokenizer", "error": f"it ended with exit code {process.returncode}"}
    return outcome(recipe, answer)


def outcome(recipe: Recipe, answer: Mapping[str, Any]) -> int | None:
    """What the child's answer means.

    Raises:
        ToolError: as `probe`; RecipeRefused: the model cannot be calibrated with this data set.
    """
    if "error" not in answer:
        tokens = answer.get("tokens")
        return int(tokens) if tokens is not None else None
    error = str(answer["error"])
    if answer["step"] == "tokenizer":
        raise ToolError("QuantizationFailed", f"the model's tokenizer cannot be loaded: {error}")
    failure = next(failure for failure in _FAILURES if re.search(failure.pattern, error))
    message = f"the data set {recipe.dataset} cannot be loaded: {error.rstrip('.')}. {failure.advice}"
    raise ToolError(failure.reason, message, retry=failure.retry)


def main(arguments: Sequence[str] | None = None) -> int:
    """The child's side of `probe`: one JSON object on the last line."""
    parser = argparse.ArgumentParser(prog=f"python3 -m {_MODULE}", allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("length", type=int)
    parser.add_argument("--own-text", action="store_true")
    parser.add_argument("--trust-remote-code", action="store_true")
    options = parser.parse_args(arguments)
    step = "tokenizer"
    try:
        from transformers import AutoTokenizer  # noqa: PLC0415

        tokenizer = AutoTokenizer.from_pretrained(options.model, trust_remote_code=options.trust_remote_code)
        step = "dataset"
        answer: dict[str, object] = {"tokens": _count(tokenizer)} if options.own_text else _load(tokenizer, options)
    except Exception as error:
        answer = {"step": step, "error": f"{type(error).__name__}: {error}"[:600]}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 0


def _count(tokenizer: object) -> int:
    lines = Path("wikitext", "train.jsonl").read_text(encoding="utf-8").splitlines()
    text = _JOINT.join(read_json(line)["text"] for line in lines)
    return len(tokenizer(text)["input_ids"])  # type: ignore[operator]


def _load(tokenizer: object, options: argparse.Namespace) -> dict[str, object]:
    from lmdeploy.lite.utils import get_calib_loaders  # noqa: PLC0415

    if options.dataset == DATASETS["WikiText2"][0]:
        from datasets import load_dataset  # noqa: PLC0415

        prepare_text(Path.cwd(), load_dataset(*WIKITEXT, split="train")["text"])
    if get_calib_loaders(options.dataset, tokenizer, nsamples=1, seqlen=options.length) is None:
        raise ValueError("this release of LMDeploy does not know it")
    return {"tokens": None}


def _is_json_line(content: str) -> bool:
    first = next((line for line in content.splitlines() if line.strip()), "")
    try:
        return isinstance(read_json(first), dict)
    except ValueError:
        return False


def _json_lines(path: Path, content: str, cut: bool) -> list[str]:
    texts = []
    lines = content.split("\n")
    for number, line in enumerate(lines[:-1] if cut else lines, 1):
        if not line.strip():
            continue
        try:
            text = read_json(line)["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str):
            raise _missing(
                f'line {number} of {path} is not a JSON object with a text: write {{"text": "..."}} in each line'
            )
        texts.append(text)
    return texts


def _missing(message: str) -> ToolError:
    return ToolError("CalibrationDataMissing", message)


if __name__ == "__main__":
    sys.exit(main())
