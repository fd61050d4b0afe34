"""The log around the lines that decide: what an engine prints before a death, and tracebacks that hide the cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Frame = Literal["", "core", "worker", "api", "first-engine", "first-workers", "serving"]
"""Which process of vLLM tells the cause: its engine core, a worker of it, its API server, its first engine and the
workers of that, or the core while it serves; none: the lines are all that there is."""

_LEVEL = re.compile(r"(?:INFO|WARNING|ERROR) \d")
_BEGINNING = (
    "(APIServer pid=1) INFO 05-02 23:41:10 [utils.py:293] non-default args: {'trust_remote_code': True}",
    "(EngineCore pid=51) INFO 05-02 23:41:12 [core.py:116] Initializing a V1 LLM engine (v0.26.0) with config: "
    "model='/models/x', speculative_config=None, trust_remote_code=True, dtype=torch.bfloat16, quantization=None",
)
_NO_CORE = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
_NO_WORKER = (
    "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root "
    "cause."
)
_NO_ENGINE = "RuntimeError: Engine process failed to start. See stack trace for the root cause."
_DEAD = (
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root "
    "cause."
)


def framed(frame: Frame, lines: Iterable[str]) -> str:
    """The lines in the log of a vLLM that died, as long as it is."""
    api, core = "(APIServer pid=1) ", "(EngineCore pid=51) "
    match frame:
        case "core":
            error = f"{core}ERROR 05-02 23:41:24 [core.py:1136] "
            told = [f"{error}EngineCore failed to start.", *_trace(error, 6), *_said(error, core, lines)]
            log = [*_BEGINNING, *told, f"{core}Process EngineCore:", *_trace(core, 6), *_said(core, core, lines)]
            log += [*_trace(api, 12), api + _NO_CORE]
        case "worker":
            worker = "(Worker_TP1 pid=60) "
            error = f"{worker}ERROR 05-02 23:41:24 [multiproc_executor.py:962] "
            again = f"{core}ERROR 05-02 23:41:24 [core.py:1136] "
            told = [f"{error}WorkerProc failed to start.", *_trace(error, 6), *_said(error, worker, lines)]
            log = [*_BEGINNING, *told, f"{again}EngineCore failed to start.", *_trace(again, 5), again + _NO_WORKER]
            log += [*_trace(api, 12), api + _NO_CORE]
        case "api":
            log = [*_BEGINNING, *_trace(api, 8), *_said(api, api, lines)]
        case "first-workers":
            error = "(VllmWorkerProcess pid=60) ERROR 02-23 18:00:53 multiproc_worker_utils.py:242] "
            log = [*_trace(error, 6), *_said(error, "", lines), _NO_ENGINE]
        case "first-engine":
            error = "ERROR 02-23 18:00:53 engine.py:400] "
            log = [*_trace(error, 6), *_said(error, "", lines), *_trace("", 6), _NO_ENGINE]
        case "serving":
            error, out = "ERROR 06-26 00:04:52 [core.py:517] ", "ERROR 06-26 00:04:52 [async_llm.py:420] "
            log = ["INFO:     Application startup complete.", f"{error}EngineCore encountered a fatal error."]
            log += [*_trace(error, 6), *_said(error, "", lines), *_trace(out, 4), out + _DEAD]
            log += ["INFO:     Shutting down", "INFO:     Application shutdown complete."]
        case _:
            log = list(lines)
    return "\n".join(log)


def _trace(prefix: str, depth: int) -> list[str]:
    frames = [
        (
            f'{prefix}  File "/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/part.py", line {place}, in call',
            f'{prefix}    raise RuntimeError(f"CUDA out of memory: {{error}}")',
            f"{prefix}          ^^^^^^^^^^^^^^^^^^^",
        )
        for place in range(100, 100 + depth)
    ]
    return [f"{prefix}Traceback (most recent call last):", *(line for frame in frames for line in frame)]


def _said(prefix: str, process: str, lines: Iterable[str]) -> list[str]:
    """A line with a level has its own prefix but for the process that prints it."""
    return [(process if _LEVEL.match(line) else prefix) + line for line in lines]
