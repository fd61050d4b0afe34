"""Models from the Hugging Face hub, with its own client.

Not with snapshot_download: huggingface_hub 2.4.0 writes every download to a file with a random name and deletes it when
the download fails (file_download.py: _download_to_tmp_and_move), so that nothing survives the process. Its parts are
used instead: the listing, the URLs, the headers and http_get, which continues a file that has a beginning.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import constants, errors

from llm_operator.modeltools import content
from llm_operator.modeltools.hub import (
    COMMIT,
    MOST_FILES,
    RateLimitedError,
    RemoteFile,
    Transfer,
    first_line,
    listing,
    refused_repository,
    unreachable,
    unwritable,
)
from llm_operator.modeltools.hub_private import (
    build_hf_headers,
    default_client_factory,
    http_get,
    parse_ratelimit_headers,
)
from llm_operator.modeltools.layout import SourceKind
from llm_operator.modeltools.redirects import check_redirect
from llm_operator.modeltools.report import Reason, ToolError
from llm_operator.modeltools.text import natural_number

Answer = TypeVar("Answer")

REQUEST_SECONDS = 30.0
"""For questions to the hub; transfers have HF_HUB_DOWNLOAD_TIMEOUT (10 s without a byte)."""
PIECE_BYTES = 256 * 1024
"""What is asked from the connection at a time. huggingface_hub's own 10 MiB reach the disk, and survive a cut, only as
a whole, which on a slow line is indistinguishable from a stall."""


class HuggingFace:
    """The hub that HF_ENDPOINT names."""

    kind: SourceKind = "hf"

    def __init__(self) -> None:
        """Set the client up for the whole process."""
        huggingface_hub.set_client_factory(_client)
        constants.DOWNLOAD_CHUNK_SIZE = PIECE_BYTES

    @functools.cached_property
    def _api(self) -> huggingface_hub.HfApi:
        # Half of the client's import time, which the process that downloads can do without.
        return huggingface_hub.HfApi(library_name="llm-operator")

    def commit(self, repository: str, revision: str | None) -> str:
        """See Hub."""
        if revision is not None and COMMIT.fullmatch(revision):
            return revision

        def ask() -> str:
            commit: str | None = self._api.model_info(repository, revision=revision, timeout=REQUEST_SECONDS).sha
            # It becomes a directory's name.
            if commit is None or not COMMIT.fullmatch(commit):
                raise ToolError("HubUnreachable", f"the hub does not report a commit of {repository}", retry=True)
            return commit

        return self._told(ask, repository, revision)

    def files(self, repository: str, commit: str) -> list[RemoteFile]:
        """See Hub."""

        def ask() -> list[RemoteFile]:
            entries = self._api.list_repo_tree(repository, recursive=True, revision=commit)
            # Folders, too, count as what is listed: there are fewer of them than files.
            some = itertools.islice(entries, 2 * MOST_FILES)
            return listing((_file(entry) for entry in some if hasattr(entry, "blob_id")), repository)

        return self._told(ask, repository, commit)

    def fetch(self, file: RemoteFile, target: Transfer) -> str:
        """See Hub."""
        # Plain HTTP has no way to more than 50 GB in one request (file_download.py: http_get).
        wanted = target.xet or file.bytes > constants.MAX_HTTP_DOWNLOAD_SIZE
        by_xet = file.xet and wanted and not constants.HF_HUB_DISABLE_XET
        transfer = _by_xet if by_xet else _by_http
        return self._told(lambda: transfer(file, target), target.repository, target.commit, file)

    def _told(
        self, ask: Callable[[], Answer], repository: str, revision: str | None, file: RemoteFile | None = None
    ) -> Answer:
        """Do something, and translate the client's errors."""
        try:
            return ask()
        except (ToolError, content.CorruptError, MemoryError):
            raise
        except Exception as error:
            raise _translated(error, repository, revision, file) from error


def _file(entry: Any) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    return RemoteFile(entry.path, entry.size, sha256, None if sha256 else entry.blob_id, entry.xet_hash is not None)


def _by_http(file: RemoteFile, target: Transfer) -> str:
    beginning = target.incomplete(file)
    if beginning.exists() and beginning.stat().st_size > file.bytes:
        beginning.unlink()
    with content.HashedFile(beginning, file, target.alive) as written:
        try:
            http_get(
                huggingface_hub.hf_hub_url(target.repository, file.name, revision=target.commit),
                written,  # type: ignore[arg-type]  # it has every method that http_get calls
                resume_size=written.size,
                headers=build_hf_headers(library_name="llm-operator"),
                expected_size=file.bytes,
                displayed_filename=file.name,
            )
        except OSError as error:
            # The only plain OSError without a number: another size than the one listed.
            if type(error) is OSError and error.errno is None:
                raise content.CorruptError(f"{file.name}: {first_line(error)}") from error
            raise
        sha256 = written.verified()
    path = file.within(target.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    beginning.replace(path)
    return sha256


def _by_xet(file: RemoteFile, target: Transfer) -> str:
    path = file.within(target.folder)
    huggingface_hub.hf_hub_download(target.repository, file.name, revision=target.commit, local_dir=target.folder)
    return content.verify(path, file, target.alive)


def _client() -> httpx2.Client:
    made = default_client_factory()
    made.timeout = httpx2.Timeout(REQUEST_SECONDS)
    made.event_hooks["response"] += [_refuse_when_limited, check_redirect]
    return made


def _refuse_when_limited(response: httpx2.Response) -> None:
    """Called for every response: the caller waits as long as the hub asks, where it is seen, and not the client."""
    if response.status_code != 429:
        return
    limits = parse_ratelimit_headers(response.headers)
    after = natural_number(response.headers.get("Retry-After", ""))
    seconds = float(after) if after is not None else None
    if seconds is None and limits is not None and limits.remaining == 0:
        seconds = float(limits.reset_in_seconds)
    told = f"{seconds:.0f} s" if seconds is not None else "an unknown time"
    raise RateLimitedError(
        f"the hub limits requests (429) and asks to wait {told}: with a token the limits are higher", seconds
    )


# The first that an error is an instance of; the client's errors are subclasses of each other.
_REFUSALS: tuple[tuple[type[Exception], Reason, str], ...] = (
    (errors.HFValidationError, "ModelNotFound", "{repository!r} is not a valid repository name"),
    (
        errors.GatedRepoError,
        "ModelGated",
        "{repository} is gated: accept its terms on {page} with the account of the token, and give that token",
    ),
    (errors.DisabledRepoError, "ModelAccessDenied", "{repository} is disabled by the hub"),
    (errors.RevisionNotFoundError, "RevisionNotFound", "{repository} has no revision {revision!r}: see {page}"),
)


def _translated(error: Exception, repository: str, revision: str | None, file: RemoteFile | None) -> ToolError:
    page = f"{constants.ENDPOINT}/{repository}"
    for kind, reason, text in _REFUSALS:
        if isinstance(error, kind):
            return refused_repository(reason, text.format(repository=repository, revision=revision, page=page), error)
    if isinstance(error, errors.RemoteEntryNotFoundError) and file is not None:
        return refused_repository("WeightsMissing", f"{repository} lists {file.name}, but the hub has it not", error)
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, repository, page)
    return unwritable(error) or unreachable(constants.ENDPOINT, error)


def _refused(error: errors.HfHubHTTPError, repository: str, page: str) -> ToolError:
    status = error.response.status_code
    given = huggingface_hub.get_token() is not None
    # The hub answers 401 for what does not exist as long as it does not know who asks.
    if status == 401 and (given or not isinstance(error, errors.RepositoryNotFoundError)):
        return refused_repository(
            "ModelAccessDenied", f"the hub does not accept the token for {repository}: give a valid one", error
        )
    if status in (401, 404):
        advice = "check the name, and that the token may read it" if given else "check the name, or give a token"
        return refused_repository("ModelNotFound", f"{repository} does not exist, or is private: {advice}", error)
    if status == 403:
        return refused_repository(
            "ModelGated",
            f"the token may not read {repository}: accept its terms on {page}, or give the token that right",
            error,
        )
    return unreachable(constants.ENDPOINT, error)
