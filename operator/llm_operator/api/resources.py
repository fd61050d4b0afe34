"""CPU, memory and ephemeral storage of a container, as in a pod."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from llm_operator.api.base import ApiModel, Quantity, Rule, without_nulls
from llm_operator.api.quantity import parse_quantity

ContainerResource = Literal["cpu", "memory", "ephemeral-storage"]
ResourceMap = Annotated[dict[ContainerResource, Quantity], Field(max_length=3), BeforeValidator(without_nulls)]


def _within(requests: dict[str, str] | None, limits: dict[str, str] | None) -> bool:
    limit = {name: parse_quantity(text) for name, text in (limits or {}).items()}
    return all(name not in limit or parse_quantity(text) <= limit[name] for name, text in (requests or {}).items())


class Resources(ApiModel):
    """CPU, memory and ephemeral storage of the engine's container. GPUs come from parallelism."""

    RULES = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)"
            " || quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)",
            "requests must not exceed limits",
            lambda resources: _within(resources.requests, resources.limits),
            ".requests",
        ),
    )

    requests: ResourceMap | None = Field(default=None, description="Guaranteed amounts, such as cpu and memory.")
    limits: ResourceMap | None = Field(
        default=None, description="Upper bounds, such as memory. parallelism.tensor has the GPUs."
    )
