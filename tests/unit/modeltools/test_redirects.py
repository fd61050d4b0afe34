"""Which redirects of a hub are followed."""

from __future__ import annotations

import socket
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_operator.modeltools.redirects import check_redirect

NAMES = {
    "hub.example": "192.0.2.1",
    "cdn.example": "192.0.2.2",
    "inner.example": "10.1.2.3",
    "metadata.example": "169.254.169.254",
    "own.example": "127.0.0.1",
}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def found(host: str, *rest: Any, **more: Any) -> Any:
        if host.endswith(".example") and host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return real(NAMES.get(host, host), *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


def followed(before: str, location: str, status: int = 302) -> bool:
    response = httpx2.Response(status, headers={"Location": location}, request=httpx2.Request("GET", before))
    said = ""
    try:
        check_redirect(response)
    except httpx2.UnsupportedProtocol as error:
        said = str(error)
    assert not said or "which is not followed" in said
    assert len(said) < 600
    return not said


@pytest.mark.parametrize(
    ("before", "location"),
    [
        ("https://hub.example/a", "/b"),
        ("https://hub.example/a", "https:///b"),
        ("https://hub.example/a", "https://cdn.example/b"),
        ("http://hub.example/a", "https://cdn.example/b"),
        ("http://hub.example/a", "http://cdn.example/b"),
        ("https://hub.example/a", "//cdn.example/b"),
        ("https://hub.example/a", "https://inner.example/b"),
        ("https://hub.example/a", "https://only-the-proxy-knows.example/b"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:9000/b"),
        ("http://127.0.0.1:8000/a", "http://own.example/b"),
    ],
)
def test_other_hosts_are_followed(before: str, location: str) -> None:
    assert followed(before, location)


@pytest.mark.parametrize(
    "location",
    [
        "http://hub.example/b", "http://cdn.example/b", "file:///etc/passwd", "ftp://cdn.example/", "data:,x", "gopher://x/",
        "https://metadata.example/", "https://own.example/", "https://localhost/", "https://127.1/", "https://0.0.0.0/",
        "https://0/", "https://[::]/", "https://[::1]/", "https://169.254.169.254/", "https://2852039166/",
        "https://0xa9fea9fe/", "https://0251.0376.0251.0376/", "https://[::ffff:169.254.169.254]/", "https://[fe80::1]/",
        "https://[fd00:ec2::254]/", "https://100.100.100.200/", "https://224.0.0.1/", "https://[ff02::1]/",
        "https://[::1", "https://user@169.254.169.254/", "//169.254.169.254/",
    ],
)  # fmt: skip
def test_nothing_leads_into_the_machine_or_to_another_scheme(location: str) -> None:
    assert not followed("https://hub.example/a", location)


def test_what_is_no_redirect_is_nothing() -> None:
    assert followed("https://hub.example/a", "file:///etc/passwd", status=200)


PARTS = [
    "https:",
    "http:",
    "file:",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "cdn.example",
    "169.254.169.254",
    "[::1]",
    "#",
    "?",
    "%",
    ".",
    " ",
    "x",
]


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=7).map("".join) | st.text(max_size=80))
def test_what_is_followed_is_what_was_looked_at(location: str) -> None:
    """By the client's own reading of any Location, which is the request that it would send next."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(302, headers=[(b"location", location.encode("utf-8", "surrogatepass"))])

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        try:
            response = client.send(client.build_request("GET", "https://192.0.2.1/a"), follow_redirects=False)
            check_redirect(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):  # its own refusals are refusals, too
            return
        if response.next_request is None:
            return  # it would not go anywhere
        assert response.next_request.url.scheme == "https"
        assert response.next_request.url.host not in ("169.254.169.254", "::1", "")
