"""A hub behind TLS of an own CA and a proxy that asks for a password: real processes, started as rendered."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import certifi
import pytest

from devcluster.pki import make_pki
from llm_operator.__main__ import parser
from llm_operator.api import API_VERSION, KIND
from llm_operator.api.base import ConfigMapKeyReference
from llm_operator.api.resource import LLMDeployment
from llm_operator.child_options import handed_on, has_password, tool_settings
from llm_operator.engines import RefusedError
from llm_operator.engines.common import CA_VARIABLES
from llm_operator.manifests.tools import PROXY_VARIABLES
from llm_operator.manifests.trust import BUNDLES_FOLDER, FOLDER
from llm_operator.modeltools import trust
from llm_operator.settings import ToolSettings
from tests import xet_store
from tests.auth_proxy import PASSWORD, AuthProxy
from tests.faulty_hub import FaultyHub
from tests.support.rendered import children_of, jobs_of
from tests.unit.modeltools.tool import OPERATOR, REPOSITORY
from tests.xet_store import XetStore

JSON = dict[str, Any]
HOST, STORE = "hub.internal.test", "store.internal.test"
SOURCES = ("huggingFace", "modelScope")
ENDPOINT = f"https://{HOST}"
SHARD = "model-00002-of-00002.safetensors"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, [f"DNS:{HOST}", f"DNS:{STORE}"])
    return folder


@pytest.fixture
def hub(model_root: Path, pki: Path) -> Iterator[FaultyHub]:
    with FaultyHub(model_root, certificate=(pki / "api.crt", pki / "api.key")) as started:
        yield started


@pytest.fixture
def proxy(hub: FaultyHub) -> Iterator[AuthProxy]:
    with AuthProxy({HOST: hub.server.server_port}) as started:
        yield started


def settings(ca: bool = True, secret: bool = True) -> ToolSettings:
    words = ["--model-tools-image=tools:1"]
    words += ["--tools-ca-bundle=corporate-ca/bundle.pem"] if ca else []
    words += ["--proxy-secret=hub-proxy"] if secret else []
    return tool_settings(parser().parse_args(words))


def resource(source: str = "huggingFace", **spec: Any) -> LLMDeployment:
    body = {"model": {source: {"repository": REPOSITORY}}, "engine": {"type": "VLLM"}, **spec}
    return LLMDeployment.parse({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "demo"}, "spec": body})


def environment(container: JSON, secret: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What the kubelet would set, and what an image has anyway."""
    found = {"PATH": os.environ["PATH"], "PYTHONPATH": str(OPERATOR), "HOME": str(folder)}
    for variable in container["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"].replace(FOLDER, str(folder / "trust"))
            continue
        reference = variable["valueFrom"]["secretKeyRef"]
        assert reference["name"] == "hub-proxy"
        if reference["key"] in secret:
            found[variable["name"]] = secret[reference["key"]]
        else:
            assert reference["optional"]
    return found | {"HF_ENDPOINT": ENDPOINT, "MODELSCOPE_ENDPOINT": ENDPOINT}


def add(init: JSON, folder: Path, bundle: bytes | None) -> subprocess.CompletedProcess[str]:
    """The init container as a process; the ConfigMap has this content, or does not exist."""
    (folder / "trust").mkdir()
    (folder / "bundles").mkdir()
    if bundle is not None:
        (folder / "bundles" / "0.crt").write_bytes(bundle)
    words = [word.replace(BUNDLES_FOLDER, str(folder / "bundles")) for word in init["args"]]
    words = [word.replace(f"{FOLDER}/", f"{folder}/trust/") for word in words]
    command = [sys.executable, *init["command"][1:], *words]
    log = {**os.environ, "LLM_TERMINATION_LOG": str(folder / "termination")}
    return subprocess.run(command, env=log, capture_output=True, text=True, timeout=60, check=False)


def run_fetch(container: JSON, variables: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "models").mkdir(exist_ok=True)
    words = [word.replace("/models", str(folder / "models")) for word in container["args"]]
    words += ["--attempts", "1", "--backoff-seconds", "0.1", "--result", str(folder / "result")]
    command = [sys.executable, "-m", "llm_operator.modeltools", *words]
    return subprocess.run(command, env=dict(variables), capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("source", SOURCES)
def test_the_job_fetches_through_both(pki: Path, hub: FaultyHub, proxy: AuthProxy, source: str, tmp_path: Path) -> None:
    (job,) = jobs_of(resource(source, cache={"claimName": "models"}), settings())
    assert PASSWORD not in json.dumps(job)
    pod = job["spec"]["template"]["spec"]
    done = add(pod["initContainers"][0], tmp_path, (pki / "ca.crt").read_bytes())
    assert done.returncode == 0, done.stderr
    (container,) = pod["containers"]
    fetched = run_fetch(container, environment(container, {"HTTPS_PROXY": proxy.url}, tmp_path), tmp_path)
    result = json.loads((tmp_path / "result").read_text())
    assert result["ok"], (result, fetched.stderr[-2000:])
    assert proxy.accepted
    assert PASSWORD not in fetched.stdout + fetched.stderr + json.dumps(result)


@pytest.fixture
def store(hub: FaultyHub, proxy: AuthProxy, pki: Path, tmp_path: Path) -> Iterator[XetStore]:
    """A store of Xet's behind the same two, with a file that the hub offers by it."""
    folder, name = tmp_path / "store", f"{REPOSITORY}/{SHARD}"
    hub.xet[name] = xet_store.write(folder, hub.root / name, tmp_path)
    hub.xet_store = f"https://{STORE}"
    with XetStore(folder, hub.xet[name], (pki / "api.crt", pki / "api.key"), STORE) as started:
        proxy.ways[STORE] = started.server.server_port
        yield started


def test_the_client_of_xet_takes_both(
    pki: Path, hub: FaultyHub, proxy: AuthProxy, store: XetStore, tmp_path: Path
) -> None:
    (job,) = jobs_of(resource(cache={"claimName": "models"}), settings())
    pod = job["spec"]["template"]["spec"]
    assert add(pod["initContainers"][0], tmp_path, (pki / "ca.crt").read_bytes()).returncode == 0
    (container,) = pod["containers"]
    fetched = run_fetch(container, environment(container, {"HTTPS_PROXY": proxy.url}, tmp_path), tmp_path)
    result = json.loads((tmp_path / "result").read_text())
    assert result["ok"], (result, fetched.stderr[-2000:])
    assert (tmp_path / "models" / result["directory"] / SHARD).read_bytes() == (
        hub.root / REPOSITORY / SHARD
    ).read_bytes()
    assert hub.sent[f"{REPOSITORY}/{SHARD}"] == 0, "no byte of it came by plain HTTP"
    assert f"{STORE}:443" in proxy.accepted
    assert any(path.startswith("/xorbs/") for path in store.requests)
    assert PASSWORD not in fetched.stdout + fetched.stderr + json.dumps(result)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("missing", ["ca", "password"])
def test_without_one_of_them_nothing_is_fetched_and_no_password_is_told(
    hub: FaultyHub, proxy: AuthProxy, source: str, missing: str, pki: Path, tmp_path: Path
) -> None:
    (job,) = jobs_of(resource(source, cache={"claimName": "models"}), settings(ca=missing != "ca"))
    pod = job["spec"]["template"]["spec"]
    if missing != "ca":
        assert add(pod["initContainers"][0], tmp_path, (pki / "ca.crt").read_bytes()).returncode == 0
    (container,) = pod["containers"]
    url = proxy.url if missing == "ca" else proxy.url.replace(PASSWORD, "another-word")
    fetched = run_fetch(container, environment(container, {"HTTPS_PROXY": url}, tmp_path), tmp_path)
    result = json.loads((tmp_path / "result").read_text())
    assert (result["ok"], result["reason"]) == (False, "HubUnreachable")
    told = fetched.stdout + fetched.stderr + json.dumps(result)
    assert PASSWORD not in told
    assert "another-word" not in told
    assert proxy.refused or missing == "ca"


def test_the_public_roots_stay_and_curl_takes_the_file(pki: Path, proxy: AuthProxy, tmp_path: Path) -> None:
    trust.write(tmp_path / "both.crt", [("own", pki / "ca.crt")])
    text = (tmp_path / "both.crt").read_text()
    assert Path(certifi.where()).read_text() in text
    context = ssl.create_default_context(cafile=str(tmp_path / "both.crt"))
    public = ssl.create_default_context(cafile=certifi.where())
    assert context.cert_store_stats()["x509_ca"] > public.cert_store_stats()["x509_ca"]
    words = ["curl", "--silent", "--proxy", proxy.url, f"{ENDPOINT}/api/models/{REPOSITORY}"]
    plain = {"PATH": os.environ["PATH"]}
    with_own = plain | {"CURL_CA_BUNDLE": str(tmp_path / "both.crt")}
    asked = subprocess.run(words, env=with_own, capture_output=True, check=False)
    assert asked.returncode == 0
    assert json.loads(asked.stdout)["id"] == REPOSITORY
    assert subprocess.run(words, env=plain, capture_output=True, check=False).returncode == 60


NO_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("content", [None, b"", b"no certificate", NO_CERTIFICATE, b"\xff"])
def test_a_bundle_that_cannot_be_used_is_told_by_its_name(content: bytes | None, tmp_path: Path) -> None:
    (job,) = jobs_of(resource(cache={"claimName": "models"}), settings())
    done = add(job["spec"]["template"]["spec"]["initContainers"][0], tmp_path, content)
    assert done.returncode == 1
    result = json.loads((tmp_path / "termination").read_text())
    assert (result["ok"], result["reason"]) == (False, "CABundleUnusable")
    assert "key 'bundle.pem' of ConfigMap 'corporate-ca'" in result["message"]
    assert not (tmp_path / "trust" / "ca.crt").exists()


def test_the_operator_asks_the_hub_through_both(pki: Path, hub: FaultyHub, proxy: AuthProxy, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from llm_operator.__main__ import trust_also\n"
        "if sys.argv[1]: trust_also(Path(sys.argv[1]))\n"
        "from llm_operator.kube.hub_files import fetch_facts\n"
        f"fact = fetch_facts({REPOSITORY!r}, None)\n"
        "value = getattr(fact, 'value', None); print(value.revision if value else (fact.reason, fact.message))"
    )
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(OPERATOR), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    env |= {"HF_ENDPOINT": ENDPOINT, "HTTPS_PROXY": proxy.url}

    def asked(bundle: str) -> str:
        words = [sys.executable, "-c", code, bundle]
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=True).stdout

    assert "ModelUnsupported" in asked(str(pki / "ca.crt")), "it read the config.json of the stub"
    assert "HubUnreachable" in asked("")


def test_a_password_is_never_handed_on_as_plain_text(caplog: pytest.LogCaptureFixture) -> None:
    given = {
        "HTTPS_PROXY": "http://user:tell-nobody@proxy:3128",
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": "10.0.0.0/8,.svc",
        "HF_ENDPOINT": "https://user:tell-nobody@hub",
        "SSL_CERT_FILE": "/etc/own.crt",
    }
    assert handed_on(given) == {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8,.svc"}
    assert "tell-nobody" not in caplog.text
    assert "HTTPS_PROXY" in caplog.text
    for url in ("user:tell-nobody@proxy:1", "http://user@proxy", "HTTP://u:p@h/x"):
        assert has_password(url)
    for url in ("http://proxy:1/a@b", "proxy:1", "10.0.0.0/8,*.svc", ""):
        assert not has_password(url)


def test_the_secret_takes_the_place_of_plain_variables() -> None:
    tools = ToolSettings(image="tools:1", proxy_secret="hub-proxy", environment={"HTTPS_PROXY": "http://plain:1"})
    (job,) = jobs_of(resource(cache={"claimName": "models"}), tools)
    env = {entry["name"]: entry for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    for name in PROXY_VARIABLES:
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == "hub-proxy"
    assert "optional" not in env["HTTPS_PROXY"]["valueFrom"]["secretKeyRef"]


@pytest.mark.parametrize("engine", ["VLLM", "LMDeploy"])
def test_an_engine_trusts_what_its_field_names_and_nothing_else_changes(engine: str) -> None:
    plain = ToolSettings(image="tools:1")
    before = children_of(resource(engine={"type": engine}), plain)[0]["spec"]["template"]["spec"]
    of = resource(engine={"type": engine}, caBundle={"name": "corporate-ca", "key": "ca.crt"})
    pod = children_of(of, plain)[0]["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["initContainers"]] == ["trust", "fetch"]
    assert pod["initContainers"][0]["image"] == pod["containers"][0]["image"]
    for container in (pod["containers"][0], pod["initContainers"][1]):
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert [env[name] for name in CA_VARIABLES] == ["/trust/ca.crt"] * 3
    assert pod["containers"][0]["args"] == before["containers"][0]["args"]
    chart = ToolSettings(image="tools:1", ca_bundle=ConfigMapKeyReference(name="corporate-ca", key="ca.crt"))
    fetcher_only = children_of(resource(engine={"type": engine}), chart)[0]["spec"]["template"]["spec"]
    assert fetcher_only["containers"] == before["containers"]
    assert [container["name"] for container in fetcher_only["initContainers"]] == ["trust", "fetch"]


def test_a_variable_of_a_client_is_given_once() -> None:
    env = [{"name": "SSL_CERT_FILE", "value": "/own.crt"}]
    with pytest.raises(RefusedError, match=r"SSL_CERT_FILE: spec\.caBundle says it"):
        children_of(resource(engine={"type": "VLLM", "env": env}, caBundle={"name": "a", "key": "b"}))
    children_of(resource(engine={"type": "VLLM", "env": env}))


def test_the_script_names_what_the_engines_module_names() -> None:
    assert trust.VARIABLES == CA_VARIABLES
