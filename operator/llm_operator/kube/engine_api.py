"""Questions to a running engine, straight to its pod: short, bounded, and without an answer if there is none."""

from __future__ import annotations

import logging

import aiohttp

from llm_operator.kube.reading import UNREACHABLE

TIMEOUT_SECONDS = 5.0
"""A policy of the network that drops the connection must not hold up anything for longer."""

log = logging.getLogger("llm_operator.engine_api")


async def ask(address: str | None, port: int, path: str, limit: int) -> str:
    """The beginning of the answer to a GET; empty if the pod cannot be reached or does not answer 200.

    The address is the cluster's own, so neither a proxy of the environment nor a redirect of the engine has a say.

    Args:
        address: the pod's, IPv4 or IPv6; None if it has none yet.
        port: the engine's.
        path: such as /metrics.
        limit: bytes to read at the most.
    """
    if address is None:
        return ""
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}{path}"
    try:
        # A session for one question: there is one per pod in its life.
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status != 200:
                log.debug("%s answers %d", url, response.status)
                return ""
            return (await _beginning(response.content, limit)).decode(errors="replace")
    except (*UNREACHABLE, ValueError) as error:
        log.debug("%s does not answer: %s", url, str(error) or type(error).__name__)
        return ""


async def _beginning(content: aiohttp.StreamReader, limit: int) -> bytes:
    read = bytearray()
    while len(read) < limit and (chunk := await content.read(limit - len(read))):
        read += chunk
    return bytes(read)
