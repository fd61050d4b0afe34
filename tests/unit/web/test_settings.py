from __future__ import annotations

import pytest

from chat_page.settings import Settings, SettingsError, base_url, read


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://localhost:23333", "http://localhost:23333/v1"),
        ("http://localhost:23333/", "http://localhost:23333/v1"),
        ("https://api.example/llm/v1", "https://api.example/llm/v1"),
        ("http://[::1]:80/v1/", "http://[::1]:80/v1"),
    ],
)
def test_a_servers_url_becomes_the_base_of_its_api(given: str, base: str) -> None:
    assert base_url(given) == base


@pytest.mark.parametrize("given", ["", "localhost:23333", "ftp://a", "http://", "http://a:x", "http://a/v1?b=c"])
def test_what_is_no_url_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="isn't a server's URL"):
        read(["--api", given], {})


def test_secrets_come_from_the_environment() -> None:
    settings = read(["--api", "http://a"], {"OPENAI_API_KEY": "key\n", "CHAT_PAGE_PASSWORD": " word \n"})
    assert settings == Settings(api="http://a/v1", api_key="key", password=" word ")


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--context", "0"], {}, "--context 0 isn't a number of tokens"),
        (["--root-path", "chat/"], {}, "isn't a path"),
        ([], {"CHAT_PAGE_PASSWORD": "\n"}, "CHAT_PAGE_PASSWORD is empty"),
    ],
)
def test_bad_settings_are_refused(arguments: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(["--api", "http://a", *arguments], environment)
