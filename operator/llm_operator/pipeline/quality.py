"""Recipe and quality of a quantized model, as its Job reported them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.pipeline.result import Result

_QUALITY = ("perplexityOriginal", "perplexityQuantized", "perplexityIncreasePercent", "agreementPercent")


def quality_warning(quality: Mapping[str, object]) -> str | None:
    """What is wrong with a quantization's quality; None if nothing is, or it was not to be measured."""
    if quality.get("exceeded") is True:
        increase = quality.get("perplexityIncreasePercent")
        return f"the perplexity rose by {increase} %, more than weightQuantization.quality allows"
    error = quality.get("error")
    return f"the quality could not be measured: {error}"[:1024] if isinstance(error, str) else None


def quantization_status_of(result: Result) -> Mapping[str, str | int]:
    """status.quantization from the Job's result."""
    quality = result.more.get("quality")
    told = quality if isinstance(quality, dict) else {}
    numbers = {name: told[name] for name in _QUALITY if isinstance(told.get(name), str | int)}
    warning = quality_warning(told)
    if warning is not None:
        numbers["warning"] = warning
    recipe, version = result.more.get("recipe"), result.more.get("toolVersion")
    words = ", ".join(f"{key} {value}" for key, value in recipe.items()) if isinstance(recipe, dict) else str(recipe)
    return {"recipe": words[:1024], **({"toolVersion": version} if isinstance(version, str) else {}), **numbers}
