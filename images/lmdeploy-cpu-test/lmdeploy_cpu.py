"""LMDeploy 0.18.0's command line and API server, on a machine without a GPU. A stand-in for tests.

Real: argument parser, choice of the backend, engine configuration, HTTP routes, authentication, health, metrics, chat
template, tokenizer, and all of `lmdeploy lite`. Replaced: the engine object alone, by a loop over transformers on the
CPU, one request at a time. So it proves the command line and what clients see; it proves nothing of tensor
parallelism, KV cache sizes or KV cache quantization.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import lmdeploy.cli.serve as cli_serve
import lmdeploy.utils as lmdeploy_utils
import torch
from lmdeploy.cli import run
from lmdeploy.messages import (
    EngineEvent,
    EngineOutput,
    EventType,
    GenerationConfig,
    RequestMetrics,
    ResponseType,
    ScheduleMetrics,
)
from lmdeploy.serve.core import async_engine
from transformers import AutoModelForCausalLM

BATCH_SIZE = 8


def next_token(logits: torch.Tensor, config: GenerationConfig) -> int:
    """Greedy with top_k 1, else a sample at the request's temperature."""
    if config.top_k == 1:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / max(config.temperature, 1e-3), -1), 1))


class CpuEngine:
    """The model and one lock: a request runs to its end before the next begins."""

    def __init__(self, path: str, config: Any) -> None:
        self.engine_config = config
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.lock = threading.Lock()
        self.waiting = self.active = self.tick = 0

    def create_instance(self, cuda_stream_id: int = 0) -> CpuInstance:
        return CpuInstance(self)

    def generate(self, tokens: list[int], config: GenerationConfig, stop: threading.Event) -> Iterator[int]:
        """Tokens until an end token, the longest answer, or a cancellation."""
        ends = set(config.stop_token_ids or [])
        inputs, past = torch.tensor([tokens]), None
        for _ in range(config.max_new_tokens):
            if stop.is_set():
                return
            output = self.model(input_ids=inputs, past_key_values=past, use_cache=True)
            token = next_token(output.logits[0, -1].float(), config)
            inputs, past = torch.tensor([[token]]), output.past_key_values
            self.tick += 1
            yield token
            if token in ends and not config.ignore_eos:
                return

    def get_schedule_metrics(self) -> ScheduleMetrics:
        return ScheduleMetrics(
            active_seqs=self.active, waiting_seqs=self.waiting, cache_usage=0.0, scheduler_tick=self.tick
        )

    async def get_health_status(self) -> dict[str, Any]:
        return {"alive": True, "message": "ok", "schedule_metrics": self.get_schedule_metrics()}

    def end_session(self, session_id: int) -> bool:
        return True

    async def sleep(self, level: int = 1) -> None: ...

    def wakeup(self, tags: list[str] | None = None) -> None: ...

    def close(self) -> None: ...


class CpuInstance:
    """One request at a time, as LMDeploy's async engine asks for it."""

    def __init__(self, engine: CpuEngine) -> None:
        self._engine = engine
        self._stop = threading.Event()

    async def async_cancel(self, session_id: int) -> None:
        self._stop.set()

    async def async_end(self, session_id: int) -> None: ...

    async def async_stream_infer(
        self,
        session_id: int,
        input_ids: list[int],
        gen_config: GenerationConfig | None = None,
        **_: Any,
    ) -> AsyncIterator[EngineOutput]:
        """One output per token; the last token travels in the last output, where the reason to finish is read."""
        config = gen_config or GenerationConfig()
        queued = time.time()
        self._stop = stop = threading.Event()
        events = [EngineEvent(EventType.QUEUED, queued), EngineEvent(EventType.SCHEDULED, queued)]
        held: int | None = None
        async for token in self._tokens(input_ids, config, stop):
            if held is not None:
                yield EngineOutput(ResponseType.SUCCESS, [held], req_metrics=_metrics(events))
                events = []
            held = token
        kind = ResponseType.CANCEL if stop.is_set() else ResponseType.FINISH
        yield EngineOutput(kind, [] if held is None else [held], req_metrics=_metrics(events))

    async def _tokens(
        self, input_ids: list[int], config: GenerationConfig, stop: threading.Event
    ) -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        engine = self._engine
        engine.waiting += 1

        def work() -> None:
            with engine.lock, torch.inference_mode():
                engine.waiting -= 1
                engine.active += 1
                try:
                    for token in engine.generate(input_ids, config, stop):
                        loop.call_soon_threadsafe(tokens.put_nowait, token)
                finally:
                    engine.active -= 1
                    loop.call_soon_threadsafe(tokens.put_nowait, None)

        threading.Thread(target=work, daemon=True, name="generate").start()
        while (token := await tokens.get()) is not None:
            yield token


def _metrics(events: list[EngineEvent]) -> RequestMetrics:
    return RequestMetrics(token_timestamp=time.time(), engine_events=events)


def build_engine(self: object, model_path: str, backend_config: Any = None, **_: Any) -> CpuEngine:
    """In the place of both backends' builders."""
    return CpuEngine(model_path, backend_config)


def without_gpu(arguments: list[str]) -> list[str]:
    """A command line of `lmdeploy lite auto_awq` as a machine without a GPU needs it; any other one as it is."""
    if arguments[:2] != ["lite", "auto_awq"] or torch.cuda.is_available():
        return arguments
    words = list(arguments)
    if "--device" not in words:
        words += ["--device", "cpu"]
    # bfloat16 asks CUDA whether the card has it (lmdeploy/lite/utils/load.py); of two values the parser takes the last.
    return [*words, "--dtype", "float16"]


def main() -> int:
    """LMDeploy's own main, with the engine replaced."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    # The real function asks CUDA for the card's name.
    cli_serve.get_max_batch_size = lmdeploy_utils.get_max_batch_size = lambda device: BATCH_SIZE
    async_engine.AsyncEngine._build_pytorch = build_engine
    async_engine.AsyncEngine._build_turbomind = build_engine
    sys.argv = ["lmdeploy", *without_gpu(sys.argv[1:])]
    return int(run() or 0)


if __name__ == "__main__":
    sys.exit(main())
