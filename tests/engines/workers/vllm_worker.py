"""vLLM's real `serve` parser and engine configuration on a machine without a GPU."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from serving import RefusedError, inexact, options, own_stdout, refusing, serve

REPLIES = own_stdout()
# Before vllm is imported: it looks for its platform once.
os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import vllm  # noqa: E402
from vllm import platforms  # noqa: E402
from vllm.platforms.cpu import CpuPlatform  # noqa: E402

# Releases before 0.32 recognise a CPU by the version of the distribution only (vllm/platforms/__init__.py).
platforms._current_platform = CpuPlatform()

from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

try:
    from vllm.entrypoints.common.cli_args import make_arg_parser, validate_parsed_serve_args
except ModuleNotFoundError:
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    except ModuleNotFoundError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args

ROOT = Path(vllm.__file__).parent
PARSER = FlexibleArgumentParser(prog="vllm")
SERVE = PARSER.add_subparsers(dest="subparser").add_parser("serve")
make_arg_parser(SERVE)


def _namespace(argv: Sequence[str]) -> Any:
    with refusing():
        try:
            namespace = PARSER.parse_args(["serve", *argv])
            validate_parsed_serve_args(namespace)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            if not type(error).__module__.startswith("vllm."):
                raise
            raise RefusedError(f"{type(error).__name__}: {error}") from error
    return namespace


def _type_name(action: Any) -> str:
    if action.nargs == 0:
        return "flag"
    kind = action.type
    # vLLM wraps the real type: optional_type(int) and union_dict_and_str close over it.
    for _ in range(4):
        if isinstance(kind, functools.partial):
            kind = kind.func
        elif getattr(kind, "__closure__", None):
            inner = [cell.cell_contents for cell in kind.__closure__ if callable(cell.cell_contents)]
            kind = inner[0] if inner else kind
            break
    name = getattr(kind, "__name__", "str")
    if name in ("int", "float", "str"):
        return str(name)
    if name == "loads":
        return "json"
    return "number" if name == "human_readable_int" else "other"


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """What the parser makes of argv, and the options in it that are abbreviations."""
    values = vars(_namespace(argv))
    plain = {key: value for key, value in values.items() if isinstance(value, (str, int, float, list, type(None)))}
    return {"values": plain, "inexact": inexact(SERVE, argv)}


def configure(argv: Sequence[str]) -> dict[str, Any]:
    """Build the real engine configuration; the model of argv must be a local directory."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415

    namespace = _namespace(argv)
    namespace.model = namespace.model_tag
    try:
        config = AsyncEngineArgs.from_cli_args(namespace).create_engine_config()
    except (AssertionError, TypeError, ValueError, RuntimeError, NotImplementedError, ImportError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    return {
        "tensor": config.parallel_config.tensor_parallel_size,
        "max_model_len": config.model_config.max_model_len,
        "kv_cache_dtype": str(config.cache_config.cache_dtype),
        "prefix_caching": bool(config.cache_config.enable_prefix_caching),
        "kv_cache_memory_bytes": config.cache_config.kv_cache_memory_bytes,
        "shutdown_timeout": getattr(config, "shutdown_timeout", None),
    }


def chat_template(argv: Sequence[str]) -> dict[str, str]:
    """What the server makes of --chat-template, before a model is there."""
    try:
        from vllm.renderers.chat_utils.chat_template import load_chat_template, validate_chat_template  # noqa: PLC0415
    except ModuleNotFoundError:
        from vllm.entrypoints.chat_utils import load_chat_template, validate_chat_template  # noqa: PLC0415

    try:
        validate_chat_template(argv[0])
        return {"text": load_chat_template(argv[0])}
    except Exception as error:
        if not isinstance(error, ValueError) and not type(error).__module__.startswith("vllm."):
            raise
        raise RefusedError(f"{type(error).__name__}: {error}") from error


def catalogue(argv: Sequence[str]) -> dict[str, list[str]]:
    """Names that options take without the parser checking them."""
    from vllm.config.cache import CacheDType  # noqa: PLC0415
    from vllm.reasoning import ReasoningParserManager  # noqa: PLC0415
    from vllm.tool_parsers import ToolParserManager  # noqa: PLC0415

    # Importing the loaders would import the models.
    loaders = (ROOT / "model_executor" / "model_loader" / "__init__.py").read_text()
    literal = re.search(r"^LoadFormats = Literal\[(.*?)\]", loaders, re.MULTILINE | re.DOTALL)
    assert literal is not None
    return {
        "load_formats": sorted(re.findall(r'"([^"]+)"', literal[1])),
        "kv_cache_dtypes": sorted(get_args(CacheDType)),
        "tool_parsers": sorted(ToolParserManager.list_registered()),
        "reasoning_parsers": sorted(ReasoningParserManager.list_registered()),
    }


def cache_metrics(argv: Sequence[str]) -> str:
    """What /metrics says of the cache's configuration, written by the engine's own logger.

    argv: engine cores, then fields of the configuration as NAME=NUMBER, set as they are after the cache is made.
    """
    import prometheus_client  # noqa: PLC0415
    from vllm.config import CacheConfig  # noqa: PLC0415
    from vllm.v1.metrics.loggers import PrometheusStatLogger  # noqa: PLC0415

    config = CacheConfig()
    for field in argv[1:]:
        name, _, number = field.partition("=")
        if name not in config.__dict__:
            raise RefusedError(f"{name} is no field of the configuration")
        object.__setattr__(config, name, int(number))
    registry = prometheus_client.CollectorRegistry()
    logger = object.__new__(PrometheusStatLogger)  # its other metrics need a whole engine
    logger._gauge_cls = functools.partial(prometheus_client.Gauge, registry=registry)
    logger.engine_indexes = list(range(int(argv[0])))
    logger.log_metrics_info("cache_config", config)
    return prometheus_client.generate_latest(registry).decode()


if __name__ == "__main__":
    serve(
        REPLIES,
        {
            "parse": parse,
            "configure": configure,
            "catalogue": catalogue,
            "chat_template": chat_template,
            "cache_metrics": cache_metrics,
            "options": lambda _: options(SERVE, _type_name),
        },
    )
