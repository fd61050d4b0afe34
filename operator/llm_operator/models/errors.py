"""What can be wrong with a model's description. Every error says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class ModelConfigError(ValueError):
    """A model's description cannot be used; the message is meant for the user."""


class InvalidModelConfigError(ModelConfigError):
    """config.json (or a weight file's header) is not readable: truncated, not JSON, wrong type or size."""


class MissingFieldError(InvalidModelConfigError):
    """Fields without which the shape is unknown are absent.

    fields: their names as config.json spells them.
    """

    def __init__(self, architecture: str, fields: Sequence[str]) -> None:
        self.architecture = architecture
        self.fields = tuple(fields)
        names = ", ".join(self.fields)
        super().__init__(f"config.json of a {architecture} lacks {names}: take the file of the model's own repository")


class UnknownModelError(ModelConfigError):
    """A well-formed description of a model whose memory this version cannot compute; nothing is guessed."""


class UnknownQuantizationError(UnknownModelError):
    """quantization_config has a method, a mixture or a list whose bytes this version cannot compute."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"quantization_config has {found}, whose bytes are unknown: no plan is made, and nothing is blocked"
        )


class UnknownArchitectureError(UnknownModelError):
    """The architecture is none that this version knows; nothing about its memory is guessed.

    architecture: what config.json says. Other architectures are not named: a similar name says nothing about layers.
    """

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        super().__init__(
            f"architecture {architecture} is unknown: its KV cache cannot be computed, so no plan is made, and nothing"
            " is blocked"
        )


class UnknownKindError(UnknownModelError):
    """An engine may serve it, but it is not a decoder that generates text: an embedding model, a draft.

    kind: what it is.
    """

    def __init__(self, kind: str, found: str) -> None:
        self.kind = kind
        super().__init__(
            f"this is {kind} ({found}), whose tokens cannot be counted: there is no plan, and nothing is blocked"
        )


class UnsupportedModelKindError(ModelConfigError):
    """The model is not a decoder that generates text: a diffusion pipeline, an encoder, an adapter.

    kind: what it is instead.
    """

    def __init__(self, kind: str, found: str) -> None:
        self.kind = kind
        super().__init__(
            f"this is {kind} ({found}), not a language model that generates text: only decoders are planned"
        )
