"""The table of engines: one row for each folder."""

from __future__ import annotations

from llm_operator.engines.interface import Engine
from llm_operator.engines.lmdeploy import LMDeploy
from llm_operator.engines.vllm import VLLM

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (LMDeploy(), VLLM())}
"""By name, as in spec.engine.type. Nothing but the tests' fake adds to it at run time."""


class UnknownEngineError(ValueError):
    """No row of the table has this name."""


def engine_of(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        UnknownEngineError: there is none; nothing is planned or rendered for it as if it were another one.
    """
    found = ENGINES.get(name)
    if found is None:
        raise UnknownEngineError(f"engine {name!r} is not known; expected {' or '.join(ENGINES)}")
    return found
