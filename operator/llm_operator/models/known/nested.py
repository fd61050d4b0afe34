"""What published files leave out of nested configs: transformers writes there only what differs from its defaults.

data/nested_defaults.json holds those defaults as the config classes of transformers 5.20.2 have them; nothing writes it
anew, and tests/engines/test_parameters.py fails where a default that its small models leave out is another one.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import cast

from llm_operator.models.fields import Fields, Json, load_json, with_synonyms


@cache
def _defaults() -> dict[str, Json]:
    content = (files("llm_operator.models") / "data" / "nested_defaults.json").read_bytes()
    return load_json(content, "nested_defaults.json")


def _table(name: str) -> dict[str, dict[str, Json]]:
    return cast("dict[str, dict[str, Json]]", _defaults()[name])


def nested(parent: Fields, *names: str, kind: str = "") -> Fields:
    """Return the first of the named nested configs with defaults filled in; its `model_type` says whose.

    kind: the model_type where the file names none. Raises MissingFieldError if none of them is there.
    """
    name = next((name for name in names if parent.values.get(name) is not None), names[0])
    values = parent.nested(name).values
    own = Fields(values, parent.architecture).string("model_type", "")
    of_parent = _table("nested").get(parent.string("model_type", ""), {}).get(name, "")
    known = _table("defaults")
    chosen = own if own in known else str(of_parent) or kind
    # A null is kept: it says that there is none, such as no window, instead of the default.
    filled = {**known.get(chosen, {}), **values}
    filled["model_type"] = filled.get("model_type") or chosen
    return Fields(with_synonyms(filled), parent.architecture)
