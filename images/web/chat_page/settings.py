"""What the page is started with."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

API_KEY_VARIABLE = "OPENAI_API_KEY"
PASSWORD_VARIABLE = "CHAT_PAGE_PASSWORD"
USER_NAME = "chat"
PORT = 8080


class SettingsError(Exception):
    """A setting is wrong; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one page.

    Attributes:
        api: base URL of the OpenAI-compatible API, with its `/v1`.
        model: name of the model; empty: the first that the API lists.
        engine: engine and version in words; empty: not shown.
        kv_cache: number format of the KV cache; empty: not shown.
        context: longest prompt plus answer, in tokens; None: what the API says, if it does.
        host: address to listen on.
        port: port to listen on.
        root_path: path under which a proxy shows the page, such as `/chat`; empty: `/`.
        user_name: whom the page lets in, with a password.
        password: the password; empty: everyone who reaches the page may use it.
        api_key: sent to the API, never to the browser; empty: none.
    """

    api: str
    model: str = ""
    engine: str = ""
    kv_cache: str = ""
    context: int | None = None
    host: str = "0.0.0.0"
    port: int = PORT
    root_path: str = ""
    user_name: str = USER_NAME
    password: str = ""
    api_key: str = ""


def read(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that a command line and the environment give.

    Raises:
        SettingsError: a value can't work.
        SystemExit: the command line is wrong, or requests help.
    """
    parser = argparse.ArgumentParser(
        prog="chat-page",
        description="A chat page in front of an OpenAI-compatible server.",
        epilog=f"The API key comes from {API_KEY_VARIABLE}, the page's password from {PASSWORD_VARIABLE}.",
    )
    parser.add_argument("--api", required=True, metavar="URL", help="the server, such as http://localhost:23333")
    parser.add_argument("--model", default="", help="name of the model (default: the first that the server lists)")
    parser.add_argument("--engine", default="", help="engine and version, to show")
    parser.add_argument("--kv-cache", default="", help="number format of the KV cache, to show")
    parser.add_argument("--context", type=int, default=None, help="longest prompt plus answer, in tokens, to show")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument("--root-path", default="", help="path under which a proxy shows the page, such as /chat")
    parser.add_argument("--user-name", default=USER_NAME, help="name to log in with (default: %(default)s)")
    said = parser.parse_args(arguments)
    if said.context is not None and said.context < 1:
        raise SettingsError(f"--context {said.context} isn't a number of tokens: give 1 or more, or leave it out")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", said.root_path):
        raise SettingsError(f"--root-path {said.root_path!r} isn't a path: it begins with / and ends without one")
    password = environment.get(PASSWORD_VARIABLE)
    if password is not None and not password.strip():
        raise SettingsError(f"{PASSWORD_VARIABLE} is empty: give a password, or unset it to let everyone in")
    return Settings(
        api=base_url(said.api),
        model=said.model,
        engine=said.engine,
        kv_cache=said.kv_cache,
        context=said.context,
        host=said.host,
        port=said.port,
        root_path=said.root_path,
        user_name=said.user_name,
        # A Secret made from a file ends with the file's newline.
        password=(password or "").rstrip("\r\n"),
        api_key=environment.get(API_KEY_VARIABLE, "").strip(),
    )


def base_url(text: str) -> str:
    """A server's URL as the base of its API: `http://host:23333` becomes `http://host:23333/v1`.

    Raises:
        SettingsError: it is not an HTTP URL.
    """
    try:
        url = urlsplit(text)
        correct = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        correct = False
    if not correct or url.query or url.fragment:
        raise SettingsError(f"--api {text} isn't a server's URL: it looks like http://localhost:23333")
    path = url.path.rstrip("/")
    return f"{url.scheme}://{url.netloc}{path or '/v1'}"
