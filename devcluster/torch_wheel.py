"""A wheel of torch that computes on the CPU and contains no CUDA libraries.

PyPI has torch for x86-64 only as a build for CUDA, with 5 GB of NVIDIA's libraries that a CPU never calls. If no folder
holds the CPU build, PyPI's wheel is repacked: small stand-ins replace those libraries, and its metadata no longer
requires them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.cache import ROOT, cache_dir, locked, need_room
from devcluster.debian import ensure_packages
from devcluster.state import ClusterError

VERSION = "2.13.0"
VARIABLE = "LLM_OPERATOR_WHEELS"
IMAGES_TAG = "cp311"
"""The Python of the images: Debian 12's."""
REPACKING_BYTES = 3_000_000_000
DOWNLOAD_SECONDS = 1800

_NVIDIA = re.compile(r"lib(cu|nv|nccl)")
# Symbols without a version name no library; these prefixes are those of NVIDIA's interfaces.
_NVIDIA_SYMBOL = re.compile(r"(cu[A-Z_a-z]|nccl|nvrtc|nvshmem|__cuda|__nv)\w+")
_CUDA_REQUIREMENT = re.compile(rb"Requires-Dist: (cuda-|nvidia-|triton)")


def identity() -> str:
    """Says which build an image gets, without making the wheel; the same in every checkout of this machine."""
    return "cpu" if _found(IMAGES_TAG) or _packed_folder() else "pypi"


def find(tag: str = IMAGES_TAG) -> Path | None:
    """The wheel for a Python, made on first use; None if the machine is not x86-64: PyPI's torch is then for the CPU.

    Args:
        tag: `cp311` and the like.

    Raises:
        ClusterError: LLM_OPERATOR_WHEELS names no folder, there is no room, or the wheel can be neither rebuilt nor
            downloaded.
    """
    if platform.machine() != "x86_64":
        return None
    found = _found(tag)
    if found is not None:
        return found
    with locked("torch-wheel"):
        return _found(tag) or (_rebuilt() if tag == IMAGES_TAG else None) or _repacked(tag)


def _found(tag: str) -> Path | None:
    for folder in (*_folders(), cache_dir() / "wheels"):
        # A local version sorts last: the CPU build goes before a repacked one.
        wheels = sorted(folder.glob(f"torch-{VERSION}*-{tag}-*x86_64.whl"), reverse=True)
        if wheels:
            return wheels[0]
    return None


def _folders() -> Iterator[Path]:
    """LLM_OPERATOR_WHEELS alone where it is set, else `shared/wheels` beside the checkout or one of its parents."""
    given = os.environ.get(VARIABLE)
    if given:
        if not Path(given).is_dir():
            raise ClusterError(
                f"{VARIABLE}={given}: no such folder; it must hold torch {VERSION} for the CPU, or unset it"
            )
        yield Path(given)
        return
    yield from (folder for parent in ROOT.parents if (folder := parent / "shared" / "wheels").is_dir())


def _packed_folder() -> Path | None:
    """A folder with the packed content of the CPU build and a program `rebuild` that writes the wheel."""
    packed = f"torch-{VERSION}+cpu-{IMAGES_TAG}-*x86_64.tar.*"
    return next((path for path in _folders() if os.access(path / "rebuild", os.X_OK) and any(path.glob(packed))), None)


def _rebuilt() -> Path | None:
    folder = _packed_folder()
    if folder is None:
        return None
    target = cache_dir() / "wheels"
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([str(folder / "rebuild"), str(target)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{folder / 'rebuild'} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return _found(IMAGES_TAG)


def _repacked(tag: str) -> Path:
    need_room(REPACKING_BYTES, f"torch {VERSION} from PyPI, repacked without CUDA's libraries")
    ensure_packages(("gcc", "libc6-dev", "binutils"))
    print(f"    no CPU build of torch in {VARIABLE}: repacking PyPI's without CUDA's libraries", flush=True)
    target = cache_dir() / "wheels"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        wheel = _download(tag, Path(scratch))
        files = Path(scratch) / "files"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(files)
        wheel.unlink()
        write_stand_ins(files / "torch" / "lib")
        part = Path(scratch) / "wheel.part"
        _pack(files, part)
        return part.rename(target / wheel.name)


def _download(tag: str, folder: Path) -> Path:
    python = tag.removeprefix("cp")
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        subprocess.run([sys.executable, "-m", "ensurepip"], capture_output=True, check=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python[0]}.{python[1:]}", f"--abi={tag}",
        "--platform=manylinux_2_28_x86_64", f"--dest={folder}", f"torch=={VERSION}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS)
    if done.returncode != 0:
        raise ClusterError(f"torch {VERSION} cannot be downloaded: {done.stderr.strip()[-500:]}")
    (wheel,) = folder.glob("torch-*.whl")
    return wheel


@dataclass
class Interface:
    """What torch's libraries ask of one of NVIDIA's."""

    versions: set[str] = field(default_factory=set)
    symbols: dict[str, str] = field(default_factory=dict)
    """Name -> version; an empty one where the symbol has none."""


def write_stand_ins(folder: Path) -> None:
    """Write a stand-in for each of NVIDIA's libraries that the libraries of a folder need.

    Each function of it returns 100, which is cudaErrorNoDevice: torch then reports that there is no GPU.

    Raises:
        ClusterError: the compiler failed.
    """
    for name, interface in asked(sorted(folder.glob("*.so*"))).items():
        _compile(name, interface, folder / name)


def asked(libraries: Sequence[Path]) -> Mapping[str, Interface]:
    """What some libraries ask of NVIDIA's, by the name of the library."""
    found: dict[str, Interface] = {}
    undefined: set[str] = set()
    for library in libraries:
        text = subprocess.run(["readelf", "-dVW", library], capture_output=True, text=True, check=True).stdout
        for name in re.findall(r"Shared library: \[([^\]]+)\]", text):
            if _NVIDIA.match(name):
                found.setdefault(name, Interface())
        current = ""
        for line in text.splitlines():
            if of := re.search(r"File: (\S+)", line):
                current = of.group(1)
            elif (needs := re.search(r"\sName: (\S+)\s+Flags", line)) and current in found:
                found[current].versions.add(needs.group(1))
        listed = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
        undefined.update(line.split()[-1] for line in listed.stdout.splitlines() if line.strip())
    owners = {version: interface for interface in found.values() for version in interface.versions}
    first = next(iter(found.values()), Interface())
    for symbol in undefined:
        name, _, version = symbol.partition("@")
        if version in owners:
            owners[version].symbols[name] = version
        elif not version and _NVIDIA_SYMBOL.fullmatch(name):
            # The loader looks for it in every library: any of them will do.
            first.symbols[name] = ""
    return found


def _compile(name: str, interface: Interface, target: Path) -> None:
    lines = []
    for index, (symbol, version) in enumerate(sorted(interface.symbols.items())):
        if version:
            lines.append(f'__asm__(".symver stand_in_{index},{symbol}@@{version}");')
        lines.append(f"int {f'stand_in_{index}' if version else symbol}(void) {{ return 100; }}")
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stand_in.c", Path(scratch) / "stand_in.map"
        source.write_text("\n".join(lines))
        script.write_text("".join(f"{version} {{ }};\n" for version in sorted(interface.versions)))
        versions = [f"-Wl,--version-script={script}"] if interface.versions else []
        command = ["gcc", "-shared", "-fPIC", "-fno-builtin", "-w", f"-Wl,-soname,{name}", *versions]
        done = subprocess.run([*command, "-o", target, source], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"no stand-in for {name} could be compiled: {done.stderr.strip()[-500:]}")


def _pack(files: Path, target: Path) -> None:
    """Write a wheel of a folder, whose metadata requires no CUDA."""
    (info,) = files.glob("*.dist-info")
    metadata = (info / "METADATA").read_bytes().splitlines(keepends=True)
    (info / "METADATA").write_bytes(b"".join(line for line in metadata if not _CUDA_REQUIREMENT.match(line)))
    record = info / "RECORD"
    record.unlink()
    lines = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(path for path in files.rglob("*") if path.is_file()):
            name = str(path.relative_to(files))
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").digest()
            lines.append(
                f"{name},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{path.stat().st_size}"
            )
            archive.write(path, name)
        archive.writestr(str(record.relative_to(files)), "\n".join([*lines, f"{record.relative_to(files)},,", ""]))
    shutil.rmtree(files)
