"""Labels and annotations of an object that are handed on to what is made for it, by a list of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from llm_operator.api.overlay_owned import PREFIX, RECOMMENDED

CLIENTS = "kubectl.kubernetes.io/"
"""Of a client's own annotations, which speak of one object."""
Pairs = Mapping[str, str]
NOTHING: Pairs = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Propagation:
    """Names of what is handed on; one that ends with `*` is a prefix.

    Attributes:
        labels: names of labels.
        annotations: names of annotations.
    """

    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything can be handed on."""
        return bool(self.labels or self.annotations)

    def to_json(self) -> dict[str, list[str]]:
        """Its text on a pod template: later changes of the list restart no pods."""
        return {"labels": list(self.labels), "annotations": list(self.annotations)}

    def keeps(self, annotation: str) -> bool:
        """Whether an annotation is one of those named."""
        return _is_named(annotation, self.annotations)

    def of(self, labels: Pairs, annotations: Pairs) -> Carried:
        """What of an object's own is handed on; what the operator sets itself never is."""
        return Carried(
            {key: value for key, value in labels.items() if key not in RECOMMENDED and _is_named(key, self.labels)},
            {key: value for key, value in annotations.items() if _is_named(key, self.annotations)},
        )


@dataclass(frozen=True, slots=True)
class Carried:
    """Labels and annotations that are handed on."""

    labels: Pairs = field(default_factory=lambda: NOTHING)
    annotations: Pairs = field(default_factory=lambda: NOTHING)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.labels or self.annotations)


NO_PROPAGATION = Propagation()
NOTHING_CARRIED = Carried()


def _is_named(key: str, names: tuple[str, ...]) -> bool:
    if key.startswith((PREFIX, CLIENTS)):
        return False
    return any(key == name or (name.endswith("*") and key.startswith(name[:-1])) for name in names)
