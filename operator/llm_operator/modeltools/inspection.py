"""`inspect`: what a model on a volume is, from config.json and the headers of its weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_operator.modeltools import layout, paths, report
from llm_operator.modeltools.report import Progress, ToolError
from llm_operator.modeltools.text import read_file, read_json

CONFIG = "config.json"
QUANTIZATION = "hf_quant_config.json"
INDEX = "model.safetensors.index.json"
CONFIG_BYTES = 4 << 20
"""Of config.json, which has some kilobytes."""
HEADER_LIMIT = 100_000_000
"""Largest header that the format's own readers take, in bytes (safetensors, src/tensor.rs: MAX_HEADER_SIZE)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `inspect`."""
    parser.add_argument("--directory", required=True, metavar="PATH", help="the model, absolute or below the root")
    parser.add_argument("--root", type=Path, metavar="PATH", help="the volume's mount; default the directory itself")
    report.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Inspect, and write the result."""
    return report.finish(options.result, lambda: _inspect(options.root or Path(options.directory), options.directory))


def _inspect(root: Path, given: str) -> Mapping[str, object]:
    Progress().show("Inspecting")
    top = root.resolve()
    # An absolute path may name the mount or what is below it.
    named = Path(given)
    relative = str(named.relative_to(root)) if named.is_absolute() and named.is_relative_to(root) else given
    if not top.is_dir():
        raise ToolError("ModelPathMissing", f"{root} is not a directory: nothing is mounted there")
    directory = layout.inside(top, relative)
    return {"directory": str(directory.relative_to(top)), **describe(directory)}


def describe(directory: Path) -> dict[str, object]:
    """The result's fields of a model: config, weightsBytes, bytes.

    Raises:
        ToolError: ModelConfigMissing, WeightsMissing, WeightsCorrupt.
    """
    return {
        "bytes": layout.size_of(directory),
        "config": report.encode_config(_with_quantization(read_config(directory), directory)),
        "weightsBytes": sum(tensor_bytes(path) for path in weight_files(directory)),
    }


def _with_quantization(content: bytes, directory: Path) -> bytes:
    """config.json with what hf_quant_config.json says, which vLLM reads if config.json says nothing.

    ModelOpt up to 0.29 writes it (vLLM 0.33.0, transformers_utils/config.py).
    """
    config = read_json(content)
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    if any(part.get(name) for part in parts for name in ("quantization_config", "compression_config")):
        return content
    try:
        told = read_json(read_file(directory / QUANTIZATION, CONFIG_BYTES))
    except (OSError, ValueError):
        return content
    if not isinstance(told, dict) or not isinstance(told.get("quantization"), dict):
        return content
    return json.dumps({**config, "quantization_config": {"quant_method": "modelopt", **told}}).encode()


def read_config(directory: Path) -> bytes:
    """config.json, which is a JSON object.

    Raises:
        ToolError: ModelConfigMissing.
    """
    path = directory / CONFIG
    try:
        content = read_file(path, CONFIG_BYTES)
        valid = isinstance(read_json(content), dict)
    except FileNotFoundError:
        found = sorted(entry.name for entry in directory.iterdir())[:10]
        raise ToolError(
            "ModelConfigMissing",
            f"no config.json in {directory}: expected a model in the layout of Hugging Face's transformers; "
            f"there is: {', '.join(found) or 'nothing'}",
        ) from None
    except (OSError, ValueError) as error:
        raise ToolError("ModelConfigMissing", f"{path} cannot be read as JSON: {error}") from error
    if not valid:
        raise ToolError("ModelConfigMissing", f"{path} is not a JSON object")
    return content


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files that an engine loads: those of the index, else all at the top.

    Raises:
        ToolError: WeightsMissing: there is none, or one of the index is not there.
    """
    index = directory / INDEX
    if index.is_file():
        names = _names_of(index)
        shards = {name: paths.below(directory, name, "WeightsCorrupt") for name in names}
        missing = [name for name, path in shards.items() if not path.is_file()]
        if missing:
            raise ToolError(
                "WeightsMissing",
                f"{INDEX} lists {len(names)} files, {len(missing)} are not in {directory}, for example {missing[0]}: "
                "copy the whole model",
            )
        return list(shards.values())
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ToolError(
            "WeightsMissing",
            f"no *.safetensors in {directory}: other formats are not served, since .bin and .pth run code when loaded; "
            "convert the model once with transformers' save_pretrained",
        )
    # Mistral's format of the same weights.
    return [path for path in files if not path.name.startswith("consolidated")] or files


def tensor_bytes(path: Path) -> int:
    """Bytes of the tensors of one file, by its header.

    Raises:
        ToolError: see header_of().
    """
    return _last_byte(header_of(path))


def header_of(path: Path) -> dict[str, Any]:
    """What the header of a file says of each tensor, by name.

    Raises:
        ToolError: WeightsCorrupt: it is not a safetensors file, or has another size than its header says.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = read_json(file.read(length))
        header.pop("__metadata__", None)
        end = _last_byte(header)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
        raise ToolError(
            "WeightsCorrupt", f"{path} is not a safetensors file: {error}; copy or fetch it again"
        ) from error
    if 8 + length + end != size:
        raise ToolError(
            "WeightsCorrupt",
            f"{path} has {size} bytes, its header says {8 + length + end}: it is damaged; copy or fetch it again",
        )
    return header


def _last_byte(header: dict[str, Any]) -> int:
    return max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)


def _names_of(index: Path) -> list[str]:
    try:
        places = read_json(read_file(index))["weight_map"]
        names = sorted(set(places.values()))
        if not names or any("/" in name for name in names):
            raise ValueError("no files, or files elsewhere")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ToolError("WeightsCorrupt", f"{index} is not an index of weights: {error}") from error
    return names
