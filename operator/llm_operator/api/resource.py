"""The whole object: what an author or the API server hands us, parsed with all errors reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from llm_operator.api.base import WHOLE, ApiModel, Name, Rule, without_nulls
from llm_operator.api.names import ANNOTATION_RESTARTED, API_VERSION, KIND
from llm_operator.api.propagation import NO_PROPAGATION, NOTHING_CARRIED, Carried, Propagation
from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.api.status import LLMDeploymentStatus

MAX_NAME_LENGTH = 52
"""Characters of metadata.name: children's names add a suffix, and a Service's name is a DNS label of at most 63."""
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"

NAME_RULE = Rule(
    f"size(self.metadata.name) <= {MAX_NAME_LENGTH} && self.metadata.name.matches('{NAME_PATTERN}')",
    f"metadata.name must have at most {MAX_NAME_LENGTH} characters (lowercase letters, digits and '-'), start with a "
    "letter and end with a letter or digit: the Service is named after it",
    lambda name: len(name) <= MAX_NAME_LENGTH and re.fullmatch(NAME_PATTERN, name) is not None,
    ".metadata.name",
)
"""In CEL over the whole object, because only its root sees metadata; in Python over the name itself."""


class Metadata(ApiModel):
    """The part of the object's metadata that the operator needs."""

    name: Annotated[Name, NAME_RULE]
    namespace: Annotated[str, Field(min_length=1, max_length=63)] = "default"
    uid: Annotated[str, Field(max_length=64)] = ""
    """Empty for an object that no API server has seen."""
    generation: Annotated[int, Field(ge=0), WHOLE] = 0
    """0 for an object that no API server has seen."""
    annotations: Annotated[dict[str, str], BeforeValidator(without_nulls)] = Field(default_factory=dict)
    labels: Annotated[dict[str, str], BeforeValidator(without_nulls)] = Field(default_factory=dict)

    @property
    def restarted_at(self) -> str | None:
        """When new pods were requested, as it was written; None: never."""
        return self.annotations.get(ANNOTATION_RESTARTED)


class InvalidResource(Exception):  # noqa: N818 - says what the object is, as Invalid does in the API
    """An object that is not a valid LLMDeployment.

    Attributes:
        errors: (field, message) of every error found, such as ("spec.engine.env[0].name", "Field required").
    """

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors))


class LLMDeployment(ApiModel):
    """An LLMDeployment with the part of its metadata that the operator needs."""

    metadata: Metadata
    spec: LLMDeploymentSpec
    status: LLMDeploymentStatus | None = None
    propagation: Propagation = Field(default=NO_PROPAGATION, exclude=True)
    """What of its labels and annotations is handed on: a setting of the operator, not of the object."""

    def handing_on(self, propagation: Propagation) -> Self:
        """The object with what is handed on by another list."""
        return self if propagation == self.propagation else self.model_copy(update={"propagation": propagation})

    def without_status(self) -> Self:
        """The object as its user wrote it."""
        return self if self.status is None else self.model_copy(update={"status": None})

    @property
    def carried(self) -> Carried:
        """Its labels and annotations that are handed on to what is made for it."""
        if not self.propagation:
            return NOTHING_CARRIED
        return self.propagation.of(self.metadata.labels, self.metadata.annotations)

    @classmethod
    def parse(cls, document: Any) -> Self:
        """The object from its JSON form, judged as the API server judges it.

        A status that does not fit reads as absent: it is the operator's own to write, and one left by another version
        of the operator must not keep the object from being served.

        Raises:
            InvalidResource: the object breaks its schema or a rule; all errors are reported.
        """
        if not isinstance(document, Mapping):
            raise InvalidResource([("", f"expected a mapping, got {type(document).__name__}")])
        errors = [
            (field, f"expected {expected!r}, got {document.get(field)!r}")
            for field, expected in (("apiVersion", API_VERSION), ("kind", KIND))
            if document.get(field) != expected
        ]
        parts: dict[str, Any] = {}
        for field, model in (("metadata", Metadata), ("spec", LLMDeploymentSpec)):
            try:
                parts[field] = model.model_validate(document.get(field) or {}, by_alias=True, by_name=False)
            except ValidationError as error:
                errors += [(_field_path(field, line["loc"]), _message(line)) for line in error.errors()]
        if errors:
            raise InvalidResource(errors)
        return cls(**parts, status=_status(document.get("status")))


def _status(document: Any) -> LLMDeploymentStatus | None:
    try:
        return LLMDeploymentStatus.model_validate(document, by_alias=True, by_name=False)
    except ValidationError:
        return None


def _field_path(root: str, location: tuple[int | str, ...]) -> str:
    """`spec.engine.env[0].name`, as the API server writes it."""
    path = root
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else "" if part == "[key]" else f".{part}"
    return path


def _message(line: ErrorDetails) -> str:
    """What is wrong, and for a scalar what was given."""
    given = line["input"]
    # Pydantic names its own class, which the manifest does not contain.
    message = "Input should be an object" if line["type"] in ("model_type", "dict_type") else line["msg"]
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
    return f"{message}{shown[:200]}"
