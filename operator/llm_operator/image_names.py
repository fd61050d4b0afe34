"""What the project's images are called: one place for the operator, the chart and the development cluster.

The project has no registry yet, and a name in a public registry that it does not own could become somebody
else's. So the default is a registry that cannot be pulled from: images are built (docs/install.md), and the chart's
`imageRegistry` says if they were pushed.
"""

from __future__ import annotations

REGISTRY = "localhost/llm-operator"
PUBLISHED = ("operator", "model-tools", "web", "lmdeploy")
"""Images that a release builds and the chart names: <registry>/<name>."""


def reference(name: str, tag: str) -> str:
    """The reference of one of the project's images."""
    return f"{REGISTRY}/{name}:{tag}"
