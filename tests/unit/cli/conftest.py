"""Fixtures of the commands that read manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from tests.faulty_hub import FaultyHub


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Writes documents to a file and gives its path."""

    def write(*documents: object, name: str = "manifests.yaml") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump_all(documents))
        return str(path)

    return write


@pytest.fixture
def stub_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultyHub]:
    """A stub on loopback in the place of the hub."""
    with FaultyHub(tmp_path / "hub") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.url, raising=False)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub
