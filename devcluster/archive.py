"""Image archives: which images one holds, how to write one of a few files, and how to put a second image into one."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class ArchiveError(Exception):
    """A file is not an image archive; the message names it and what was expected."""


@dataclass(frozen=True)
class ImageInArchive:
    """One image of an archive."""

    name: str
    """Full reference, as `ctr images ls` prints it after the import."""
    config_digest: str
    """Digest of the image's configuration (sha256:...), which is the image's id for the kubelet."""


def images_in(path: Path) -> list[ImageInArchive]:
    """What `docker save` or `buildah push docker-archive:` wrote; layers are skipped, not read.

    Raises:
        ArchiveError: the file is missing, no tar, compressed, or has no manifest.json or no image name.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.extractfile("manifest.json")
            manifests: list[dict[str, Any]] = json.loads(member.read()) if member else []
            found = [
                ImageInArchive(_normal(tag), "sha256:" + hashlib.sha256(_read(archive, entry["Config"])).hexdigest())
                for entry in manifests
                for tag in entry.get("RepoTags") or []
            ]
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise ArchiveError(
            f"{path} is not an image archive ({error}): expected an uncompressed docker archive with a manifest.json, "
            "such as `buildah push NAME docker-archive:FILE:NAME` writes"
        ) from error
    if not found:
        raise ArchiveError(f"{path} holds no named image: write it with a name (docker-archive:FILE:NAME)")
    return found


def _normal(tag: str) -> str:
    """The reference that containerd stores: with the registry, which a short name leaves out."""
    first, slash, _ = tag.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return tag
    return f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()


def image_archive(name: str, files: Mapping[str, bytes], run: Mapping[str, Any], *, mode: int = 0o644) -> bytes:
    """A docker archive of an image with one layer.

    Args:
        name: full reference of the image.
        files: content by path, without a leading slash.
        run: the image's configuration, such as Entrypoint and User.
        mode: permissions of the files.
    """
    layer = _tar(files, mode)
    diff_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{diff_id}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
    return _tar({config_name: config, layer_name: layer, "manifest.json": manifest}, 0o644)


def add_image(path: Path, name: str, config: bytes) -> None:
    """Put a further image into an archive, made of the same layers as the first one and therefore almost free.

    Args:
        path: the archive.
        name: full reference of the image.
        config: its configuration.

    Raises:
        ArchiveError: it has other layers.
    """
    with tarfile.open(path, "r:") as archive:
        manifests: list[dict[str, Any]] = json.loads(_read(archive, "manifest.json"))
        layers = _layers_of(_read(archive, manifests[0]["Config"]))
    if _layers_of(config) != layers:
        raise ArchiveError(f"{name} cannot lie in {path}: it adds files to {manifests[0]['RepoTags']}")
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifests.append({"Config": config_name, "RepoTags": [name], "Layers": manifests[0]["Layers"]})
    with tarfile.open(path, "a:") as archive:
        # Of two members with one name, the later one counts.
        for member, content in ((config_name, config), ("manifest.json", json.dumps(manifests).encode())):
            _add(archive, member, content, 0o644)


def _layers_of(config: bytes) -> list[str]:
    layers: list[str] = json.loads(config)["rootfs"]["diff_ids"]
    return layers


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            _add(archive, name, content, mode)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = mode
    archive.addfile(entry, io.BytesIO(content))
