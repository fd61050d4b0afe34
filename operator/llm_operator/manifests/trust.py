"""A pod that also trusts certificates of ConfigMaps: an init container adds them to the public roots. Pure."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

from llm_operator.api.base import ConfigMapKeyReference
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines.common import CA_VARIABLES
from llm_operator.manifests.common import JSON
from llm_operator.settings import ToolSettings

CONTAINER = "trust"
VOLUME, BUNDLES = "trust", "trust-bundle"
FOLDER, BUNDLES_FOLDER = "/trust", "/trust-bundle"
FILE = f"{FOLDER}/ca.crt"


@functools.cache
def _source() -> str:
    return resources.files("llm_operator.modeltools").joinpath("trust.py").read_text()


def bundles_of(spec: LLMDeploymentSpec, tools: ToolSettings) -> tuple[ConfigMapKeyReference, ...]:
    """The bundles that a client of a hub trusts: the operator's and the object's."""
    given = (tools.ca_bundle, spec.ca_bundle)
    return tuple(dict.fromkeys(one for one in given if one is not None))


def with_trust(
    pod: JSON,
    bundles: Sequence[ConfigMapKeyReference],
    names: Sequence[str],
    image: str,
    pull_policy: str | None = None,
) -> JSON:
    """The pod's spec with containers that trust further certificates; as it is if there are none.

    The ConfigMaps are optional volumes: if one is missing, the init container says so, and a condition reports it.

    Args:
        pod: a pod's spec.
        bundles: keys of ConfigMaps in its namespace.
        names: its containers and init containers that are to trust them.
        image: image with python3, for the init container.
        pull_policy: of that image.
    """
    found = {container["name"] for kind in ("initContainers", "containers") for container in pod.get(kind) or []}
    if not bundles or not found & set(names):
        return pod
    sources = [
        {"configMap": {"name": one.name, "items": [{"key": one.key, "path": f"{place}.crt"}], "optional": True}}
        for place, one in enumerate(bundles)
    ]
    volumes = [
        {"name": VOLUME, "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": BUNDLES, "projected": {"sources": sources}},
    ]
    return {
        **pod,
        "containers": [_trusting(container, names) for container in pod["containers"]],
        "initContainers": [
            _adder(bundles, image, pull_policy),
            *(_trusting(container, names) for container in pod.get("initContainers") or []),
        ],
        "volumes": [*pod["volumes"], *volumes],
    }


def _trusting(container: JSON, names: Sequence[str]) -> JSON:
    if container["name"] not in names:
        return container
    return {
        **container,
        "env": [*container.get("env", []), *({"name": name, "value": FILE} for name in CA_VARIABLES)],
        "volumeMounts": [*container["volumeMounts"], {"name": VOLUME, "mountPath": FOLDER, "readOnly": True}],
    }


def _adder(bundles: Sequence[ConfigMapKeyReference], image: str, pull_policy: str | None) -> JSON:
    words = [FILE]
    for place, one in enumerate(bundles):
        words += [f"key {one.key!r} of ConfigMap {one.name!r}", f"{BUNDLES_FOLDER}/{place}.crt"]
    return {
        "name": CONTAINER,
        "image": image,
        **({"imagePullPolicy": pull_policy} if pull_policy else {}),
        "command": ["python3", "-c", _source()],
        "args": words,
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": VOLUME, "mountPath": FOLDER},
            {"name": BUNDLES, "mountPath": BUNDLES_FOLDER, "readOnly": True},
        ],
    }
