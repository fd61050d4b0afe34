"""Kubeconfig files as kubectl reads them: merged, with plugins, relative paths, and words for what is wrong."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_operator import api
from llm_operator.cli import cluster
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.kubeconfig import load


def written(path: Path, user: dict[str, Any] | None = None, **changes: Any) -> Path:
    body = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **changes.pop("cluster", {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "current-context": changes.pop("current", "dev"),
    }
    path.write_text(yaml.safe_dump(body))
    return path


def plugin(folder: Path, script: str) -> dict[str, Any]:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "installHint": "get it"}}


def problem(path: Path, context: str | None = None) -> str:
    with pytest.raises(BadInputError) as refused:
        load(str(path), context)
    (text,) = refused.value.problems
    return str(text)


def test_the_names_are_those_of_the_api() -> None:
    assert (
        *(api.GROUP, api.VERSION, api.KIND),
        api.PLURAL,
    ) == (cluster.GROUP, cluster.VERSION, cluster.KIND, cluster.PLURAL)


def test_credentials(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    for user, said in (
        ({"token": "t"}, "Bearer t"),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({"username": "a", "password": "b"}, "Basic YTpi"),
    ):
        access = load(str(written(tmp_path / "config", user)), None)
        assert access.headers["Authorization"] == said
        assert said not in repr(access)
        assert access.namespace == "team"


def test_a_plugin_is_asked_with_the_protocol_of_client_go(tmp_path: Path) -> None:
    script = """case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) echo '{"status":{"token":"from-plugin"}}';; esac"""
    access = load(str(written(tmp_path / "config", plugin(tmp_path, script))), None)
    assert access.headers["Authorization"] == "Bearer from-plugin"


@pytest.mark.parametrize(
    ("script", "said"),
    [("exit 3", "failed with exit code 3"), ("echo no", "did not answer with an ExecCredential")],
)
def test_a_plugin_that_fails(tmp_path: Path, script: str, said: str) -> None:
    assert said in problem(written(tmp_path / "config", plugin(tmp_path, script)))


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "config")
    assert problem(path, "dve") == f"the kubeconfig {path} has no context 'dve'; it has dev"
    assert "does not exist" in problem(tmp_path / "none")
    assert "cannot be run: No such file or directory; get it" in problem(
        written(path, {"exec": {"command": "./none", "installHint": "get it"}})
    )
    assert "auth-provider was removed" in problem(written(path, {"auth-provider": {"name": "gcp"}}))
    assert "proxies that speak HTTP" in problem(written(path, cluster={"proxy-url": "socks5://a"}))
    assert "no current context" in problem(written(path, current=""))
    assert "is not base64" in problem(written(path, {"client-key-data": "!"}))
    path.write_text("[")
    assert "cannot be used: ParserError" in problem(path)
    path.write_text("3")
    assert "is not a kubeconfig" in problem(path)


def test_the_first_of_several_files_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = written(tmp_path / "a", {"token": "first"})
    second = written(tmp_path / "b", {"token": "second"})
    body = yaml.safe_load(second.read_text())
    body["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    second.write_text(yaml.safe_dump(body))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")
    assert load(None, None).headers["Authorization"] == "Bearer first"
    assert load(None, "other").namespace == "default"
