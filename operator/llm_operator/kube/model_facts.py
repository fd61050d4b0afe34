"""A model's config.json from its hub, fetched once per repository and revision, beside the reconciler."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download, model_info
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.models import ModelConfigError, ModelShape, parse_config_text

log = logging.getLogger("llm_operator.models")

FETCH_TIMEOUT_SECONDS = 20.0
RETRY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model.

    shape: None where nothing could be learned; then reason and message say why. pending: facts are on their way.
    """

    shape: ModelShape | None = None
    revision: str | None = None
    pending: bool = False
    reason: str = ""
    message: str = ""


class ModelFactsCache:
    """Facts by repository and revision; what failed is asked for again after a while."""

    def __init__(self, changed: Callable[[tuple[str, str]], None]) -> None:
        self._changed = changed
        self._facts: dict[tuple[str, str], ModelFacts] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, spec: LLMDeploymentSpec) -> ModelFacts:
        """The facts known now; a first question starts the fetch."""
        source = spec.model.hugging_face
        if source is None:
            kind = "persistentVolumeClaim" if spec.model.persistent_volume_claim else "modelScope"
            text = f"config.json of a model from {kind} is not read before the engine starts: its own defaults stand"
            return ModelFacts(reason="ModelNotInspected", message=text)
        key = (source.repository, source.revision or "")
        if key not in self._facts:
            text = f"reading config.json of {source.repository} from the hub"
            self._facts[key] = ModelFacts(pending=True, reason="ReadingModel", message=text)
            task = asyncio.create_task(self._fetch(key), name=f"facts-{source.repository}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._facts[key]

    async def _fetch(self, key: tuple[str, str]) -> None:
        repository, revision = key
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):
                facts = await asyncio.to_thread(fetch_facts, repository, revision or None)
        except TimeoutError:
            facts = ModelFacts(
                reason="HubUnreachable", message=f"the hub did not answer within {FETCH_TIMEOUT_SECONDS:.0f} s"
            )
        self._facts[key] = facts
        self._changed(key)
        if facts.reason in ("HubUnreachable", "HubError"):
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._facts.pop, key, None)


def fetch_facts(repository: str, revision: str | None) -> ModelFacts:
    """Read config.json from the hub; blocking. Never raises: what went wrong is in the facts.

    The hub's endpoint, a proxy and the offline mode are huggingface_hub's own settings (HF_ENDPOINT, HTTPS_PROXY,
    HF_HUB_OFFLINE). Gated repositories cannot be read, because the operator reads no Secrets.
    """
    try:
        commit = model_info(repository, revision=revision, timeout=FETCH_TIMEOUT_SECONDS).sha
        with tempfile.TemporaryDirectory(prefix="llm-operator-") as folder:
            path = hf_hub_download(repository, "config.json", revision=commit or revision, local_dir=folder)
            config = Path(path).read_bytes()
        return ModelFacts(shape=parse_config_text(config), revision=commit)
    except GatedRepoError:
        text = f"{repository} is gated: the operator reads no token, so the engine finds out; the plan stays Unknown"
        return ModelFacts(reason="ModelGated", message=text)
    except RepositoryNotFoundError:
        text = f"{repository} does not exist on the hub, or is private: check spec.model and its credentials"
        return ModelFacts(reason="ModelNotFound", message=text)
    except RevisionNotFoundError:
        return ModelFacts(reason="RevisionNotFound", message=f"{repository} has no revision {revision!r}")
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        return ModelFacts(reason="HubUnreachable", message=f"the hub cannot be reached: {_first_line(error)}")
    except EntryNotFoundError:
        return ModelFacts(reason="ModelUnknown", message=f"{repository} has no config.json")
    except ModelConfigError as error:
        return ModelFacts(reason="ModelUnknown", message=f"config.json of {repository}: {error}")
    except HfHubHTTPError as error:
        return ModelFacts(reason="HubError", message=f"the hub refused: {_first_line(error)}")
    except Exception as error:  # the client raises its transport's own errors for a hub that is away
        log.info("hub unreachable", exc_info=True)
        return ModelFacts(reason="HubUnreachable", message=f"the hub cannot be reached: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
