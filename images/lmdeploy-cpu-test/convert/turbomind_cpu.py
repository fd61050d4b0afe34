"""Stands in for `_turbomind`, the compiled library of LMDeploy 0.9.2.post1, on a machine without a GPU. For tests.

It gets what the library gets, the folder of a workspace's weights and its configuration, and nothing else: what it
answers with was read back from the files that `lmdeploy convert` wrote (workspace.py). The computing is done by
transformers, one request at a time; so it proves what lies in the workspace and who loads it, and nothing of tensor
parallelism, KV caches or speed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM
from workspace import Workspace

FAMILIES = {"LlamaForCausalLM": (LlamaConfig, LlamaForCausalLM), "Qwen2ForCausalLM": (Qwen2Config, Qwen2ForCausalLM)}
RUNNING, FAILED, FINISHED, CANCELLED = 0, 3, 7, 8
"""Words of the library that lmdeploy/turbomind/turbomind.py reads."""

TensorMap = dict
SessionParam = SimpleNamespace
DataType = SimpleNamespace(TYPE_UINT32=object(), TYPE_INT32=object())


def from_dlpack(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


class GenerationConfig:
    """What a request asks for; the server sets what it knows."""

    max_new_tokens: int
    top_k = 1
    temperature = 1.0
    stop_ids: Sequence[Sequence[int]] = ((), ())
    """Tokens that end the answer, and offsets of words, each of which is one token here."""


def load(folder: Path, config: Mapping[str, Any]) -> PreTrainedModel:
    """transformers' model with the weights of a workspace."""
    told = config["model_config"]
    rope = config["attention_config"]["rope_param"]
    made, model = FAMILIES[told["model_arch"]]
    empty: PreTrainedModel = model(
        made(
            vocab_size=told["vocab_size"],
            hidden_size=told["hidden_units"],
            intermediate_size=told["inter_size"][0],
            num_hidden_layers=told["num_layer"],
            num_attention_heads=told["head_num"],
            num_key_value_heads=told["kv_head_num"],
            rms_norm_eps=told["norm_eps"],
            rope_parameters={"rope_type": rope["type"], "rope_theta": rope["base"]},
            max_position_embeddings=config["attention_config"]["max_position_embeddings"],
            tie_word_embeddings=False,
        )
    )
    empty.load_state_dict(Workspace(folder, told).state())
    return empty.float().eval()


class AbstractTransformerModel:
    """The engine of all GPUs."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.lock = threading.Lock()

    @staticmethod
    def create_llama_model(model_dir: str, config: str, weight_type: str) -> AbstractTransformerModel:
        return AbstractTransformerModel(load(Path(model_dir), yaml.safe_load(config)))

    def create_shared_weights(self, device: int, rank: int) -> None: ...

    def process_weight(self, device: int, rank: int) -> None: ...

    def create_engine(self, device: int, rank: int) -> None: ...

    def create_model_instance(self, device: int) -> ModelRequest:
        return ModelRequest(self)


class SharedState:
    """How far a request is, for the server's loop, which asks whenever it is told that there is news."""

    def __init__(self, length: int) -> None:
        self._now = SimpleNamespace(status=RUNNING, seq_len=length)

    def set(self, status: int, length: int) -> None:
        self._now = SimpleNamespace(status=status, seq_len=length)

    def consume(self) -> SimpleNamespace:
        return self._now


class ModelRequest:
    """A place for one request."""

    def __init__(self, engine: AbstractTransformerModel) -> None:
        self._engine = engine
        self._stop = threading.Event()

    def cancel(self) -> None:
        self._stop.set()

    def end(self, callback: Callable[[int], None], session: int) -> None:
        callback(0)

    def forward(
        self,
        inputs: Mapping[str, torch.Tensor],
        session: SimpleNamespace,
        config: GenerationConfig,
        stream: bool,
        signal: Callable[[], None],
    ) -> tuple[dict[str, torch.Tensor], SharedState]:
        """Begin to answer; tokens appear behind the prompt, and `signal` says so."""
        if not session.start or session.step:
            raise NotImplementedError("a session is one request here")
        prompt = inputs["input_ids"]
        tokens = torch.cat([prompt, torch.zeros(config.max_new_tokens, dtype=prompt.dtype)])
        state = SharedState(len(prompt))
        self._stop = stop = threading.Event()

        def told(status: int, length: int) -> None:
            state.set(status, length)
            signal()

        def work() -> None:
            length, end = len(prompt), FAILED
            try:
                with self._engine.lock, torch.inference_mode():
                    for now in self._generate(tokens, length, config, stop):
                        told(RUNNING, length := now)
                end = CANCELLED if stop.is_set() else FINISHED
            finally:
                told(end, length)

        threading.Thread(target=work, daemon=True, name="generate").start()
        return {"output_ids": tokens}, state

    def _generate(
        self, tokens: torch.Tensor, length: int, config: GenerationConfig, stop: threading.Event
    ) -> Iterator[int]:
        """Write token after token behind the first `length`; how many there are then."""
        ends, inputs, past = set(config.stop_ids[0]), tokens[:length], None
        while length < len(tokens) and not stop.is_set():
            output = self._engine.model(input_ids=inputs[None].long(), past_key_values=past, use_cache=True)
            tokens[length] = _next_token(output.logits[0, -1], config)
            inputs, past = tokens[length : length + 1], output.past_key_values
            length += 1
            yield length
            if int(inputs) in ends:
                return


def _next_token(logits: torch.Tensor, config: GenerationConfig) -> int:
    """Greedy with top_k 1, else a sample at the request's temperature."""
    if config.top_k == 1:
        return int(logits.argmax())
    return int(torch.multinomial(torch.softmax(logits / max(config.temperature, 1e-3), -1), 1))
