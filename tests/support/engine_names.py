"""Names of the engines and of LMDeploy's backends, spelled as in the resource, for tests that write them down."""

from enum import StrEnum


class Engine(StrEnum):
    """An engine of the table (llm_operator/engines/registry.py)."""

    LMDEPLOY = "LMDeploy"
    VLLM = "VLLM"


class Backend(StrEnum):
    """A backend of LMDeploy."""

    TURBOMIND = "TurboMind"
    PYTORCH = "PyTorch"
