# ruff: noqa: E501 - lines of logs are quoted whole
"""What would decide, and stands in a setting, a prompt, a warning, an address or a line of source, decides nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_operator.engines.failures import GENERIC, diagnose, known_failure
from tests.unit.engines.test_deaths import CASES as DEATHS
from tests.unit.engines.test_healthy import SERVING, STARTING
from tests.unit.engines.test_kinds import KINDS

HERE = Path(__file__).parent
FIELD = [
    line for name in sorted(HERE.glob("field*.json")) for case in json.loads(name.read_text()) for line in case["lines"]
]
LINES = sorted({*(line for _, line, _ in DEATHS), *(row[2] for row in KINDS), *FIELD})
ENDED = GENERIC | {"EngineTerminated", "StartupHung"}
AT_A_TIME = 8
ENGINES = sorted(STARTING)

# {0} is the line, {1} the line in quotes as Python and JSON write it.
ECHOES = {
    "VLLM": (
        "(APIServer pid=1) INFO 11-24 16:04:03 [utils.py:253] non-default args: {{'model': {1}, 'port': 8000}}",
        "(EngineCore pid=51) INFO 05-02 23:41:12 [core.py:116] Initializing a V1 LLM engine (v0.26.0) with config: model={1}",
        "(APIServer pid=1) INFO 05-02 23:41:12 [logger.py:43] Received request cmpl-7: prompt: {1}, params: SamplingParams(n=1)",
        "(EngineCore pid=51) WARNING 05-02 23:41:12 [x.py:1] {0}",
        "(EngineCore pid=51) DEBUG 05-02 23:41:12 [x.py:1] {0}",
        "(EngineCore pid=51) ERROR 05-07 12:00:00 [dump_input.py:69] Dumping input data for V1 LLM engine: prompt={1}",
        "(EngineCore pid=51) ERROR 05-07 12:00:00 [core.py:9]     raise RuntimeError({1})",
    ),
    "LMDeploy": (
        "2026-11-23 20:05:41,950 - lmdeploy - INFO - async_engine.py:259 - input chat_template_config={1}",
        "2026-11-23 20:05:41,950 - lmdeploy - WARNING - x.py:1 - {0}",
        "[TM][WARNING] {0}",
        "[TM][INFO] {0}",
    ),
    "": (
        "Namespace(chat_template={1}, port=8000)",
        'INFO:     10.0.0.1:5 - "GET /v1/models?q={0} HTTP/1.1" 404 Not Found',
        "/usr/lib/python3.12/site-packages/x.py:7: UserWarning: {0}",
        "  warnings.warn({1})",
        "    raise RuntimeError({1})",
        '{{"prompt": {1}}}',
        "[W502 23:41:23.622182416 socket.cpp:464] {0}",
        "omega:53277:53277 [0] NCCL INFO {0}",
    ),
}


def echoed(engine: str, line: str) -> list[str]:
    flat = line.replace("\n", "\\n")
    return [form.format(flat, json.dumps(flat)) for form in (*ECHOES[engine], *ECHOES[""])]


@pytest.mark.parametrize("first", range(AT_A_TIME))
def test_an_echo_decides_nothing(first: int) -> None:
    for place, line in enumerate(LINES[first::AT_A_TIME]):
        engine = ENGINES[place % len(ENGINES)]
        log = "\n".join((*STARTING[engine][:3], *echoed(engine, line)))
        assert diagnose(engine, 137, None, log).reason in ENDED, line
        served = "\n".join((SERVING[0], *echoed(engine, line), *SERVING[-3:]))
        assert diagnose(engine, 1, None, served).reason in ENDED, line
        assert known_failure(engine, served) is None, line


def test_the_lines_decide_where_they_are_errors() -> None:
    """The test above could not fail otherwise."""
    deciding = [line for _, line, _ in DEATHS if known_failure("VLLM", line) or known_failure("LMDeploy", line)]
    assert len(deciding) > 100
