"""LLMDeployments as a user writes them, for tests of every kind."""

from typing import Any

from llm_operator.api import API_VERSION, KIND

JSON = dict[str, Any]


def llm(name: str, **spec: Any) -> JSON:
    """An object whose model is on a hub that cannot be reached, so that nothing is planned.

    Fields of the spec, by their JSON names, replace the defaults here.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {
            "model": {"huggingFace": {"repository": "tiny/model"}},
            "engine": {"type": "VLLM"},
            **spec,
        },
    }
