"""LMDeploy's real command line parser and engine dataclasses, without torch or transformers.

`lmdeploy/__init__.py` imports the engines; it is skipped, and the heavy packages below it are stubbed. What stays real
is lmdeploy/cli and lmdeploy/messages.py, which is all that judges a command line before a GPU is touched.
"""

import ast
import importlib.util
import json
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from serving import RefusedError, inexact, options, own_stdout, refusing, serve

REPLIES = own_stdout()
STUBBED = ("torch", "transformers", "mmengine", "huggingface_hub", "openai", "fastapi", "uvicorn", "openai_harmony")


class _Stub(types.ModuleType):
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
        module = _Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _bare_package(name: str, path: str) -> None:
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module


sys.meta_path.insert(0, _StubFinder())
_SPEC = importlib.util.find_spec("lmdeploy")
assert _SPEC is not None
assert _SPEC.submodule_search_locations
ROOT = Path(_SPEC.submodule_search_locations[0])
_bare_package("lmdeploy", _SPEC.submodule_search_locations[0])
_bare_package("lmdeploy.cli", _SPEC.submodule_search_locations[0] + "/cli")

from lmdeploy.cli.cli import CLI  # noqa: E402
from lmdeploy.cli.lite import SubCliLite  # noqa: E402
from lmdeploy.cli.serve import SubCliServe  # noqa: E402

CLI.add_parsers()
SubCliServe.add_parsers()
SubCliLite.add_parsers()
COMMAND = ["serve", "api_server"]


def _parser_of(words: Sequence[str]) -> Any:
    """The parser of a command: that of its last word that names one."""
    parser = CLI.parser
    for word in words:
        choices = parser._subparsers._group_actions[0].choices if parser._subparsers else {}
        if word not in choices:
            break
        parser = choices[word]
    return parser


PARSER = _parser_of(COMMAND)


def _namespace(argv: Sequence[str]) -> Any:
    with refusing():
        return CLI.parser.parse_args([*COMMAND, *argv])


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if isinstance(value, (str, int, float, list, type(None)))}


def command(argv: Sequence[str]) -> dict[str, Any]:
    """What `lmdeploy` makes of any command line, and the options in it that are abbreviations."""
    with refusing():
        values = vars(CLI.parser.parse_args(list(argv)))
    return {"values": _plain(values), "inexact": inexact(_parser_of(argv), argv)}


def quantizable(argv: Sequence[str]) -> dict[str, list[str]]:
    """What `lite auto_awq` knows: architectures with calibration data, those without it only, and data sets."""
    layers = _literal("lite/apis/calibrate.py", "LAYER_TYPE_MAP")
    norms = _literal("lite/apis/calibrate.py", "NORM_TYPE_MAP")
    maps = [_literal("lite/quantization/awq.py", name) for name in ("NORM_FCS_MAP", "FC_FCS_MAP")]
    known = [name for name in layers if name in norms]
    calibrated = {name for name in known if all(layers[name] in found for found in maps)}
    loader = (ROOT / "lite" / "utils" / "calib_dataloader.py").read_text().partition("def get_calib_loaders")[2]
    datasets = re.findall(r"^    if '([^']+)' in name", loader, re.MULTILINE)
    return {
        "calibrated": sorted(calibrated),
        "without_data_only": sorted(set(known) - calibrated),
        "datasets": sorted(datasets),
    }


def _literal(file: str, name: str) -> Any:
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise RuntimeError(f"{file} has no {name}")


def _type_name(action: Any) -> str:
    if action.nargs == 0:
        return "flag"
    name = getattr(action.type, "__name__", "str")
    return name if name in ("int", "float", "str") else "other"


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """What the parser makes of argv, and the options in it that are abbreviations."""
    return {"values": _plain(vars(_namespace(argv))), "inexact": inexact(PARSER, argv)}


def _server_module(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def _template_lists() -> dict[str, list[str]]:
    """Names of chat templates that 0.10 to 0.17 take as another one, or refuse."""
    lists: dict[str, list[str]] = {
        name: [] for name in ("DEPRECATED_CHAT_TEMPLATE_NAMES", "REMOVED_CHAT_TEMPLATE_NAMES")
    }
    for node in ast.parse((ROOT / "model.py").read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id.endswith("_CHAT_TEMPLATE_NAMES"):
            lists[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return lists


def configure(argv: Sequence[str]) -> dict[str, Any]:
    """Let the real command run up to the server's start: it builds and checks the engine's configuration on the way.

    Put in its place is only what needs a GPU or the model: the choice of the backend (by the architecture), the
    registry of chat templates (filled with the names that the sources register) and the server itself.
    """
    namespace = _namespace(argv)
    started: dict[str, Any] = {}
    registry = types.SimpleNamespace(module_dict=dict.fromkeys(catalogue([])["chat_templates"]))
    _server_module("lmdeploy.archs", autoget_backend=lambda *_args, **_kwargs: namespace.backend)
    _server_module("lmdeploy.model", MODELS=registry, ChatTemplateConfig=MagicMock(), **_template_lists())
    _server_module("lmdeploy.serve.openai.api_server", serve=lambda _model, **given: started.update(given))
    _server_module("lmdeploy.serve.openai.launch_server", launch_server=None)
    for package in ("lmdeploy.serve", "lmdeploy.serve.openai"):
        if package not in sys.modules:
            _bare_package(package, str(ROOT.parent.joinpath(*package.split("."))))
    try:
        SubCliServe.api_server(namespace)
    except (AssertionError, ValueError, TypeError) as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    config = started["backend_config"]
    return {
        "config": type(config).__name__,
        "tensor": config.tp,
        "session_len": config.session_len,
        "max_batch_size": config.max_batch_size,
        "ratio": config.cache_max_entry_count,
        "quant_policy": int(config.quant_policy),
        "prefix_caching": config.enable_prefix_caching,
        "model_format": config.model_format,
        "metrics": getattr(config, "enable_metrics", None),
        "model_name": started["model_name"],
        "port": started["server_port"],
        "api_keys": started["api_keys"],
    }


def chat_template(argv: Sequence[str]) -> dict[str, str]:
    """What the command makes of --chat-template: lmdeploy/cli/utils.py over the real lmdeploy/model.py."""
    from lmdeploy.cli.utils import get_chat_template  # noqa: PLC0415

    for name in ("lmdeploy.model", "lmdeploy.archs"):
        # What another question has put in their place.
        sys.modules.pop(name, None)
    try:
        # 0.9.2 takes no second argument, which is for built-in names only.
        config = get_chat_template(argv[0])
    except (AssertionError, ImportError, ValueError) as error:  # ImportError: 0.12 to 0.14, of what is no file
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    given = json.loads(Path(argv[0]).read_text())
    assert {name: getattr(config, name) for name in given} == given
    return {"text": Path(argv[0]).read_text()}


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
            "command": command,
            "quantizable": quantizable,
            "configure": configure,
            "catalogue": catalogue,
            "chat_template": chat_template,
            "options": lambda _: options(PARSER, _type_name),
        },
    )
