"""The table of engines: one row for each folder."""

from __future__ import annotations

from llm_operator.engines.interface import Engine
from llm_operator.engines.lmdeploy import LMDeploy
from llm_operator.engines.vllm import VLLM

QUANTIZER: Engine = LMDeploy()
"""The engine whose image quantizes and converts weights (modeltools/quantize.py, modeltools/convert.py)."""
ENGINES: dict[str, Engine] = {engine.name: engine for engine in (VLLM(), QUANTIZER)}
"""By name, as in spec.engine.type. Only a test's fake is added at run time."""


class UnknownEngineError(ValueError):
    """No row of the table has this name."""


def engine_of(name: str) -> Engine:
    """Return the engine of that name.

    Raises:
        UnknownEngineError: there is none; nothing is planned or rendered as if it were another one.
    """
    found = ENGINES.get(name)
    if found is None:
        raise UnknownEngineError(f"engine {name!r} is not known; expected {' or '.join(ENGINES)}")
    return found


def known_versions(engine: str) -> tuple[str, ...]:
    """Versions of an engine whose parser was measured, oldest first."""
    return engine_of(engine).options.versions


def newest_version(engine: str) -> str:
    """The version that a spec without one gets."""
    return engine_of(engine).options.newest
