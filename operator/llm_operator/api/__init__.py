"""The LLMDeployment resource as types, and the CRD made from them. Imports nothing else of this project."""

from llm_operator.api.model import EngineSpec, EngineType, ModelSpec
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import Condition, LLMDeploymentStatus

GROUP = "llm-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"
SINGULAR = "llmdeployment"
SHORT_NAMES = ["llmdep"]
CATEGORIES = ["llm"]

__all__ = [
    "API_VERSION",
    "CATEGORIES",
    "GROUP",
    "KIND",
    "PLURAL",
    "SHORT_NAMES",
    "SINGULAR",
    "VERSION",
    "Condition",
    "EngineSpec",
    "EngineType",
    "LLMDeploymentSpec",
    "LLMDeploymentStatus",
    "ModelSpec",
]
