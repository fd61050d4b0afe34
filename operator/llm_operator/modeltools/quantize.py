"""`quantize`: 4-bit weights (AWQ) with the engine's own `lmdeploy lite auto_awq`, checked before and measured after."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_operator.modeltools import awq, calibration, gate, inspection, ladder, layout, lmdeploy_tool, paths, report
from llm_operator.modeltools.hub import OTHER_WEIGHTS, unwritable
from llm_operator.modeltools.layout import Marker
from llm_operator.modeltools.recipe import CALIBRATIONS, DATASETS, Recipe, check, check_machine, recipe_of
from llm_operator.modeltools.report import Progress, ToolError
from llm_operator.modeltools.tensors import Tensor, read_tensors
from llm_operator.modeltools.text import read_json

COPIED_BYTES = 32 << 20
"""Largest file that is copied from the original: code, licence and the tokenizer's further formats are small."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `quantize`."""
    parser.add_argument("--root", required=True, type=Path, metavar="PATH", help="mount of the original's volume")
    parser.add_argument("--output-root", type=Path, metavar="PATH", help="mount of the cache; default the same")
    parser.add_argument("--model", required=True, metavar="DIRECTORY", help="the original, below its root")
    parser.add_argument("--output", required=True, metavar="DIRECTORY", help="the result, below its root")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--dataset", choices=CALIBRATIONS, default="WikiText2", help="what to calibrate with")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text for --dataset Text; default the shipped one")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--sequence-length", type=int, default=2048, help="tokens of one sample")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--search-scale", action="store_true")
    parser.add_argument("--symmetric", action="store_true")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--tool-version", default="0.18.0", help="LMDeploy of this image, where it does not say so")
    gate.add_arguments(parser)
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Quantize, and write the result."""
    root = options.output_root or options.root
    return report.finish(options.result, lambda: _quantize(options), lambda: layout.leftover(root, options.output))


def _quantize(options: argparse.Namespace) -> Mapping[str, object]:
    try:
        return Quantize(options, Progress()).run()
    except OSError as error:
        raise unwritable(error) or error from error


@dataclasses.dataclass
class Original:
    """The model to be quantized."""

    directory: Path
    name: str
    """Its directory as it was given, below its root."""
    config: Mapping[str, Any]
    tensors: list[Tensor]
    marker: Marker | None
    """Where it came from, if it was fetched by these tools."""

    @property
    def source(self) -> Mapping[str, object]:
        """Where it came from, for the result's marker."""
        return self.marker.source if self.marker is not None else {"kind": "path", "path": self.name}

    @property
    def revision(self) -> str:
        """Its commit; empty if it has none."""
        return self.marker.revision if self.marker is not None else ""


class Quantize:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        """Take the command line and where to report."""
        self._options, self._progress = options, progress
        self._recipe = recipe_of(options)
        self._version = lmdeploy_tool.installed_version() or options.tool_version
        self._output_root = (options.output_root or options.root).resolve()
        self._notes: list[str] = []

    def run(self) -> Mapping[str, object]:
        """The fields of the result.

        Raises:
            ToolError: see the reasons of `report`.
        """
        options = self._options
        if not self._output_root.is_dir():
            raise ToolError(
                "ModelPathMissing", f"{self._output_root} is not a directory: the cache is not mounted there"
            )
        directory = layout.below(self._output_root, options.output)
        marker = layout.complete(directory)
        if marker is None or self._to_be_measured(marker):
            with layout.lock(directory, lambda: self._progress.show("Waiting", detail=directory.name)):
                marker = layout.complete(directory)
                if marker is None:
                    marker = self._make(directory)
                elif self._to_be_measured(marker):
                    marker = self._measure_published(directory, marker)
        quality = marker.extra.get("quality")
        # Published for an object with another limit, it may still be too bad for this one.
        return self._result(directory, marker, gate.judge(options, quality if isinstance(quality, dict) else None))

    def _to_be_measured(self, marker: Marker) -> bool:
        return gate.wanted(self._options) and not gate.measured(marker.extra.get("quality"))

    def _result(self, directory: Path, marker: Marker, quality: dict[str, object] | None) -> Mapping[str, object]:
        told = {
            name: marker.extra[name]
            for name in ("recipe", "toolVersion", "attempts", "message")
            if name in marker.extra
        }
        return {
            "directory": str(directory.relative_to(self._output_root)),
            **inspection.describe(directory),
            **({"revision": marker.revision} if marker.revision else {}),
            **told,
            **({"quality": quality} if quality is not None else {}),
        }

    def _original(self) -> Original:
        options = self._options
        directory = layout.inside(options.root, options.model)
        config = read_json(inspection.read_config(directory))
        check(config, self._recipe, self._version)
        return Original(directory, options.model, config, read_tensors(directory), layout.read_marker(directory))

    def _measure_published(self, directory: Path, marker: Marker) -> Marker:
        original = self._original()
        with _scratch() as work:
            quality = gate.evaluate(self._options, original.directory, directory, work)
        return gate.annotate(directory, marker, quality)

    def _make(self, directory: Path) -> Marker:
        """Write the directory. The lock is held."""
        original = self._original()
        layout.remove(directory)
        report.unfinished(self._options.result, {"directory": str(directory.relative_to(self._output_root))})
        asked: dict[str, object] = {**self._recipe.described(), "toolVersion": self._version}
        attempts = ladder.load(directory, asked)
        written = layout.partial(directory)
        if attempts.state == "evaluating":
            attempts.quality = {"error": "the evaluation was killed, probably for using too much memory"}
            attempts.save("written")
        with _scratch() as work:
            if attempts.state != "written" or not _whole(written):
                check_machine(original.tensors, self._recipe, directory)
                self._write(original, attempts, written, work)
            self._evaluate(original, attempts, written, work)
        extra = {
            "recipe": attempts.used,
            "toolVersion": self._version,
            **({"attempts": attempts.failures} if attempts.failures else {}),
            **({"message": attempts.message} if attempts.message else {}),
            **({"quality": attempts.quality} if attempts.quality is not None else {}),
        }
        gate.judge(self._options, attempts.quality)
        self._progress.show("Quantizing", percent=100, detail="writing the marker", now=True)
        marker = layout.publish(written, directory, source=original.source, revision=original.revision, extra=extra)
        attempts.forget()
        return marker

    def _evaluate(self, original: Original, attempts: ladder.Attempts, written: Path, work: Path) -> None:
        if not gate.wanted(self._options) or gate.measured(attempts.quality):
            return
        if attempts.quality is not None and not gate.blocks(self._options):
            return  # it was killed once: the weights are worth more than a second try
        attempts.save("evaluating")
        try:
            attempts.quality = gate.evaluate(self._options, original.directory, written, work)
        finally:
            attempts.save("written")

    def _write(self, original: Original, attempts: ladder.Attempts, written: Path, work: Path) -> None:
        """Run auto_awq, with less and less calibration data while it runs out of memory."""
        env = lmdeploy_tool.environment(work, calibration.environment(self._recipe, work))
        fitting, note = self._calibration(original, work, env)
        rungs = ladder.rungs(fitting)
        if attempts.state == "running":
            attempts.failed(rungs[min(attempts.rung, len(rungs) - 1)], "HostMemoryExhausted")
        for number in range(attempts.rung, len(rungs)):
            recipe = rungs[number]
            detail = f"{recipe.words()}, try {number + 1} of {len(rungs)}"
            shutil.rmtree(written, ignore_errors=True)
            attempts.save("running")
            try:
                ended = self._auto_awq(original, recipe, written, work, detail)
            except BaseException:
                # Asked to stop, most likely: nothing is known against this rung.
                attempts.save("stopped")
                raise
            if ended.code == 0:
                _finish(original.directory, written)
                attempts.used = recipe.described()
                attempts.message = _message(note, attempts.failures, recipe)
                attempts.save("written")
                return
            reason = ended.memory
            if reason is None:
                self._give_up(attempts, written)
                raise lmdeploy_tool.failure(ended, "QuantizationFailed")
            attempts.failed(recipe, reason)
            self._progress.show(awq.stage_of(recipe), detail=f"{reason} with {recipe.words()}", now=True)
        self._give_up(attempts, written)
        raise _exhausted(attempts.failures)

    def _auto_awq(
        self, original: Original, recipe: Recipe, written: Path, work: Path, detail: str
    ) -> lmdeploy_tool.Ended:
        reader = awq.OutputReader(self._progress, awq.layer_count(original.config), detail, recipe)
        dtype = awq.dtype_of(original.config, original.tensors)
        command = awq.quantize_command(recipe, original.directory, written, self._version, dtype)
        env = lmdeploy_tool.environment(work, calibration.environment(recipe, work))
        return lmdeploy_tool.run(command, cwd=work, env=env, on_line=reader.line)

    def _calibration(self, original: Original, work: Path, env: Mapping[str, str]) -> tuple[Recipe, str]:
        """The recipe that the calibration data suffice for, and what to say about it."""
        recipe = self._recipe
        if not recipe.samples:
            return recipe, ""
        self._progress.show("Calibrating", detail=f"loading {recipe.dataset}", now=True)
        if recipe.dataset in DATASETS:
            calibration.probe(recipe, original.directory, work, env)
            return recipe, ""
        calibration.prepare_text(work, calibration.read_texts(self._options.text or calibration.SHIPPED))
        tokens = calibration.probe(recipe, original.directory, work, env) or 0
        fitting = calibration.fitted(recipe, tokens)
        if fitting == recipe:
            return recipe, ""
        return fitting, f"the calibration text has {tokens} tokens: {fitting.words()} instead of {recipe.words()}"

    def _give_up(self, attempts: ladder.Attempts, written: Path) -> None:
        shutil.rmtree(written, ignore_errors=True)
        attempts.forget()


def _message(note: str, failures: list[dict[str, object]], recipe: Recipe) -> str:
    parts = [note] if note else []
    if failures:
        reasons = ", ".join(dict.fromkeys(str(failure["failure"]) for failure in failures))
        parts.append(f"{len(failures)} tries ended with {reasons}; it was made with {recipe.words()}")
    return "; ".join(parts)


def _exhausted(failures: list[dict[str, object]]) -> ToolError:
    if failures[-1]["failure"] == "GPUOutOfMemory":
        return ToolError(
            "GPUOutOfMemory",
            f"the GPU's memory did not suffice in {len(failures)} tries, the last one without calibration data: "
            "quantize on a card with more memory, and look whether something else uses this one",
        )
    return ToolError(
        "HostMemoryExhausted",
        f"the host's memory did not suffice in {len(failures)} tries, the last one without calibration data: raise "
        "weightQuantization.resources.limits.memory",
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    # The working directory of what is run: nothing in it may be mistaken for a data set.
    with tempfile.TemporaryDirectory(prefix="quantize-") as name:
        yield Path(name).resolve()


def _whole(written: Path) -> bool:
    """Whether auto_awq's output is there: its weights agree with their headers."""
    try:
        return "quantization_config" in read_json(inspection.read_config(written)) and bool(read_tensors(written))
    except ToolError:
        return False


def _finish(original: Path, written: Path) -> None:
    """Make auto_awq's output a model like others.

    Raises:
        ToolError: QuantizationFailed: it is none.
    """
    # Statistics of the calibration, tens of megabytes.
    for statistics in written.glob("*.pth"):
        statistics.unlink()
    if not _whole(written):
        raise ToolError("QuantizationFailed", "`lmdeploy` ended well and wrote no AWQ model: look into the Job's log")
    for path in original.iterdir():
        weights = path.name.endswith((".safetensors", ".safetensors.index.json")) or path.match(layout.MARKER)
        other = any(path.match(pattern) for pattern in OTHER_WEIGHTS)
        target = paths.below(written, path.name)
        if path.is_file() and not (weights or other or target.exists()) and path.stat().st_size <= COPIED_BYTES:
            shutil.copyfile(path, target)
    lmdeploy_tool.open_to_readers(written)
