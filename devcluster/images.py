"""The project's images, built from its own Dockerfiles on a machine that no registry is near.

The bases that the Dockerfiles name by default come from a registry. Here one made of Debian packages takes their place
as a build argument; everything else is the same. Built images stay in buildah's store alone, tagged with what went into
them: an archive exists only while a node reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from devcluster import torch_wheel
from devcluster.archive import add_image
from devcluster.cache import ROOT, Steps, cache_dir, content_key, locked, need_room
from devcluster.debian import ensure_packages
from devcluster.node import Node, recorded
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
# What a machine behind a proxy or its own mirror needs inside of a build, if it has it.
HOST_SETTINGS = ("/etc/pip.conf", "/etc/ssl/certs", "/etc/apt/sources.list.d", "/etc/apt/apt.conf.d", "/etc/hosts")


@dataclass(frozen=True)
class Recipe:
    """How one image comes about."""

    base: str | None
    """Name of the recipe below; None for the root file system."""
    context: Path
    sources: tuple[str, ...]
    """Files and folders of the context that the image is made of."""
    megabytes: int
    """What it adds to its base on the disk, measured and rounded up."""
    torch: bool = False
    """Whether torch's wheel is given to the build."""
    settings_only: bool = False
    """Whether it adds no files to its base, and therefore lies in its base's archive."""


RECIPES: Mapping[str, Recipe] = {
    "debian-base": Recipe(None, FOLDER / "debian-base", (".",), 250),
    "operator": Recipe("debian-base", ROOT, ("images/operator", *OPERATOR_SOURCES), 250),
    "model-tools": Recipe(
        "debian-base",
        ROOT,
        ("images/model-tools", "operator/llm_operator/__init__.py", "operator/llm_operator/modeltools"),
        150,
    ),
    "web": Recipe("debian-base", FOLDER / "web", (".",), 400),
    "cpu-test-base": Recipe("debian-base", FOLDER / "cpu-test-base", (".",), 1700, torch=True),
    "vllm-cpu-test": Recipe("cpu-test-base", FOLDER / "vllm-cpu-test", (".",), 1000),
    "lmdeploy-cpu-test": Recipe("cpu-test-base", FOLDER / "lmdeploy-cpu-test", (".",), 500),
    "lmdeploy-convert-cpu-test": Recipe(
        "lmdeploy-cpu-test", FOLDER / "lmdeploy-convert-cpu-test", (".",), 0, settings_only=True
    ),
    "lmdeploy": Recipe("debian-base", FOLDER / "lmdeploy", (".",), 9000),
    "vllm": Recipe("debian-base", FOLDER / "vllm", (".",), 10500),
}


@dataclass(frozen=True)
class Built:
    """An image in buildah's store."""

    name: str
    """Key of RECIPES."""
    reference: str
    """Its full name in a cluster."""
    key: str
    """Changes with anything that the image is made of."""


def build(names: Sequence[str]) -> list[Built]:
    """Build what is not built yet of some images.

    Raises:
        ClusterError: an unknown name, no root, or a build failed (with the end of its output).
        NoRoomError: the disk is too full for what is missing.
    """
    _check(names)
    with locked("images"):
        return _build_missing(names)


def bring(names: Sequence[str], node: Node) -> None:
    """Build some images and load those into a node that it lacks.

    Raises:
        ClusterError, NoRoomError: as `build`; or the node refused an archive.
    """
    _check(names)
    # Held to the end: another checkout's build removes what it replaces.
    with locked("images"):
        by_carrier: dict[str, list[Built]] = {}
        for image in _build_missing(names):
            by_carrier.setdefault(_carrier(image.name), []).append(image)
        wanted = [images for images in by_carrier.values() if not node.holds(_keys(images))]
        need_room(_loading_bytes([images[0].name for images in wanted]), "bringing images into the node")
        for images in wanted:
            with _archive(images) as path:
                node.load([path], _keys(images))


def missing_bytes(names: Sequence[str], node: str | None = None) -> int:
    """Bytes that building some images, and bringing them into a node, would take on the disk: an estimate.

    It needs neither root nor buildah, nor a node that runs.
    """
    parts = _parts(names)
    if shutil.which("buildah") is not None:
        parts = [part for part in parts if not _stored(f"{STORE}/{part}:{key(part)}")]
    keys = {REFERENCES[name]: key(name) for name in names}
    loading = _loading_bytes(names) if node is not None and not recorded(node, keys) else 0
    return _bytes(parts) + loading


def _check(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in REFERENCES]
    if unknown:
        raise ClusterError(f"no image is called {', '.join(unknown)}: choose from {', '.join(REFERENCES)}")
    if os.geteuid() != 0:
        raise ClusterError("building images needs root: buildah makes namespaces and mounts")
    ensure_packages(PACKAGES)


def _build_missing(names: Sequence[str]) -> list[Built]:
    # Read once: sources that change while a build runs are the next build's.
    keys = {part: key(part) for part in _parts(names)}
    tags = {name: f"{STORE}/{name}:{value}" for name, value in keys.items()}
    missing = [name for name in tags if not _stored(tags[name])]
    need_room(_bytes(missing), f"building {', '.join(missing)}")
    steps = Steps("images", len(missing))
    for name in missing:
        with steps.step(f"build {name}"):
            _build(name, tags)
    if missing:
        _remove_older(tags)
    return [Built(name, REFERENCES[name], keys[name]) for name in names]


def _keys(images: Sequence[Built]) -> dict[str, str]:
    return {image.reference: image.key for image in images}


def _parts(names: Iterable[str]) -> list[str]:
    """Images and everything below them, once each, bases first."""
    return list(dict.fromkeys(part for name in names for part in _chain(name)))


def _loading_bytes(names: Sequence[str]) -> int:
    """What a node unpacks, and the largest archive beside it."""
    return _bytes(_parts(names)) + max((_bytes(_chain(name)) for name in names), default=0)


def _bytes(names: Iterable[str]) -> int:
    return sum(RECIPES[name].megabytes for name in names) * 1_000_000


def _remove_older(tags: Mapping[str, str]) -> None:
    """Remove what earlier versions of the images just built left in the store, and earlier versions of this file."""
    listed = _buildah("images", "--format", "{{.Name}}:{{.Tag}}").stdout.split()
    older = [tag for tag in listed if tag.rpartition(":")[0].rpartition("/")[2] in tags and tag not in tags.values()]
    if older:
        _buildah("rmi", *older, check=False)
    _buildah("rmi", "--prune", "--force", check=False)
    shutil.rmtree(cache_dir() / "images" / "wheels", ignore_errors=True)
    for archive in (cache_dir() / "images").glob("*-*.tar*"):
        archive.unlink()


def _carrier(name: str) -> str:
    """The image in whose archive an image lies; most have their own."""
    recipe = RECIPES[name]
    return recipe.base if recipe.settings_only and recipe.base is not None else name


def key(name: str) -> str:
    """Changes with anything that the image is made of, and with nothing else: it is the same in every checkout."""
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
        yield from (
            path
            for path in found
            if path.is_file() and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
        )


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
        if wheel is not None:
            arguments += ["--volume", f"{wheel.parent}:/wheels:ro", "--build-arg", f"TORCH=/wheels/{wheel.name}"]
    # Only with this does an image without own files get no own layer.
    arguments.append(f"--layers={'true' if recipe.settings_only else 'false'}")
    _buildah(
        "bud", "--isolation", "chroot", "--network", "host", "--pull-never", *arguments,
        "--file", str(FOLDER / name / "Dockerfile"), "--tag", tags[name], str(context),
    )  # fmt: skip
    if recipe.base is None:
        shutil.rmtree(context)


@contextmanager
def _archive(images: Sequence[Built]) -> Iterator[Path]:
    """A docker archive of images that share their files; it is gone afterwards."""
    tags = {image.name: f"{STORE}/{image.name}:{image.key}" for image in images}
    with tempfile.TemporaryDirectory(dir=cache_dir() / "images") as folder:
        path = Path(folder) / "image.tar"
        first, *others = images
        _buildah("push", "--quiet", tags[first.name], f"docker-archive:{path}:{first.reference}")
        for other in others:
            config = json.loads(_buildah("inspect", "--type", "image", tags[other.name]).stdout)["Docker"]
            add_image(path, other.reference, json.dumps(config).encode())
        yield path


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
    """Our own store: overlay where the machine can, else plain copies."""
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
    """Run to the end, with a sign of life every half minute; the output is shown only if it failed."""
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
