"""The hub's name, and what is said if it cannot be reached. hub_files.py reads it, in a separate process."""

from __future__ import annotations

from urllib.parse import urlsplit

from huggingface_hub import constants

from llm_operator.facts import Pending

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def host() -> str:
    """The hub's host name, with its port if it has one."""
    return urlsplit(constants.ENDPOINT).netloc or constants.ENDPOINT


def unreachable(said: str) -> Pending:
    """The hub did not answer, or not with what a hub says."""
    text = f"the hub {host()} cannot be reached: {said}; check the network, HTTPS_PROXY or HF_ENDPOINT"
    return Pending("HubUnreachable", text, failed=True)
