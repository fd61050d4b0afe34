"""Which images an archive holds."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
