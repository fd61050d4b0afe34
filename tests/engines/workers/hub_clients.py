"""Asks a hub with every client that an engine or its libraries use; prints what became of each, as JSON."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import urllib.request

REPOSITORY, XET = sys.argv[1], sys.argv[2]
URL = f"{os.environ['HF_ENDPOINT']}/api/models/{REPOSITORY}"


def hub() -> None:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    hf_hub_download(REPOSITORY, "model.safetensors")


def xet() -> None:
    """The stub has no store of Xet's: an answer of HTTP is as far as it gets, and is after the handshake."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415

    try:
        hf_hub_download(REPOSITORY, XET)
    except RuntimeError as error:
        if "404" not in str(error) or "/reconstructions/" not in str(error):
            raise


def transformers() -> None:
    from transformers import AutoConfig  # noqa: PLC0415

    AutoConfig.from_pretrained(REPOSITORY)


def requests() -> None:
    import requests  # noqa: PLC0415

    requests.get(URL, timeout=30).raise_for_status()


def httpx() -> None:
    import httpx  # noqa: PLC0415

    httpx.get(URL).raise_for_status()


def httpx2() -> None:
    import httpx2  # noqa: PLC0415

    httpx2.get(URL).raise_for_status()


def aiohttp() -> None:
    import aiohttp  # noqa: PLC0415

    async def ask() -> None:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(URL) as answer:
            answer.raise_for_status()

    asyncio.run(ask())


def standard_library() -> None:
    urllib.request.urlopen(URL, timeout=30).close()


CLIENTS = {
    "huggingface_hub": hub,
    "hf_xet": xet,
    "transformers": transformers,
    "requests": requests,
    "httpx": httpx,
    "httpx2": httpx2,
    "aiohttp": aiohttp,
    "urllib": standard_library,
}
found = {}
for name in sys.argv[3:] or CLIENTS:
    if importlib.util.find_spec(name) is None:
        continue
    try:
        CLIENTS[name]()
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
    else:
        found[name] = "ok"
print(json.dumps(found))
