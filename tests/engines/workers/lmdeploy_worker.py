"""LMDeploy's real command line parser and engine dataclasses, without torch or transformers.

`lmdeploy/__init__.py` imports the engines; it is skipped, and the heavy packages below it are stubbed. What stays real
is lmdeploy/cli and lmdeploy/messages.py, which is all that judges a command line before a GPU is touched.
"""

import importlib.util
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

from serving import RefusedError, inexact, options, own_stdout, refusing, serve

REPLIES = own_stdout()
STUBBED = ("torch", "transformers", "mmengine", "huggingface_hub", "openai", "fastapi", "uvicorn", "openai_harmony")


class _Stub(types.ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class _StubFinder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in STUBBED:
            return importlib.util.spec_from_loader(name, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _bare_package(name: str, path: str) -> None:
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module


sys.meta_path.insert(0, _StubFinder())  # type: ignore[arg-type]
_SPEC = importlib.util.find_spec("lmdeploy")
assert _SPEC is not None
assert _SPEC.submodule_search_locations
ROOT = Path(_SPEC.submodule_search_locations[0])
_bare_package("lmdeploy", _SPEC.submodule_search_locations[0])
_bare_package("lmdeploy.cli", _SPEC.submodule_search_locations[0] + "/cli")

from lmdeploy import messages  # noqa: E402
from lmdeploy.cli.cli import CLI  # noqa: E402
from lmdeploy.cli.serve import SubCliServe  # noqa: E402

CLI.add_parsers()
SubCliServe.add_parsers()
COMMAND = ["serve", "api_server"]
PARSER = CLI.parser._subparsers._group_actions[0].choices["serve"]._subparsers._group_actions[0].choices["api_server"]

SHARED = (
    "tp",
    "dp",
    "ep",
    "session_len",
    "max_batch_size",
    "cache_max_entry_count",
    "quant_policy",
    "enable_prefix_caching",
    "model_format",
    "max_prefill_token_num",
    "dtype",
    "distributed_executor_backend",
)


def _namespace(argv: Sequence[str]) -> Any:
    with refusing():
        return CLI.parser.parse_args([*COMMAND, *argv])


def _type_name(action: Any) -> str:
    if action.nargs == 0:
        return "flag"
    name = getattr(action.type, "__name__", "str")
    return name if name in ("int", "float", "str") else "other"


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """What the parser makes of argv, and the options in it that are abbreviations."""
    values = vars(_namespace(argv))
    plain = {key: value for key, value in values.items() if isinstance(value, (str, int, float, list, type(None)))}
    return {"values": plain, "inexact": inexact(PARSER, argv)}


def configure(argv: Sequence[str]) -> str:
    """Build the engine's dataclass from the fields that the namespace shares with it; its validation is the test."""
    values = vars(_namespace(argv))
    backend = values["backend"]
    config = messages.PytorchEngineConfig if backend == "pytorch" else messages.TurbomindEngineConfig
    fields = getattr(config, "__dataclass_fields__")  # noqa: B009 - pydantic's dataclass hides it from type checkers
    shared = {name: values[name] for name in SHARED if name in fields and values.get(name) is not None}
    try:
        config(**shared)
    except (AssertionError, ValueError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    return str(config.__name__)


_REGISTERED = {
    "tool_parsers": ("serve", r"ToolParserManager\.register_module\(([^)]*)\)"),
    "reasoning_parsers": ("serve", r"ReasoningParserManager\.register_module\(([^)]*)\)"),
    "legacy_reasoning_parsers": ("serve", r"^LEGACY_REASONING_PARSER_NAMES = \(([^)]*)\)"),
    "chat_templates": ("model.py", r"MODELS\.register_module\(([^)]*)\)"),
    "turbomind_architectures": ("turbomind/supported_models.py", r"^    (\w+)='"),
}


def catalogue(argv: Sequence[str]) -> dict[str, list[str]]:
    """Names that options take without the parser checking them, read from the sources that register them.

    Importing the registries would import the engines.
    """
    found: dict[str, list[str]] = {}
    for key, (place, pattern) in _REGISTERED.items():
        path = ROOT / place
        names: set[str] = set()
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            for match in re.findall(pattern, file.read_text(), re.MULTILINE):
                names.update(re.findall(r"'([^']+)'", match) if "'" in match or "(" in pattern[1:5] else [match])
        found[key] = sorted(names - {"model_name"})
    found["reasoning_parsers"] = sorted({*found["reasoning_parsers"], *found.pop("legacy_reasoning_parsers")})
    return found


if __name__ == "__main__":
    serve(
        REPLIES,
        {
            "parse": parse,
            "configure": configure,
            "catalogue": catalogue,
            "options": lambda _: options(PARSER, _type_name),
        },
    )
