"""The project's images, built from its own Dockerfiles on a machine that no registry is near.

The bases that the Dockerfiles name by default come from a registry. Here one made of Debian packages takes their place
as a build argument; everything else is the same. Results are docker archives, named by what went into them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devcluster import torch_wheel
from devcluster.archive import add_image
from devcluster.cache import ROOT, Steps, cache_dir, content_key, locked
from devcluster.debian import ensure_packages
from devcluster.session import GPU_IMAGES, IMAGES
from devcluster.state import ClusterError

FOLDER = ROOT / "images"
PACKAGES = ("buildah", "mmdebstrap")
DEBIAN = "bookworm"
DEBIAN_PACKAGES = ("ca-certificates", "libgomp1", "libnuma1", "python3", "python3-venv")
OPERATOR_SOURCES = ("operator", "pyproject.toml", "README.md", "requirements.lock")
BUILD_SECONDS = 2400
REFERENCES = IMAGES | GPU_IMAGES
STORE = "localhost/llm-operator"
# What a machine behind a proxy or a mirror of its own needs inside of a build, where it has it.
HOST_SETTINGS = ("/etc/pip.conf", "/etc/ssl/certs", "/etc/apt/sources.list.d", "/etc/apt/apt.conf.d", "/etc/hosts")


@dataclass(frozen=True)
class Recipe:
    """How one image comes about."""

    base: str | None
    """Name of the recipe below; None for the root file system."""
    context: Path
    sources: tuple[str, ...]
    """Files and folders of the context that the image is made of."""
    torch: bool = False
    """Whether torch's wheel is given to the build."""
    settings_only: bool = False
    """Whether it adds no files to its base, and therefore lies in its base's archive."""


RECIPES: Mapping[str, Recipe] = {
    "debian-base": Recipe(None, FOLDER / "debian-base", (".",)),
    "operator": Recipe("debian-base", ROOT, ("images/operator", *OPERATOR_SOURCES)),
    "model-tools": Recipe(
        "debian-base",
        ROOT,
        ("images/model-tools", "operator/llm_operator/__init__.py", "operator/llm_operator/modeltools"),
    ),
    "web": Recipe("debian-base", FOLDER / "web", (".",)),
    "cpu-test-base": Recipe("debian-base", FOLDER / "cpu-test-base", (".",), torch=True),
    "vllm-cpu-test": Recipe("cpu-test-base", FOLDER / "vllm-cpu-test", (".",)),
    "lmdeploy-cpu-test": Recipe("cpu-test-base", FOLDER / "lmdeploy-cpu-test", (".",)),
    "lmdeploy-convert-cpu-test": Recipe(
        "lmdeploy-cpu-test", FOLDER / "lmdeploy-convert-cpu-test", (".",), settings_only=True
    ),
    "lmdeploy": Recipe("debian-base", FOLDER / "lmdeploy", (".",)),
    "vllm": Recipe("debian-base", FOLDER / "vllm", (".",)),
}


@dataclass(frozen=True)
class Archive:
    """A built image."""

    path: Path
    """Uncompressed docker archive."""
    reference: str
    """Full name of the image in it."""


def build(names: Sequence[str]) -> dict[str, Archive]:
    """Build what is not built yet; the archive of each image asked for.

    Raises:
        ClusterError: an unknown name, no root, or a build failed (with the end of its output).
    """
    unknown = [name for name in names if name not in REFERENCES]
    if unknown:
        raise ClusterError(f"no image is called {', '.join(unknown)}: choose from {', '.join(REFERENCES)}")
    carriers = {name: _carrier(name) for name in names}
    # Read once: sources that change while a build runs are the next build's.
    keys = {part: key(part) for carrier in carriers.values() for part in (*_chain(carrier), *_riders(carrier))}
    paths = {carrier: _archive_path(carrier, keys) for carrier in carriers.values()}
    archives = {name: Archive(paths[carrier], REFERENCES[name]) for name, carrier in carriers.items()}
    if all(path.exists() for path in paths.values()):
        return archives
    if os.geteuid() != 0:
        raise ClusterError("building images needs root: buildah makes namespaces and mounts")
    ensure_packages(PACKAGES)
    tags = {name: f"{STORE}/{name}:{value}" for name, value in keys.items()}
    with locked("images"):
        missing = [carrier for carrier, path in paths.items() if not path.exists()]
        order = list(dict.fromkeys(part for name in missing for part in _chain(name)))
        order = [name for name in order if name in missing or not _stored(tags[name])]
        steps = Steps("images", len(order))
        for name in order:
            with steps.step(f"build {name}"):
                _build(name, tags)
                if name in missing:
                    _write_archive(name, tags, paths[name])
        if order:
            _remove_older(order, tags)
    return archives


def _remove_older(names: Sequence[str], tags: Mapping[str, str]) -> None:
    listed = _buildah("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split()
    built = {f"{STORE}/{part}" for name in names for part in (name, *_riders(name))}
    older = [tag for tag in listed if tag.rpartition(":")[0] in built and tag not in tags.values()]
    if older:
        _buildah("rmi", *older, check=False)
    _buildah("rmi", "--prune", "--force", check=False)


def _carrier(name: str) -> str:
    """The image in whose archive an image lies; most have one of their own."""
    recipe = RECIPES[name]
    return recipe.base if recipe.settings_only and recipe.base is not None else name


def _riders(carrier: str) -> list[str]:
    """The images that lie in the archive of another one."""
    return [name for name in RECIPES if name != carrier and _carrier(name) == carrier]


def _archive_path(carrier: str, keys: Mapping[str, str]) -> Path:
    parts = [keys[name] for name in (carrier, *_riders(carrier))]
    return cache_dir() / "images" / f"{carrier}-{content_key(*parts) if len(parts) > 1 else parts[0]}.tar"


def key(name: str) -> str:
    """Changes with anything that the image is made of."""
    recipe = RECIPES[name]
    parts: list[bytes | str] = [name, DEBIAN, *DEBIAN_PACKAGES] if recipe.base is None else [name, key(recipe.base)]
    for path in _files(recipe):
        parts += [str(path.relative_to(recipe.context)), path.read_bytes()]
    if recipe.torch:
        parts.append(torch_wheel.identity())
    return content_key(*parts)


def _files(recipe: Recipe) -> Iterator[Path]:
    for source in recipe.sources:
        top = recipe.context / source
        found: Iterable[Path] = [top] if top.is_file() else sorted(top.rglob("*"))
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _chain(name: str) -> list[str]:
    base = RECIPES[name].base
    return [*(_chain(base) if base else []), name]


def _stored(tag: str) -> bool:
    return _buildah("inspect", "--type", "image", tag, check=False).returncode == 0


def _build(name: str, tags: Mapping[str, str]) -> None:
    recipe = RECIPES[name]
    arguments: list[str] = []
    if recipe.base is None:
        context = _root_file_system()
    else:
        context = recipe.context
        arguments += ["--build-arg", f"BASE={tags[recipe.base]}", *_from_host()]
    if recipe.torch:
        wheel = torch_wheel.find()
        if wheel is None:
            print("    no folder with torch's CPU build is named (LLM_OPERATOR_WHEELS): PyPI's build, gigabytes more")
        else:
            arguments += ["--volume", f"{wheel.parent}:/wheels:ro", "--build-arg", f"TORCH=/wheels/{wheel.name}"]
    # Only with this does an image without files of its own get no layer of its own.
    arguments.append(f"--layers={'true' if recipe.settings_only else 'false'}")
    _buildah(
        "bud", "--isolation", "chroot", "--network", "host", "--pull-never", *arguments,
        "--file", str(FOLDER / name / "Dockerfile"), "--tag", tags[name], str(context),
    )  # fmt: skip


def _write_archive(name: str, tags: Mapping[str, str], path: Path) -> None:
    """The archive of a built image; images without files of their own are built here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for older in path.parent.glob(f"{name}-{'[0-9a-f]' * 16}.tar*"):
        older.unlink()
    part = path.with_suffix(".tar.part")
    _buildah("push", "--quiet", tags[name], f"docker-archive:{part}:{REFERENCES[name]}")
    for rider in _riders(name):
        _build(rider, tags)
        config = json.loads(_buildah("inspect", "--type", "image", tags[rider]).stdout)["Docker"]
        add_image(part, REFERENCES[rider], json.dumps(config).encode())
    part.rename(path)


def _root_file_system() -> Path:
    """A folder with debian-base's Dockerfile and the rootfs.tar that it adds."""
    folder = cache_dir() / "images" / "debian-base"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FOLDER / "debian-base", folder)
    part = folder / "rootfs.part.tar"
    include = "--include=" + ",".join(DEBIAN_PACKAGES)
    _run(["mmdebstrap", "--quiet", "--variant=minbase", include, DEBIAN, str(part)])
    part.rename(folder / "rootfs.tar")
    return folder


def _from_host() -> list[str]:
    mounts = [f"{path}:{path}:ro" for path in HOST_SETTINGS if Path(path).exists()]
    downloads = cache_dir() / "images" / "pip"
    downloads.mkdir(parents=True, exist_ok=True)
    mounts.append(f"{downloads}:/root/.cache/pip")
    return [part for mount in mounts for part in ("--volume", mount)]


def _buildah(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _run(["buildah", *_storage(), *arguments], check=check)


@cache
def _storage() -> tuple[str, ...]:
    """A store of our own: overlay where the machine can, else plain copies."""
    folder = cache_dir() / "images" / "store"
    for driver in ("overlay", "vfs"):
        # The run root holds locks and mounts, which must not outlive a boot.
        chosen = (
            "--storage-driver",
            driver,
            "--root",
            str(folder / driver),
            "--runroot",
            f"/run/llm-operator/{driver}",
        )
        if subprocess.run(["buildah", *chosen, "info"], capture_output=True, check=False).returncode == 0:
            return chosen
    raise ClusterError("buildah can keep no images here: `buildah info` fails with the drivers overlay and vfs")


def _run(command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run to the end, with a sign of life every half minute; the output is shown only where it failed."""
    log = cache_dir() / "images" / f"last-{Path(command[0]).name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("w+") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while True:
            try:
                code = process.wait(timeout=30)
                break
            except subprocess.TimeoutExpired:
                if time.monotonic() - start > BUILD_SECONDS:
                    process.kill()
                    process.wait()
                    raise ClusterError(f"{command[0]} did not end within {BUILD_SECONDS} s; see {log}") from None
                print(f"    {time.monotonic() - start:.0f} s: {_last_line(log)}", flush=True)
        output.seek(0)
        text = output.read()
    if check and code != 0:
        tail = "\n".join(text.splitlines()[-25:])
        raise ClusterError(f"{' '.join(command)} failed with exit code {code} (all of it in {log}):\n{tail}")
    return subprocess.CompletedProcess(command, code, text, "")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").rstrip().splitlines()
    return lines[-1][:100] if lines else "at work"
