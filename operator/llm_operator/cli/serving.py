"""The OpenAI API of one object, reached through the API server: its proxy, or a port-forward to the pods."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import urllib3

from llm_operator.cli.cluster import JSON, Cluster, RequestRefusedError, refusal_text
from llm_operator.cli.errors import BadInputError
from llm_operator.cli.pods import POD_LABEL, is_ready
from llm_operator.foreign import UnreadableError, read_json

READ_SECONDS = 300
"""Longest silence of an engine that is prefilling a long prompt."""
CONNECT_SECONDS = 10
LINE_BYTES = 1 << 20
ANSWER_BYTES = 8 << 20
KEY_VARIABLE = "LLM_API_KEY"
FAILED = ("error", "abort")
"""Ends of an answer that failed (LMDeploy 0.18.0 and vLLM 0.33.0)."""
_HEADER = re.compile(r"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer.

    Attributes:
        text: what it adds.
        thought: it is a reasoning model's thought, and no part of the answer.
        call: it is a call of a tool, and no part of the answer.
        finish: why the answer ended, in the engine's word, such as `stop` or `length`; empty until then.
        prompt_tokens: tokens of the prompt; 0 but in the last piece, and only if usage was requested.
        completion_tokens: tokens of the answer, likewise.
    """

    text: str = ""
    thought: bool = False
    call: bool = False
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Way(Protocol):
    def open(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any: ...


class Serving:
    """An object's OpenAI API, with the rights of this user."""

    def __init__(self, cluster: Cluster, body: JSON, *, forward: bool = False, model: str | None = None) -> None:
        """Find the way to the engine, and its model.

        Args:
            cluster: with the user's rights.
            body: the LLMDeployment.
            forward: use a port-forward even if no API key is needed.
            model: the served model's name; None: the engine says it.

        Raises:
            BadInputError: the object does not serve, its API key cannot be read, or the engine refuses it.
        """
        meta = body["metadata"]
        self.name, self.namespace = meta["name"], meta["namespace"]
        refuse_what_does_not_serve(body)
        reference = (body["spec"].get("engine") or {}).get("apiKey") or {}
        self.key_from = ""
        key = self._key(cluster, reference)
        # The API server takes the Authorization header for its own and never passes it on.
        self._way: _Way = (
            _Forwarded(cluster, self.namespace, self.name, key) if key or forward else _Proxied(cluster, body)
        )
        self.model = self._served_model() if model is None else model

    def _key(self, cluster: Cluster, reference: Mapping[str, str]) -> str | None:
        given = os.environ.get(KEY_VARIABLE)
        if given:
            self.key_from = f"the environment variable {KEY_VARIABLE}"
            return _header_value(given, self.key_from)
        if not reference:
            return None
        secret, entry = str(reference.get("name")), str(reference.get("key"))
        self.key_from = f"the Secret {secret}"
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{secret}"
        try:
            data = cluster.get(path, f"read the Secret {secret}").get("data") or {}
            key = base64.b64decode(data[entry], validate=True).decode()
        except RequestRefusedError as error:
            if error.status == 403:
                text = (
                    f"{self.name} needs the API key of the Secret {secret}, which you may not read in namespace "
                    f"{self.namespace}: request that right, or set {KEY_VARIABLE}"
                )
                raise BadInputError([text]) from None
            if error.status == 404:
                text = f"the Secret {secret}, which holds the API key of {self.name}, does not exist: create it"
                raise BadInputError([text]) from None
            raise
        except KeyError:
            raise BadInputError([f"the Secret {secret} has no key {entry!r}; see spec.engine.apiKey"]) from None
        except (binascii.Error, ValueError, TypeError):
            raise BadInputError([f"the key {entry!r} of the Secret {secret} is not text"]) from None
        return _header_value(key, self.key_from)

    def _served_model(self) -> str:
        with self._open("GET", "/v1/models", None) as answer, self._told():
            text = answer.read(ANSWER_BYTES)
        try:
            return str(read_json(text, ANSWER_BYTES)["data"][0]["id"])
        except (UnreadableError, KeyError, IndexError, TypeError):
            raise BadInputError([f"{self.name} does not answer like an OpenAI API: it names no model"]) from None

    def metrics(self, limit: int) -> str:
        """The engine's own metrics, of one pod.

        Raises:
            BadInputError: it refuses, or does not answer.
        """
        with self._open("GET", "/metrics", None) as answer, self._told():
            return str(answer.read(limit).decode(errors="replace"))

    def stream(self, body: JSON) -> Iterator[Piece]:
        """The pieces of the answer to a chat completion as they come; closing the iterator stops the engine.

        Raises:
            BadInputError: the engine refuses, ends with an error, or breaks off.
        """
        text = json.dumps({"model": self.model, **body, "stream": True}).encode()
        ended = False
        with self._open("POST", "/v1/chat/completions", text) as answer:
            for event in self._events(answer):
                if ended or not event.startswith(b"data:"):
                    continue
                data = event[5:].strip()
                # The rest is read too: an answer that was not read to its end costs its connection to the API server.
                ended = data == b"[DONE]"
                if not ended:
                    yield from pieces(data, self.name)
        if not ended:
            raise self._broken_off()

    def _events(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        rest = b""
        with self._told():
            for part in answer.stream(1 << 16):
                *whole, rest = (rest + part).split(b"\n")
                yield from whole
                if len(rest) > LINE_BYTES:
                    raise BadInputError([f"{self.name} sent a line of more than {LINE_BYTES:,} bytes"])
        yield rest

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong once the answer has begun: the API server was there, so the engine or the way to it ended."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError):
            raise self._broken_off() from None

    def _broken_off(self) -> BadInputError:
        return BadInputError(
            [f"{self.name} broke off in the middle of the answer: the engine may have restarted; ask again"]
        )

    @contextmanager
    def _open(self, method: str, path: str, body: bytes | None) -> Iterator[urllib3.BaseHTTPResponse]:
        headers = {"Content-Type": "application/json", "Accept": "*/*"} if body else {}
        try:
            with self._way.open(method, path, body, headers) as answer:
                yield answer
        except RequestRefusedError as error:
            raise self._explained(error) from None

    def _explained(self, error: RequestRefusedError) -> BadInputError:
        if error.status == 503:
            text = f"{self.name} is not ready: {error.said}; see kubectl llm status {self.name}"
        elif error.status == 404:
            text = f"{self.name} does not answer: {error.said}; see kubectl llm status {self.name}"
        elif error.status == 401 and self.key_from:
            text = (
                f"{self.name} refuses the API key of {self.key_from}; if the Secret changed after the pods started: "
                f"kubectl llm restart {self.name}"
            )
        elif error.status == 401 and isinstance(self._way, _Proxied):
            # The API server has just accepted this user, so it is the engine that wants credentials.
            text = f"{self.name} wants an API key that spec.engine.apiKey does not name: set {KEY_VARIABLE}"
        elif error.status == 403 and "services/proxy" in error.said:
            text = f"{error.said}; request that right, or try --port-forward"
        else:
            return error
        return BadInputError([text])


class _Proxied:
    """Through the API server's proxy of the Service."""

    def __init__(self, cluster: Cluster, body: JSON) -> None:
        meta = body["metadata"]
        self._cluster = cluster
        self._name = meta["name"]
        self._base = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}:http/proxy"

    def open(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        if body:
            # Go's server closes the request's body when the engine's answer begins, and its proxy then drops the answer
            # if it has not seen the body's end (golang/go#40747: 3 of 10 answers on a busy machine). It leaves the body
            # of such a request open (net/http/server.go, writeHeader); it does not wait for anything.
            headers = {**headers, "Expect": "100-continue"}
        return self._cluster.open(method, self._base + path, f"ask {self._name}", body, headers, READ_SECONDS)


class _Forwarded:
    """Through a port-forward to the ready pods."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, key: str | None) -> None:
        from llm_operator.cli.forward import ForwardedPool  # noqa: PLC0415 - 50 ms

        self._name = name
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        pods = cluster.list("api/v1", "pods", namespace, f"{POD_LABEL}={name}")
        targets = [(pod["metadata"]["name"], _port(pod)) for pod in pods if is_ready(pod)]
        if not targets:
            raise BadInputError([f"{name} has no ready pod; see kubectl llm status {name}"])
        self._pool = ForwardedPool(cluster, namespace, targets)

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        try:
            answer = self._pool.request(
                method,
                path,
                body=body,
                headers={**headers, **self._headers},
                preload_content=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            last = self._pool.last
            reason = last.problem if last is not None and last.problem else " ".join(str(error).split())
            raise BadInputError([f"{self._name} does not answer through a port-forward: {reason[:300]}"]) from None
        try:
            if answer.status >= 300:
                said = answer.read(1 << 20).decode(errors="replace")
                raise RequestRefusedError(f"ask {self._name}", answer.status, refusal_text(said) or answer.reason or "")
            yield answer
        finally:
            answer.close()
            answer.release_conn()


def _port(pod: Mapping[str, Any]) -> int:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == "http":
                return int(port["containerPort"])
    raise BadInputError([f"pod {pod['metadata']['name']} has no port named http"])


def _header_value(key: str, source: str) -> str:
    """The key as the engine got it, if a header can hold it."""
    if _HEADER.fullmatch(key) is None:
        raise BadInputError(
            [f"{source} holds an API key that no HTTP header can hold: it is empty, or has a space or line break"]
        )
    return key


def refuse_what_does_not_serve(body: JSON) -> None:
    """Say in a sentence why an object cannot be asked anything.

    Raises:
        BadInputError: no replica is available.
    """
    conditions = {entry.get("type"): entry for entry in (body.get("status") or {}).get("conditions") or ()}
    if (conditions.get("Available") or {}).get("status") != "False":
        return
    why, name = conditions.get("Ready") or {}, body["metadata"]["name"]
    text = f"{name} does not serve: {why.get('reason', 'Unknown')}: {why.get('message', '')}"
    raise BadInputError([f"{text}; see kubectl llm status {name}"])


def pieces(data: bytes, name: str) -> Iterator[Piece]:
    """The pieces in one event of a stream; an event that is none is passed over.

    Raises:
        BadInputError: it is an error, or not JSON.
    """
    try:
        chunk = read_json(data, LINE_BYTES)
    except UnreadableError as error:
        raise BadInputError([f"{name} sent a piece that is not JSON: {error}"]) from None
    if not isinstance(chunk, dict):
        return
    if chunk.get("error") or chunk.get("object") == "error":
        problem = chunk.get("error") or chunk
        said = problem.get("message") if isinstance(problem, dict) else problem
        raise BadInputError([f"{name} stopped with an error: {said}"])
    for choice in _list(chunk.get("choices")):
        if not isinstance(choice, dict):
            continue
        yield from _said(choice.get("delta"))
        finish = choice.get("finish_reason")
        if finish in FAILED:
            raise BadInputError([f"{name} ended the answer: {finish}; kubectl llm logs {name} may say why"])
        if isinstance(finish, str) and finish:
            yield Piece(finish=finish)
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        yield Piece(prompt_tokens=_count(usage, "prompt_tokens"), completion_tokens=_count(usage, "completion_tokens"))


def _said(delta: object) -> Iterator[Piece]:
    """What one delta adds."""
    if not isinstance(delta, dict):
        return
    # LMDeploy calls thoughts `reasoning_content`, vLLM since 0.12 `reasoning`; who says both, says the same twice.
    thought = _text(delta.get("reasoning_content")) or _text(delta.get("reasoning"))
    if thought:
        yield Piece(thought, thought=True)
    for key in ("content", "refusal"):
        if text := _text(delta.get(key)):
            yield Piece(text)
    for call in _list(delta.get("tool_calls")):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            words = [_text(function.get("name")), _text(function.get("arguments"))]
            if any(words):
                yield Piece(" ".join(filter(None, words)), call=True)


def _text(value: object) -> str:
    """A text, or that of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) if isinstance(part, dict) else _text(part) for part in value)
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0


def add_way(line: argparse.ArgumentParser) -> None:
    """Declare --port-forward."""
    line.add_argument(
        "--port-forward",
        action="store_true",
        help="a port-forward to the pods instead of the API server's proxy; always with an API key, which is read "
        f"from the object's Secret or from ${KEY_VARIABLE}",
    )
