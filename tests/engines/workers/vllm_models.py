"""vLLM's own models, made small on the CPU: their parameters and what their layers say they keep.

    python vllm_models.py < CONFIGS

Reads one config.json a line, prints one JSON line for each: {"parameters", "kept"} of the decoder, or {"error"}. kept:
[class of the spec, bytes of a page, tokens of a block, window] for each layer, with the bytes of one sequence for a
state. Needs no GPU: layers are made with the CPU's backends, whose sizes are the same.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import json
import math
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
REPLIES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch  # noqa: E402
import transformers  # noqa: E402
from vllm import platforms  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402

platforms._current_platform = CpuPlatform()

from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.distributed import init_distributed_environment, initialize_model_parallel  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.layers.fused_moe.modular_kernel import FusedMoEExperts  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.model_executor.models import registry  # noqa: E402
from vllm.transformers_utils.config import _CONFIG_REGISTRY  # noqa: E402
from vllm.v1.attention.backends import cpu_attn  # noqa: E402


class _Anything(type):
    """A class that has every attribute, so that code for a GPU can be imported, and not run."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Anything):
    """A stream, an event, a kernel's decorator: what layers are made with and a CPU has not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Decorate nothing."""
        return args[0] if args else None


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports packages that this environment lacks: of images, and of kernels for GPUs."""

    packages = ("cutlass", "cuda", "torchvision")

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Claim the packages and what is in them."""
        if name.partition(".")[0] not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> Any:
        """Return a module that has everything."""
        made = types.ModuleType(spec.name)
        made.__getattr__ = lambda name: _Anything.__getattr__(_Nothing, name)  # type: ignore[method-assign]
        return made

    def exec_module(self, module: Any) -> None:
        """Run nothing."""


torch.cuda.Stream = _Nothing
torch.cuda.Event = _Nothing
sys.meta_path.append(_Absent())
BEFORE = cpu_attn.CPUAttentionBackendImpl.__init__


def _attention(self: Any, *args: Any, chunk_lookback: int = -1, use_alibi_sqrt: bool = False, **kwargs: Any) -> None:
    """Make the CPU's attention, without what only Triton's kernels do."""
    BEFORE(self, *args, **kwargs)


cpu_attn.CPUAttentionBackendImpl.__init__ = _attention
cpu_attn.CPUAttentionBackend.supports_alibi_sqrt = classmethod(lambda cls: True)
# Nothing runs, so that the CPU's experts need no code for an activation.
FusedMoEExperts.is_supported_config = staticmethod(lambda *args: (True, None))
# It looks at each class in a process of its own, so that this one leaves CUDA alone, which is not here.
registry._run_in_subprocess = lambda look: look()


def known(config: dict[str, Any]) -> None:
    """Let transformers read a config whose class its repository brings along."""
    model_type = config["model_type"]
    if config.pop("auto_map", None) is None and (
        model_type in transformers.CONFIG_MAPPING or model_type in _CONFIG_REGISTRY
    ):
        return
    made = type("Config", (transformers.PretrainedConfig,), {"model_type": model_type})
    transformers.AutoConfig.register(model_type, made, exist_ok=True)


@contextlib.contextmanager
def narrow() -> Iterator[None]:
    """Make tensors of 16 bit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def described(spec: Any) -> list[Any]:
    """Return the class of a spec, its bytes, and tokens and window, or None for a state."""
    shapes = getattr(spec, "shapes", None)
    if shapes is None:
        return [type(spec).__name__, spec.page_size_bytes, spec.block_size, getattr(spec, "sliding_window", None)]
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, spec.dtypes, strict=True))
    return [type(spec).__name__, size, None, None]


def built(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what vLLM makes of one config."""
    known(config)
    (folder / "config.json").write_text(json.dumps(config))
    arguments = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        dtype="bfloat16",
        enable_prefix_caching=False,
        max_model_len=config.get("max_position_embeddings", 4096),
    )
    made = arguments.create_engine_config()
    with set_current_vllm_config(made):
        if not torch.distributed.is_initialized():
            init_distributed_environment(1, 0, f"file://{folder}/rendezvous", 0, "gloo")
            initialize_model_parallel(1, 1)
        with narrow():
            model = initialize_model(made)
        kept = []
        for layer in made.compilation_config.static_forward_context.values():
            spec = layer.get_kv_cache_spec(made) if hasattr(layer, "get_kv_cache_spec") else None
            if spec is not None:
                kept.append(described(spec))
    if os.environ.get("SHOW"):
        for name, parameter in model.named_parameters():
            print(name, tuple(parameter.shape), file=sys.stderr)
    decoder = getattr(model, "language_model", model)
    return {"parameters": sum(parameter.numel() for parameter in decoder.parameters()), "kept": kept}


def main() -> None:
    """Answer every line."""
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            try:
                answer = built(json.loads(line), Path(folder))
            except Exception as error:
                if os.environ.get("SHOW"):
                    raise
                answer = {"error": repr(error)[:500]}
        print(json.dumps(answer), file=REPLIES, flush=True)


if __name__ == "__main__":
    main()
