"""`convert`: a TurboMind workspace with the engine's own `lmdeploy convert`, which ended with 0.9.2.post1.

A workspace is a directory that `lmdeploy serve api_server` of the same version loads: `triton_models/weights/` with
config.yaml and one file per tensor and GPU, and beside it config.json and the tokenizer of the original
(lmdeploy/turbomind/deploy/converter.py). The server's --tp must be the one given here.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llm_operator.modeltools import inspection, layout, lmdeploy_tool, report
from llm_operator.modeltools.hub import unwritable
from llm_operator.modeltools.layout import Marker
from llm_operator.modeltools.machine import free_disk_bytes, readable
from llm_operator.modeltools.recipe import architecture_of, check_remote_code, nested, release
from llm_operator.modeltools.report import Progress, ToolError
from llm_operator.modeltools.tensors import read_tensors
from llm_operator.modeltools.text import read_file, read_json

LAST_VERSION = "0.9.2.post1"
"""0.10.0 removed the command and the loading of workspaces."""
FORMATS = ("hf", "awq")
AWQ_GROUP_SIZE = 128
WEIGHTS = Path("triton_models", "weights")
DISK_MARGIN_PERCENT = 10
_BAR = re.compile(r"Convert to turbomind format:\s+(\d+)%\|[^|]*\|\s*(\d+)/(\d+)(?:.*<(?:(\d+):)?(\d+):(\d+))?")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What to convert, and how."""

    model_name: str
    tensor: int
    """GPUs of the server."""
    model_format: str = "hf"
    group_size: int = AWQ_GROUP_SIZE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `convert`."""
    parser.add_argument("--root", required=True, type=Path, metavar="PATH", help="mount of the original's volume")
    parser.add_argument("--output-root", type=Path, metavar="PATH", help="mount of the cache; default the same")
    parser.add_argument("--model", required=True, metavar="DIRECTORY", help="the original, below its root")
    parser.add_argument("--output", required=True, metavar="DIRECTORY", help="the workspace, below its root")
    parser.add_argument("--model-name", default="model", help="LMDeploy requires one and does not use it")
    parser.add_argument("--tensor", type=int, default=1, help="GPUs of the server")
    parser.add_argument("--model-format", choices=FORMATS, default="hf")
    parser.add_argument("--group-size", type=int, default=AWQ_GROUP_SIZE, help="of AWQ")
    parser.add_argument("--trust-remote-code", action="store_true", help="LMDeploy of this age always does")
    parser.add_argument("--tool-version", default=LAST_VERSION, help="LMDeploy of this image, if it does not say so")
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Convert, and write the result."""
    root = options.output_root or options.root
    return report.finish(
        options.result, lambda: _convert(options, Progress()), lambda: layout.leftover(root, options.output)
    )


def convert_command(conversion: Conversion, model: Path, output: Path) -> list[str]:
    """The command line (lmdeploy/cli/cli.py of 0.9.2.post1).

    The group size is left out for 16-bit weights: it would round up the inner width of the model.
    """
    words = [lmdeploy_tool.PROGRAM, "convert", conversion.model_name, str(model), "--dst-path", str(output)]
    words += ["--tp", str(conversion.tensor), "--model-format", conversion.model_format]
    words += ["--group-size", str(conversion.group_size)] if conversion.model_format == "awq" else []
    return words


def check(config: Mapping[str, Any], conversion: Conversion, version: str, wanted: str = "") -> None:
    """Refuse what that version would refuse, or not load.

    Args:
        config: config.json.
        conversion: what is to be made.
        version: LMDeploy of this image.
        wanted: LMDeploy version that the object requires; empty: the same.

    Raises:
        ToolError: RecipeRefused or UnsupportedArchitecture.
    """
    architecture_of(config)
    quantized = nested(config, "quantization_config")
    method = quantized.get("quant_method") if isinstance(quantized, dict) else None
    refusal = None
    if release(version) > release(LAST_VERSION) >= release(wanted or version):
        refusal = (
            f"the image of this Job holds LMDeploy {version}, and engine.version is {wanted}: set engine.image to an "
            f"image with LMDeploy {wanted}"
        )
    elif release(version) > release(LAST_VERSION):
        refusal = (
            f"LMDeploy {version} has no `convert`: it reads Hugging Face's format directly. Set engine.conversion to "
            f"None, or engine.version to {LAST_VERSION}"
        )
    elif conversion.tensor < 1 or conversion.tensor & (conversion.tensor - 1):
        refusal = f"`lmdeploy convert` takes 1, 2, 4, 8 ... GPUs, not {conversion.tensor}: change parallelism.tensor"
    elif conversion.model_format == "awq" and conversion.group_size != AWQ_GROUP_SIZE:
        refusal = f"TurboMind knows AWQ in groups of {AWQ_GROUP_SIZE} only, not {conversion.group_size}"
    elif method is not None and method != conversion.model_format:
        refusal = f"the model is quantized with {method}, and was to be converted as {conversion.model_format}"
    elif method is None and conversion.model_format == "awq":
        refusal = "the model has no AWQ weights (no quantization_config in config.json): convert it as hf"
    heads = config.get("num_attention_heads")
    if refusal is None and isinstance(heads, int) and heads % conversion.tensor:
        refusal = f"{heads} attention heads cannot be spread over {conversion.tensor} GPUs: change parallelism.tensor"
    if refusal is not None:
        raise ToolError("RecipeRefused", refusal)


def _convert(options: argparse.Namespace, progress: Progress) -> Mapping[str, object]:
    root = (options.output_root or options.root).resolve()
    if not root.is_dir():
        raise ToolError("ModelPathMissing", f"{root} is not a directory: the cache is not mounted there")
    directory = layout.below(root, options.output)
    try:
        marker = layout.complete(directory)
        if marker is None:
            with layout.lock(directory, lambda: progress.show("Waiting", detail=directory.name)):
                marker = layout.complete(directory) or _make(options, directory, progress)
    except OSError as error:
        raise unwritable(error) or error from error
    return {
        "directory": str(directory.relative_to(root)),
        "bytes": layout.size_of(directory),
        "config": report.encode_config(inspection.read_config(directory)),
        "weightsBytes": weight_bytes(directory),
        **({"revision": marker.revision} if marker.revision else {}),
        **{name: marker.extra[name] for name in ("toolVersion", "conversion") if name in marker.extra},
    }


def _make(options: argparse.Namespace, directory: Path, progress: Progress) -> Marker:
    """Write the workspace. The lock is held."""
    model = layout.inside(options.root, options.model)
    version = lmdeploy_tool.installed_version() or options.tool_version
    conversion = Conversion(options.model_name, options.tensor, options.model_format, options.group_size)
    config = read_json(inspection.read_config(model))
    check(config, conversion, version, options.tool_version)
    check_remote_code(version, options.trust_remote_code)
    read_tensors(model)
    _check_disk(model, directory)
    layout.remove(directory)
    written = layout.partial(directory)
    report.unfinished(options.result, {"directory": options.output})
    shutil.rmtree(written, ignore_errors=True)
    written.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-") as work:
        env = lmdeploy_tool.environment(Path(work), {"HF_HUB_OFFLINE": "1"})
        progress.show("Converting", detail="loading the model", now=True)
        command = convert_command(conversion, model, written)
        ended = lmdeploy_tool.run(command, cwd=Path(work), env=env, on_line=line_reader(progress))
    if ended.code != 0 or not _whole(written):
        shutil.rmtree(written, ignore_errors=True)
        raise _failure(ended)
    # The server's planner and other tools read the original's facts here; LMDeploy copies *.json itself.
    if not (written / inspection.CONFIG).exists():
        shutil.copyfile(model / inspection.CONFIG, written / inspection.CONFIG)
    lmdeploy_tool.open_to_readers(written)
    progress.show("Converting", percent=100, detail="writing the marker", now=True)
    before = layout.read_marker(model)
    told = {"tensor": conversion.tensor, "modelFormat": conversion.model_format, "weightType": weight_type(written)}
    return layout.publish(
        written,
        directory,
        source=before.source if before is not None else {"kind": "path", "path": options.model},
        revision=before.revision if before is not None else "",
        extra={"toolVersion": version, "conversion": told},
    )


def _failure(ended: lmdeploy_tool.Ended) -> ToolError:
    if ended.memory == "GPUOutOfMemory":
        return ToolError("GPUOutOfMemory", "the GPU's memory does not suffice to convert one layer: use a larger card")
    if ended.memory is not None:
        return ToolError(ended.memory, "the host's memory did not suffice: give the Job a node with more", retry=True)
    if ended.code == 0:
        return ToolError("ConversionFailed", "`lmdeploy convert` ended well and wrote no weights: look into the log")
    return lmdeploy_tool.failure(ended, "ConversionFailed")


def _check_disk(model: Path, output: Path) -> None:
    needed = sum(path.stat().st_size for path in inspection.weight_files(model)) * (100 + DISK_MARGIN_PERCENT) // 100
    free = free_disk_bytes(output)
    if free < needed:
        raise ToolError(
            "DiskFull",
            f"the workspace needs {readable(needed)} on the volume, {readable(free)} are free: enlarge the claim, or "
            "remove models that nothing uses",
        )


def line_reader(progress: Progress) -> Callable[[str], None]:
    """Turns the lines of `lmdeploy convert` into progress."""

    def line(text: str) -> None:
        bar = _BAR.search(text)
        if bar is not None:
            left = int(bar[4] or 0) * 3600 + int(bar[5]) * 60 + int(bar[6]) if bar[5] else None
            progress.show("Converting", percent=int(bar[1]), seconds_left=left, detail=f"layer {bar[2]} of {bar[3]}")

    return line


def _whole(written: Path) -> bool:
    return (written / WEIGHTS / "config.yaml").is_file() and weight_bytes(written) > 0


def weight_bytes(workspace: Path) -> int:
    """Bytes of the weights of a workspace."""
    return sum(path.stat().st_size for path in (workspace / WEIGHTS).iterdir() if path.name != "config.yaml")


def weight_type(workspace: Path) -> str:
    """float16, bfloat16 or int4; on cards before Ampere, LMDeploy turns bfloat16 into float16 and only warns."""
    text = read_file(workspace / WEIGHTS / "config.yaml").decode(errors="replace")
    found = re.search(r"^\s*weight_type:\s*(\w+)", text, re.MULTILINE)
    return found[1] if found else "unknown"
