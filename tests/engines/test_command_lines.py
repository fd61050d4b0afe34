"""Every command line that the operator renders is one that the real engine takes, and means what the spec says."""

from __future__ import annotations

import atexit
import functools
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import EngineRun, KVAllocation, RefusedError, RenderRequest, render
from llm_operator.engines.common import CHAT_TEMPLATE_FOLDER
from llm_operator.engines.failures import diagnose
from llm_operator.engines.lmdeploy.command import CONVERTS_UNTIL, QUANT_POLICY
from llm_operator.engines.table import release
from llm_operator.engines.vllm.command import KV_CACHE_DTYPE
from tests.engines.specs import request_of, requests, serves, spec_of
from tests.engines.test_refusals import POD_OR_STRUCTURE
from tests.engines.worker import Reply, Worker

EXAMPLES = 300
THOROUGH = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
# What a refusal to configure may be about on a machine without a GPU, or for a model that the test does not have.
_GPU_ONLY = re.compile(
    r"on the CPU backend is not compatible|not supported for quantization method|larger than the number of available"
)


TEMPLATES = {
    "template.json": '{"model_name": "own", "system": "<s>", "user": "<u>", "stop_words": ["</s>"]}',
    "template.jinja": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
}


@functools.cache
def templates() -> Path:
    """A folder with a chat template for each engine, as the pod has it in /chat-template; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="chat-template-")
    for name, text in TEMPLATES.items():
        Path(folder.name, name).write_text(text)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def words_of(run: EngineRun, model: str | None = None) -> list[str]:
    """The args as the kubelet hands them on: `$$` is a dollar sign, `$(NAME)` a value."""
    words = [word.replace(CHAT_TEMPLATE_FOLDER, str(templates())) for word in run.args]
    words = [re.sub(r"\$\$|\$\(LLM_API_KEY\)", lambda m: "$" if m[0] == "$$" else "secret", word) for word in words]
    return [model or words[0], *words[1:]]


def accepted(words: Sequence[str], reply: Reply) -> dict[str, Any]:
    """What the parser made of it; nothing in it may be an abbreviation."""
    assert reply.error is None, (words, reply.error)
    assert reply.result["inexact"] == [], words
    values: dict[str, Any] = reply.result["values"]
    return values


def configured(worker: Worker, words: Sequence[str]) -> Reply:
    """The engine's own configuration step."""
    return worker.ask("configure", words)


def _template(spec: LLMDeploymentSpec, file: str) -> str | None:
    return str(templates() / file) if spec.model.chat_template is not None else None


def _means(worker: Worker, request: RenderRequest, run: EngineRun, values: dict[str, Any]) -> None:
    spec, context = request.spec, request.context_length or request.spec.context_length
    kv = spec.kv_cache
    if worker.engine == "lmdeploy":
        ratio = request.kv.ratio_percent or kv.memory_percent
        expected: dict[str, Any] = {
            "backend": str(run.backend).lower(),
            "server_port": run.port,
            "model_name": run.served_name,
            "chat_template": _template(spec, "template.json") or values["chat_template"],
            "tp": run.gpus,
            "session_len": context,
            "quant_policy": QUANT_POLICY[kv.quantization],
            "enable_prefix_caching": kv.prefix_caching,
            "api_keys": ["secret"] if spec.engine.api_key else None,
            "cache_max_entry_count": 0.8 if ratio is None else ratio / 100,
        }
    else:
        expected = {
            "port": run.port,
            "served_model_name": list(spec.model.names(request.name)),
            "chat_template": _template(spec, "template.jinja") or values["chat_template"],
            "tensor_parallel_size": run.gpus,
            "max_model_len": context,
            "kv_cache_dtype": KV_CACHE_DTYPE[kv.quantization],
            "enable_prefix_caching": kv.prefix_caching,
            "shutdown_timeout": spec.drain_timeout_seconds,
            "max_num_seqs": spec.max_concurrent_sequences or request.kv.max_sequences,
        }
    assert {name: values[name] for name in expected} == expected


def test_every_spec_is_refused_or_accepted_by_the_parser_and_the_configuration(
    worker: Worker, models: dict[str, str]
) -> None:
    outcomes: Counter[str] = Counter()

    @settings(THOROUGH, max_examples=EXAMPLES)
    @given(requests(worker.engine, worker.version))
    def judge(request: RenderRequest) -> None:
        try:
            run = render(request)
        except RefusedError as refused:
            outcomes["refused"] += bool(refused.refusals)
            return
        words, extra = words_of(run), request.spec.engine.extra_args
        judged = worker.ask("parse", words)
        if extra and judged.error and POD_OR_STRUCTURE.search(judged.error):
            return
        _means(worker, request, run, accepted(words, judged))
        outcomes["accepted"] += 1
        # What a user adds may ask for files or devices that are not here.
        outcomes[_configures(worker, run, _folder(models, request)) if not extra else "not configured"] += 1

    judge()
    if not serves(worker.engine, worker.version) and release(worker.version) >= CONVERTS_UNTIL:
        assert outcomes == {"refused": outcomes["refused"]}
        return
    assert outcomes["accepted"] >= EXAMPLES * 0.2, outcomes
    assert outcomes["configured"] >= 20, outcomes


def _folder(models: dict[str, str], request: RenderRequest) -> str:
    """The model whose weights have the format that the spec names."""
    kind = request.spec.model.format
    return models["HF" if kind == "Auto" else kind]


def _configures(worker: Worker, run: EngineRun, model: str) -> str:
    """Whether the configuration step takes it, or why it may refuse."""
    words = words_of(run, model)
    reply = configured(worker, words)
    if reply.error is not None and _GPU_ONLY.search(reply.error):
        return "gpu only"
    if reply.error is not None and "attention heads" in reply.error:
        assert 64 % run.gpus, reply.error  # the planner's to refuse: it reads config.json
        return "heads"
    assert reply.error is None, (words, reply.error)
    assert reply.result["tensor"] == run.gpus
    return "configured"


FIELDS: list[dict[str, Any]] = [
    {},
    {"parallelism": {"tensor": 2}},
    {"contextLength": 4096},
    {"maxConcurrentSequences": 16},
    {"kvCache": {"quantization": "Int8"}},
    {"kvCache": {"prefixCaching": False}},
    {"model": {"servedName": "org/name:1"}},
    {"model": {"servedNames": ["main"]}},
    {"model": {"chatTemplate": {"name": "templates", "key": "chat"}}},
    {"model": {"format": "AWQ"}},
    {"model": {"format": "FP8"}},
    {"engine": {"apiKey": {"name": "keys", "key": "api"}}},
    {"drainTimeoutSeconds": 0},
]


@pytest.mark.parametrize("backend", ["TurboMind", "PyTorch"])
@pytest.mark.parametrize("parts", FIELDS, ids=str)
def test_each_field_alone(worker: Worker, models: dict[str, str], parts: dict[str, Any], backend: str) -> None:
    """Named one by one, so that a broken field is a named failure."""
    if worker.engine == "vllm":
        spec = spec_of(worker.engine, worker.version, **parts)
    else:
        engine = {**parts.get("engine", {}), "backend": backend}
        if backend == "TurboMind" and not serves(worker.engine, worker.version):
            engine |= {"conversion": "TurboMind"}
            parts = {**parts, "cache": {"claimName": "models"}}
        spec = spec_of(worker.engine, worker.version, **{**parts, "engine": engine})
    share = KVAllocation(ratio_percent=50) if worker.engine == "lmdeploy" else KVAllocation(kv_cache_memory_bytes=2**30)
    request = request_of(spec, kv=share)
    insecure = not serves(worker.engine, worker.version)
    if insecure and (backend == "PyTorch" or release(worker.version) >= CONVERTS_UNTIL):
        with pytest.raises(RefusedError, match="GHSA-5h8j-6crg-7rmw"):
            render(request)
        return
    run = render(request)
    words = words_of(run, _folder(models, request))
    _means(worker, request, run, accepted(words, worker.ask("parse", words)))
    reply = configured(worker, words)
    assert reply.error is None or _GPU_ONLY.search(reply.error), reply.error


def test_several_names_where_the_parser_takes_several(worker: Worker) -> None:
    names = ["main", "org/second:1", "third"]
    spec = spec_of(worker.engine, worker.version, model={"servedNames": names})
    if worker.engine == "lmdeploy":
        with pytest.raises(RefusedError, match=r"--model-name takes one value|GHSA-5h8j-6crg-7rmw"):
            render(request_of(spec))
        reply = worker.ask("parse", ["model", "--model-name", *names])
        assert "unrecognized arguments: org/second:1 third" in str(reply.error)
        return
    run = render(request_of(spec))
    assert run.served_name == "main"
    values = accepted(words_of(run), worker.ask("parse", words_of(run)))
    assert values["served_model_name"] == names
    assert values["model_tag"] == "/models"


def test_a_chat_template_is_read_by_the_engine_in_its_own_format(worker: Worker, tmp_path: Path) -> None:
    """The engine's own reader takes a file with the format that the docs name, and not the other engine's."""
    names = list(TEMPLATES) if worker.engine == "lmdeploy" else list(TEMPLATES)[::-1]
    ours, other = (TEMPLATES[name] for name in names)
    file = tmp_path / "template"
    file.write_text(ours)
    reply = worker.ask("chat_template", [str(file)])
    assert reply.error is None, reply.error
    assert reply.result["text"] == ours
    missing = worker.ask("chat_template", [f"/chat-template/{names[0]}"])
    assert missing.error is not None
    engine = "LMDeploy" if worker.engine == "lmdeploy" else "VLLM"
    assert diagnose(engine, 1, None, missing.error, worker.version).reason == "ChatTemplateMissing", missing.error
    if worker.engine == "lmdeploy":
        file.write_text(other)
        assert "JSONDecodeError" in str(worker.ask("chat_template", [str(file)]).error)


@pytest.mark.parametrize(("key", "engine"), [("a.json", "vllm"), ("a.jinja", "lmdeploy"), ("a.j2", "lmdeploy")])
def test_a_template_of_the_other_engine_is_refused(worker: Worker, key: str, engine: str) -> None:
    template = {"chatTemplate": {"name": "templates", "key": key}}
    request = request_of(spec_of(worker.engine, worker.version, model=template))
    if engine != worker.engine:
        if serves(worker.engine, worker.version):
            render(request)
        return
    with pytest.raises(RefusedError) as refused:
        render(request)
    assert "UnsupportedChatTemplate" in {refusal.reason for refusal in refused.value.refusals}


def test_a_template_is_given_once(worker: Worker) -> None:
    spec = spec_of(
        worker.engine,
        worker.version,
        model={"chatTemplate": {"name": "templates", "key": "chat"}},
        engine={"extraArgs": ["--chat-template=/x/y.z"]},
    )
    with pytest.raises(RefusedError, match=r"give one of them"):
        render(request_of(spec))
