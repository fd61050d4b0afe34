"""The LLMDeployment resource as types, and the CRD made from them. Imports nothing else of this project."""

from llm_operator.api.model import EngineSpec, EngineType, ModelSpec
from llm_operator.api.names import (
    API_VERSION,
    CATEGORIES,
    GROUP,
    KIND,
    PLURAL,
    SHORT_NAMES,
    SINGULAR,
    VERSION,
)
from llm_operator.api.resource import InvalidResource, LLMDeployment, Metadata
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import Condition, LLMDeploymentStatus

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
    "InvalidResource",
    "LLMDeployment",
    "LLMDeploymentSpec",
    "LLMDeploymentStatus",
    "Metadata",
    "ModelSpec",
]
