"""The command line, and the commands `inspect`, `remove` and `install`."""

from __future__ import annotations

import ast
import base64
import dataclasses
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm_operator.modeltools import layout
from llm_operator.modeltools.__main__ import COMMANDS
from tests.unit.modeltools.tool import MIB, OPERATOR, Tool, write_model, write_safetensors

PACKAGE = OPERATOR / "llm_operator" / "modeltools"


@pytest.mark.parametrize("arguments", [[], ["serve"], ["fetch"], ["inspect", "--dir", "x"], ["--help"]])
def test_the_command_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llm_operator.modeltools", *arguments],
        env={"PYTHONPATH": str(OPERATOR), "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert "Traceback" not in done.stderr
    if arguments == ["--help"]:
        assert all(command in done.stdout for command in COMMANDS)


def model(tool: Tool, name: str = "mine") -> Path:
    write_model(tool.folder / "volume" / name)
    return tool.folder / "volume"


def test_inspect_tells_what_a_model_is(tool: Tool) -> None:
    root = model(tool)
    done = tool.run("inspect", "--root", str(root), "--directory", "mine")
    assert done.code == 0, done.errors
    assert done.result is not None
    assert done.result["directory"] == "mine"
    assert done.result["weightsBytes"] == 2 * MIB
    assert done.result["bytes"] == layout.size_of(root / "mine")
    config = gzip.decompress(base64.b64decode(done.result["config"]))
    assert json.loads(config) == json.loads((root / "mine" / "config.json").read_text())


@pytest.mark.parametrize(
    ("own", "beside", "told"),
    [
        (None, {"quantization": {"quant_algo": "FP8"}}, "FP8"),
        ({"quant_method": "fp8"}, {"quantization": {"quant_algo": "FP8"}}, None),
        (None, {"quantization": None}, None),
        (None, ["quantization"], None),
        (None, None, None),
    ],
)
def test_inspect_tells_what_hf_quant_config_says(
    tool: Tool, own: dict[str, str] | None, beside: object, told: str | None
) -> None:
    folder = model(tool) / "mine"
    config = json.loads((folder / "config.json").read_text())
    config |= {} if own is None else {"quantization_config": own}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hf_quant_config.json").write_text("{" if beside is None else json.dumps(beside))
    done = tool.run("inspect", "--directory", str(folder))
    assert done.result is not None, done.errors
    found = json.loads(gzip.decompress(base64.b64decode(done.result["config"])))
    own_now = config.get("quantization_config")
    assert found.get("quantization_config") == (
        own_now if told is None else {"quant_method": "modelopt", "quantization": {"quant_algo": told}}
    )


@pytest.mark.parametrize("form", ["absolute below the root", "absolute without a root", "the root itself"])
def test_inspect_takes_a_path_as_it_is_mounted(tool: Tool, form: str) -> None:
    root = model(tool)
    path = str(root / "mine")
    given = {
        "absolute below the root": ["--root", str(root), "--directory", path],
        "absolute without a root": ["--directory", path],
        "the root itself": ["--root", path, "--directory", "."],
    }[form]
    done = tool.run("inspect", *given)
    assert done.code == 0, done.errors
    assert done.result is not None
    assert done.result["directory"] == ("mine" if form == "absolute below the root" else ".")


def test_inspect_refuses_with_a_reason(tool: Tool) -> None:
    root = model(tool)
    mine = root / "mine"
    outside = tool.folder / "outside"
    shutil.copytree(mine, outside)

    def reason(directory: str = "mine") -> str:
        done = tool.run("inspect", "--root", str(root), "--directory", directory)
        assert done.code == 3
        return done.reason

    assert reason("none") == "ModelPathMissing"
    assert reason("../outside") == "ModelPathMissing"
    assert reason(str(outside)) == "ModelPathMissing"
    (root / "link").symlink_to(outside)
    assert reason("link") == "ModelPathMissing"
    shard = mine / "model-00002-of-00002.safetensors"
    with shard.open("r+b") as file:
        file.truncate(MIB)
    assert reason() == "WeightsCorrupt"
    shard.unlink()
    assert reason() == "WeightsMissing"
    (mine / "model.safetensors.index.json").unlink()
    for path in mine.glob("*.safetensors"):
        path.unlink()
    assert reason() == "WeightsMissing"
    (mine / "config.json").write_text("[]")
    assert reason() == "ModelConfigMissing"
    (mine / "config.json").unlink()
    assert reason() == "ModelConfigMissing"


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\xff" * 100, b"\x05" + b"\x00" * 7 + b"[1,2]", b"\x10" + b"\x00" * 7 + b"{}" * 4]
)
def test_inspect_of_files_that_are_no_safetensors(tool: Tool, content: bytes) -> None:
    folder = tool.folder / "volume"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    done = tool.run("inspect", "--directory", str(folder))
    assert (done.code, done.reason) == (3, "WeightsCorrupt")


def test_inspect_of_a_model_without_an_index(tool: Tool) -> None:
    folder = tool.folder / "volume"
    write_safetensors(folder / "model.safetensors", 1000)
    write_safetensors(folder / "consolidated.safetensors", 1000)
    (folder / "config.json").write_text("{}")
    done = tool.run("inspect", "--directory", str(folder))
    assert done.result is not None
    assert done.result["weightsBytes"] == 1000


def test_remove_leaves_nothing_of_the_model_and_everything_else(fetched: Tool) -> None:
    other = fetched.directory().parents[1] / "hf--other--model" / "abc"
    shutil.copytree(fetched.directory(), other)
    size = layout.size_of(fetched.directory())
    relative = str(fetched.directory().relative_to(fetched.cache))
    (fetched.directory().with_name("x.partial")).mkdir()
    done = fetched.run("remove", "--root", str(fetched.cache), "--directory", relative)
    assert done.code == 0, done.errors
    assert done.result == {"ok": True, "directory": relative, "bytes": size}
    assert [path.name for path in fetched.directory().parent.iterdir()] == ["x.partial"]
    assert layout.complete(other) is not None
    # Again: it is gone, which is what was wanted.
    again = fetched.run("remove", "--root", str(fetched.cache), "--directory", relative)
    assert again.result == {"ok": True, "directory": relative, "bytes": 0}


def test_remove_takes_the_beginnings_and_the_empty_folder_too(fetched: Tool) -> None:
    directory = fetched.directory()
    directory.rename(layout.partial(directory))
    directory.with_name(f"{directory.name}.partial.ladder.json").write_text("{}")
    relative = str(directory.relative_to(fetched.cache))
    assert fetched.run("remove", "--root", str(fetched.cache), "--directory", relative).code == 0
    assert list((fetched.cache / "models").iterdir()) == []


@pytest.mark.parametrize("relative", ["", ".", "models", "models/hf--acme--tiny", "..", "models/../../x", "other/a/b"])
def test_remove_of_what_is_no_model(fetched: Tool, relative: str) -> None:
    done = fetched.run("remove", "--root", str(fetched.cache), "--directory", relative)
    assert (done.code, done.reason) == (3, "ModelPathMissing")
    assert layout.complete(fetched.directory()) is not None


def test_installed_tools_run_without_anything_else(tool: Tool) -> None:
    root = model(tool)
    target = tool.folder / "tools"
    for _ in range(2):  # an init container may run twice
        done = tool.run("install", str(target))
        assert done.code == 0, done.errors
    assert sorted(os.listdir(target)) == ["llm_operator"]
    assert sorted(os.listdir(target / "llm_operator")) == ["__init__.py", "modeltools"]
    # -S: no site-packages, as in an image that has none of the project's needs.
    bare = dataclasses.replace(tool, python=("-S",))
    done = bare.run("inspect", "--root", str(root), "--directory", "mine", PYTHONPATH=str(target))
    assert done.code == 0, done.errors


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: str(path.stem))
def test_modules_import_the_standard_library_only(path: Path) -> None:
    if path.stem in ("huggingface", "modelscope", "hub_private", "redirects"):
        # Imported by hub_of only, in the image that has the clients.
        importers = [other.stem for other in PACKAGE.glob("*.py") if f"modeltools.{path.stem} " in other.read_text()]
        assert importers == (["huggingface"] if path.stem in ("hub_private", "redirects") else [])
        return
    for node in ast.parse(path.read_text()).body:
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            known = name.split(".")[0] in sys.stdlib_module_names
            assert known or name.startswith("llm_operator.modeltools"), f"{path.name} imports {name}"
