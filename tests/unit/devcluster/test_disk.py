"""What the development cluster takes of the disk: named before it starts, the same in every checkout, no CUDA."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devcluster import demo, images, torch_wheel
from devcluster.cache import ROOT, NoRoomError, cache_dir, need_room
from devcluster.debian import ensure_packages


def test_a_full_disk_is_named_before_the_first_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_OPERATOR_CACHE", str(tmp_path))
    need_room(1, "a byte")
    with pytest.raises(NoRoomError, match=f"the demo needs 1000000.0 GB in {tmp_path}.* GB free: .*LLM_OPERATOR_CACHE"):
        need_room(10**15, "the demo")


def test_what_is_missing_of_a_new_machine_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    names = ["operator", "model-tools", "vllm-cpu-test", "lmdeploy-cpu-test"]
    store = images.missing_bytes(names)
    # The base that both engines share counts once.
    assert 3e9 < store < 5e9
    assert store < images.missing_bytes(names, "dev") < 15e9


def test_the_demo_needs_no_more_disk_than_its_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_OPERATOR_CACHE", str(tmp_path))
    for variable in ("GOCACHE", "GOMODCACHE", "GOPATH"):
        monkeypatch.delenv(variable, raising=False)
    page = (ROOT / "docs" / "quickstart.md").read_text()
    promised = re.search(r"(\d+) GB of free disk", page)
    assert promised is not None
    assert 10e9 < demo.missing_bytes() <= float(promised[1]) * 1e9 <= 15e9
    monkeypatch.setenv("GOCACHE", str(tmp_path / "go"))
    assert demo.missing_bytes() > 15e9, "caches that this machine names are not the demo's to remove"


def test_the_key_of_an_image_is_the_same_in_every_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "shared" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / f"torch-{torch_wheel.VERSION}+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    monkeypatch.delenv(torch_wheel.VARIABLE, raising=False)
    monkeypatch.setenv("LLM_OPERATOR_CACHE", str(tmp_path / "cache"))
    told = set()
    for checkout in (tmp_path / "main", tmp_path / "worktrees" / "one"):
        monkeypatch.setattr(torch_wheel, "ROOT", checkout)
        told.add((torch_wheel.identity(), str(torch_wheel.find())))
    assert told == {("cpu", str(next(wheels.iterdir())))}


def test_what_an_editable_install_writes_is_no_part_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("pass")
    recipe = images.Recipe("debian-base", tmp_path, (".",), 1)
    monkeypatch.setattr(images, "RECIPES", {**images.RECIPES, "probe": recipe})
    before = images.key("probe")
    for folder in ("app.egg-info", "app/__pycache__"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "written").write_text("x")
    assert images.key("probe") == before
    (tmp_path / "app" / "main.py").write_text("print()")
    assert images.key("probe") != before


def build_library(folder: Path, name: str, source: str, *more: str) -> None:
    """Compile a shared library."""
    path = folder / f"{name}.c"
    path.write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{name}", "-o", str(folder / name), str(path), *more]
    subprocess.run(command, check=True)
    path.unlink()


def test_a_library_loads_with_stand_ins_for_cuda(tmp_path: Path) -> None:
    ensure_packages(("gcc", "libc6-dev", "binutils"))
    script = tmp_path / "versions"
    script.write_text("libcudart.so.13 { global: *; };")
    build_library(tmp_path, "libcudart.so.13", "int cudaCount(void){return 0;}", f"-Wl,--version-script={script}")
    build_library(tmp_path, "libnccl.so.2", "int ncclRun(void){return 0;}")
    linked = (f"-L{tmp_path}", "-l:libcudart.so.13", "-l:libnccl.so.2", "-Wl,-rpath,$ORIGIN")
    source = "int cudaCount(void); int ncclRun(void); int both(void){return cudaCount() + ncclRun();}"
    build_library(tmp_path, "libtorch.so", source, *linked)
    for name in ("libcudart.so.13", "libnccl.so.2"):
        (tmp_path / name).unlink()
    with pytest.raises(OSError, match=r"libcudart\.so\.13|libnccl\.so\.2"):
        ctypes.CDLL(str(tmp_path / "libtorch.so"))
    torch_wheel.write_stand_ins(tmp_path)
    # In a process of its own: this one remembers that the library could not be loaded.
    program = f"import ctypes; print(ctypes.CDLL({str(tmp_path / 'libtorch.so')!r}).both())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "200\n"


def test_a_repacked_wheel_asks_for_no_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(torch_wheel, "_folders", lambda: iter(()))
    monkeypatch.setattr(torch_wheel, "ensure_packages", lambda _names: [])
    monkeypatch.setattr(torch_wheel, "need_room", lambda _bytes, _what: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    wheel_name = f"torch-{torch_wheel.VERSION}-cp311-cp311-manylinux_2_28_x86_64.whl"
    requires = [
        "sympy>=1.13", 'nvidia-nccl-cu13==2.29.7; platform_system == "Linux"', "cuda-toolkit[cublas]==13.0.3",
        "triton==3.7.1",
    ]  # fmt: skip

    def download(_tag: str, folder: Path) -> Path:
        with zipfile.ZipFile(folder / wheel_name, "w") as archive:
            info = f"torch-{torch_wheel.VERSION}.dist-info"
            lines = ["Metadata-Version: 2.1", "Name: torch", f"Version: {torch_wheel.VERSION}"]
            lines += [f"Requires-Dist: {requirement}" for requirement in requires]
            archive.writestr(f"{info}/METADATA", "\n".join([*lines, ""]))
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "stale")
            archive.writestr("torch/__init__.py", "answer = 42\n")
            archive.writestr("torch/lib/README", "libraries")
        return folder / wheel_name

    monkeypatch.setattr(torch_wheel, "_download", download)
    made = torch_wheel.find()
    assert made == cache_dir() / "wheels" / wheel_name
    assert list(made.parent.iterdir()) == [made]
    with zipfile.ZipFile(made) as archive:
        metadata = archive.read(f"torch-{torch_wheel.VERSION}.dist-info/METADATA").decode()
        record = archive.read(f"torch-{torch_wheel.VERSION}.dist-info/RECORD").decode()
    assert [line for line in metadata.splitlines() if line.startswith("Requires")] == ["Requires-Dist: sympy>=1.13"]
    assert "torch/__init__.py,sha256=" in record
    assert len(record.splitlines()) == 5
