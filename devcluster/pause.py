"""The sandbox image, made from 20 lines of C: a node cannot run a pod without one, and no registry gives it here."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from devcluster.cache import content_key
from devcluster.state import cluster_dir

PAUSE_IMAGE = "docker.io/local/pause:1"
"""Name of the image, exactly as containerd lists it."""

_SOURCE = Path(__file__).with_name("pause.c")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pause_archive() -> Path:
    """Return the docker-archive of the sandbox image; it is compiled when the source changed."""
    path = cluster_dir() / f"pause-{content_key(_SOURCE.read_bytes())}.tar"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    program = path.with_suffix(".bin")
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", str(program), str(_SOURCE)], check=True)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(single_layer_archive(PAUSE_IMAGE, "pause", program.read_bytes()))
    program.unlink()
    temporary.rename(path)
    return path


def single_layer_archive(name: str, program: str, content: bytes) -> bytes:
    """Return a docker-archive of an image `name` that holds one program at `/<program>` and runs it as user 65534."""
    layer = _tar({program: content}, mode=0o755)
    diff_id = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program}"], "User": "65534"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layer_name = f"{diff_id}/layer.tar"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
    return _tar({config_name: config, layer_name: layer, "manifest.json": manifest})


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
