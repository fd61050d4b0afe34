"""What config.json and the weight files tell of a model: shape, parameters, bytes. Imports nothing else of ours.

Use: `parse_config(mapping) -> ModelShape` or `parse_config_text(text_or_bytes)`; both raise ModelConfigError
(InvalidModelConfigError, MissingFieldError, UnknownModelError, UnsupportedModelKindError). Weight files:
`read_index(text_or_bytes) -> WeightIndex`, `read_header(first_bytes) -> WeightHeader`, and
`contradiction(shape, stored_bytes)`: whether they hold the model that config.json describes.
"""

from llm_operator.models.checkpoint import completed, contradiction, expected_bytes, unknown_with_files
from llm_operator.models.config import QUANTIZATION_BESIDE, known_architectures, parse_config, parse_config_text
from llm_operator.models.errors import (
    InvalidModelConfigError,
    MissingFieldError,
    ModelConfigError,
    UnknownArchitectureError,
    UnknownKindError,
    UnknownModelError,
    UnknownQuantizationError,
    UnsupportedModelKindError,
)
from llm_operator.models.safetensors import (
    WeightHeader,
    WeightIndex,
    header_length,
    read_header,
    read_index,
    tensor_bytes,
)
from llm_operator.models.shape import (
    AttentionKind,
    AttentionLayers,
    CheckpointQuantization,
    CompressedLayers,
    Experts,
    ModelShape,
    Role,
    StateLayers,
    Tensor,
    Tower,
)

__all__ = [
    "QUANTIZATION_BESIDE",
    "AttentionKind",
    "AttentionLayers",
    "CheckpointQuantization",
    "CompressedLayers",
    "Experts",
    "InvalidModelConfigError",
    "MissingFieldError",
    "ModelConfigError",
    "ModelShape",
    "Role",
    "StateLayers",
    "Tensor",
    "Tower",
    "UnknownArchitectureError",
    "UnknownKindError",
    "UnknownModelError",
    "UnknownQuantizationError",
    "UnsupportedModelKindError",
    "WeightHeader",
    "WeightIndex",
    "completed",
    "contradiction",
    "expected_bytes",
    "header_length",
    "known_architectures",
    "parse_config",
    "parse_config_text",
    "read_header",
    "read_index",
    "tensor_bytes",
    "unknown_with_files",
]
