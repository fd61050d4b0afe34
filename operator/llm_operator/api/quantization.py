"""`spec.weightQuantization`: what is done to the weights before they are served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llm_operator.api.base import WHOLE, ApiModel, ConfigMapKeyReference, Rule
from llm_operator.api.model import ClaimSource, Directory, ImageReference, given_members
from llm_operator.api.resources import Resources

Method = Literal["AWQ"]
CalibrationDataset = Literal[
    "WikiText2", "C4", "PileVal", "GSM8K", "NeuralMagicCalibration", "OpenPlatypus", "OpenWebText", "Text", "None"
]
"""LMDeploy's closed list since 0.12.0 (lmdeploy/lite/utils/calib_dataloader.py), the user's own text, and no data."""
QualityPolicy = Literal["Warn", "Block"]


class TextFile(ClaimSource):
    """A file on a PersistentVolumeClaim of the same namespace, mounted read-only."""

    path: Directory = Field(default="", description="File inside the claim that holds the text.")


class CalibrationText(ApiModel):
    """Where calibration text comes from: plain text, or JSON lines with a field `text`."""

    RULES = (
        Rule(
            "has(self.configMap) != has(self.persistentVolumeClaim)",
            "exactly one of configMap and persistentVolumeClaim must be given",
            lambda text: given_members(text.config_map, text.persistent_volume_claim) == 1,
        ),
    )

    config_map: ConfigMapKeyReference | None = Field(default=None, description="Text in a ConfigMap.")
    persistent_volume_claim: TextFile | None = Field(
        default=None, description="Text in a file on a volume; path names the file."
    )


class Calibration(ApiModel):
    """The text that the quantizer measures activations with."""

    RULES = (
        Rule(
            "!has(self.text) || (has(self.dataset) && self.dataset == 'Text')",
            "text needs dataset: Text",
            lambda calibration: calibration.text is None or calibration.dataset == "Text",
            ".text",
        ),
    )

    dataset: CalibrationDataset = Field(
        default="WikiText2",
        description="Data set from the hub. Text: own text, offline. None: no data, a quicker and coarser result.",
    )
    text: CalibrationText | None = Field(
        default=None, description="The text, with dataset Text. Default: the one shipped with the operator."
    )
    samples: Annotated[int, Field(ge=1, le=4096), WHOLE] = Field(default=128, description="Number of samples.")
    sequence_length: Annotated[int, Field(ge=64, le=32_768), WHOLE] = Field(
        default=2048, description="Tokens of one sample."
    )
    batch_size: Annotated[int, Field(ge=1, le=64), WHOLE] = Field(default=1, description="Samples in one batch.")
    search_scale: bool = Field(
        default=False, description="Search for the best scaling ratio of each layer: slower, often better."
    )


class Quality(ApiModel):
    """How much worse the quantized model may be, measured on a small text that calibration has not seen."""

    RULES = (
        Rule(
            "!has(self.maxPerplexityIncreasePercent) || !has(self.evaluate) || self.evaluate",
            "maxPerplexityIncreasePercent needs evaluate: true",
            lambda quality: quality.max_perplexity_increase_percent is None or quality.evaluate,
            ".maxPerplexityIncreasePercent",
        ),
    )

    evaluate: bool = Field(default=True, description="Measure perplexity and agreement, and report them in status.")
    max_perplexity_increase_percent: Annotated[int, Field(ge=0, le=1000), WHOLE] | None = Field(
        default=None, description="Maximum increase of the perplexity, in percent. Default: no limit."
    )
    policy: QualityPolicy = Field(
        default="Warn",
        description="If the limit is exceeded: Warn reports it and serves the result, Block does not serve it.",
    )


class WeightQuantization(ApiModel):
    """A recipe; its result is kept in the cache and shared by every object with the same model and recipe."""

    RULES = (
        Rule(
            "!has(self.bits) || self.bits == 4",
            "AWQ has 4 bits: remove bits, or set it to 4",
            lambda recipe: recipe.bits == 4,
            ".bits",
        ),
        Rule(
            "!has(self.groupSize) || self.groupSize in [32, 64, 128]",
            "AWQ kernels have groups of 32, 64 or 128 weights: use 128",
            lambda recipe: recipe.group_size in (32, 64, 128),
            ".groupSize",
        ),
    )

    method: Method = Field(default="AWQ", description="AWQ: 4-bit weights, 16-bit activations (lmdeploy lite).")
    # Not WHOLE: rules that compare a number refuse 4.0 (kube-apiserver 1.36.4: "invalid data, expected int").
    bits: Annotated[int, Field(ge=1, le=16)] = Field(default=4, description="Bits of one weight.")
    group_size: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=128, description="Weights that share a scale. LMDeploy serves 128 only."
    )
    calibration: Calibration = Field(default_factory=Calibration, description="The calibration text.")
    quality: Quality = Field(default_factory=Quality, description="The quality gate.")
    image: ImageReference | None = Field(
        default=None, description="Image with `lmdeploy lite` and datasets. Default: the operator's setting."
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="CPU and memory of the Job. Default: a request of the memory that it needs.",
    )
