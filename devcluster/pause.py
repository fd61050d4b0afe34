"""The sandbox image, made from 20 lines of C: a node cannot run a pod without one, and no registry gives it here."""

import subprocess
from pathlib import Path

from devcluster.archive import image_archive
from devcluster.cache import content_key
from devcluster.state import cluster_dir

PAUSE_IMAGE = "docker.io/local/pause:1"
"""Name of the image, exactly as containerd lists it."""

_SOURCE = Path(__file__).with_name("pause.c")


def pause_archive() -> Path:
    """Return the docker-archive of the sandbox image; it is compiled when the source changed."""
    path = cluster_dir() / f"pause-{content_key(_SOURCE.read_bytes())}.tar"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    program = path.with_suffix(".bin")
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", str(program), str(_SOURCE)], check=True)
    temporary = path.with_suffix(".part")
    run = {"Entrypoint": ["/pause"], "User": "65534"}
    temporary.write_bytes(image_archive(PAUSE_IMAGE, {"pause": program.read_bytes()}, run, mode=0o755))
    program.unlink()
    temporary.rename(path)
    return path
