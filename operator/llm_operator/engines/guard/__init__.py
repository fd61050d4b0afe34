"""The filter that stands before an engine's router: its source, and the command that starts an engine behind it.

A pod finds the source as a file, from its own annotation. PYTHONPATH names the file's folder, so every Python
process of the engine loads it, also one that an image's wrapper script starts or that vLLM spawns as a further server.
Where Python does not load it, LMDeploy listens on loopback only: its probes fail, and no one reaches its other routes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

FOLDER = "/guard"
"""Where the file lies in the pod."""
FILE = "sitecustomize.py"
HOST = "127.0.0.1"
"""What LMDeploy is asked to listen on; the guard opens it to the pod's network."""

# No text of a user: what is run comes as arguments. An image's own PYTHONPATH stays behind the guard.
_SHELL = f'export PYTHONPATH="{FOLDER}${{PYTHONPATH:+:$PYTHONPATH}}"; exec "$@"'


@functools.cache
def source() -> str:
    """The filter's source."""
    return resources.files(__package__).joinpath(FILE).read_text()


def guarded(command: Sequence[str]) -> tuple[str, ...]:
    """The command that starts an engine's command behind the filter; the engine keeps its process id and its args."""
    # The kubelet expands $(NAME) only; `$@` and `${` reach the shell as they are.
    return ("/bin/sh", "-c", _SHELL, "guard", *command)
