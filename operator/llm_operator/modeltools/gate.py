"""The quality gate: measuring a quantized model in a separate process, and what follows from the numbers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from llm_operator.modeltools import calibration, child, layout, lmdeploy_tool, paths
from llm_operator.modeltools.layout import Marker
from llm_operator.modeltools.report import ToolError
from llm_operator.modeltools.text import read_file, read_json

Quality = dict[str, object]
_KILLED = (-9, 137)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the gate."""
    parser.add_argument("--evaluate", action="store_true", help="measure perplexity and agreement with the original")
    parser.add_argument("--max-perplexity-increase-percent", type=float, metavar="PERCENT", help="implies --evaluate")
    parser.add_argument("--quality-policy", choices=("Block", "Warn"), default="Warn", help="beyond that limit")


def wanted(options: argparse.Namespace) -> bool:
    """Whether the quality is to be measured."""
    return bool(options.evaluate) or options.max_perplexity_increase_percent is not None


def blocks(options: argparse.Namespace) -> bool:
    """Whether a result that is too bad, or not measured, must not be used."""
    return options.max_perplexity_increase_percent is not None and options.quality_policy == "Block"


def measured(quality: object) -> bool:
    """Whether these are numbers."""
    return isinstance(quality, dict) and "perplexityIncreasePercent" in quality


def evaluate(options: argparse.Namespace, original: Path, quantized: Path, work: Path) -> Quality:
    """Measure; {"error": ...} if that failed, since the weights are worth more than their numbers."""
    answer = work / "quality.json"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "llm_operator.modeltools.quality", "--result", str(answer)]
    command += ["--original", str(original), "--quantized", str(quantized)]
    command += ["--trust-remote-code"] if options.trust_remote_code else []
    env = calibration.own_modules(lmdeploy_tool.environment(work, {"HF_HUB_OFFLINE": "1"}))
    sys.stdout.flush()
    with child.running(command, cwd=work, env=env) as process:
        code = process.wait()
    try:
        body = read_json(read_file(answer))
    except (OSError, ValueError):
        why = "killed, probably for using too much memory" if code in _KILLED else f"exit code {code}"
        return {"error": f"the evaluation ended early: {why}"}
    if not body.pop("ok"):
        return {"error": str(body["message"])[:400]}
    return dict(body)


def judge(options: argparse.Namespace, quality: Quality | None) -> Quality | None:
    """The quality with `exceeded`, where it is beyond the limit of these options.

    Raises:
        ToolError: QualityTooLow: it is beyond the limit or unknown, and the policy is Block.
    """
    limit = options.max_perplexity_increase_percent
    if not wanted(options) or quality is None or limit is None:
        return quality
    if not measured(quality):
        if blocks(options):
            raise ToolError(
                "QualityTooLow",
                f"the quality could not be measured ({quality.get('error')}), and the policy Block serves nothing "
                "unmeasured: remove the cause, or set quality.policy to Warn",
            )
        return quality
    if float(str(quality["perplexityIncreasePercent"])) <= limit:
        return quality
    if blocks(options):
        raise ToolError(
            "QualityTooLow",
            f"the perplexity rose by {quality['perplexityIncreasePercent']} % (from {quality['perplexityOriginal']} to "
            f"{quality['perplexityQuantized']}), at most {limit:g} % are allowed: calibrate with more samples, with "
            "searchScale, or with text that is closer to what the model is asked, or raise "
            "quality.maxPerplexityIncreasePercent",
        )
    return {**quality, "exceeded": True}


def annotate(directory: Path, marker: Marker, quality: Quality) -> Marker:
    """Add the quality to the marker of a directory that is published already. The lock is held."""
    path = directory / layout.MARKER
    content = read_json(read_file(path))
    content["quality"] = quality
    written = paths.beside(path, ".new")
    with written.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    return layout.read_marker(directory) or marker
