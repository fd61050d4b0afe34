"""Models from ModelScope, with modelscope_hub, the client that its modelscope package is built on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import modelscope_hub
from modelscope_hub import errors

from llm_operator.modeltools import content
from llm_operator.modeltools.hub import (
    COMMIT,
    RateLimitedError,
    RemoteFile,
    Transfer,
    first_line,
    listing,
    refused_repository,
    unreachable,
    unwritable,
)
from llm_operator.modeltools.layout import SourceKind
from llm_operator.modeltools.report import ToolError


class ModelScope:
    """The hub that MODELSCOPE_ENDPOINT names."""

    kind: SourceKind = "ms"

    def __init__(self) -> None:
        self._api = modelscope_hub.HubApi(user_agent="llm-operator")

    def commit(self, repository: str, revision: str | None) -> str:
        """See Hub.

        ModelScope's API names no commit of a branch (the listing's LatestCommitter has an empty Id); but every file has
        the commit that changed it last, and the newest of these is the branch's.
        """
        if revision is not None and COMMIT.fullmatch(revision):
            return revision
        entries = self._entries(repository, revision or "master")

        def read() -> str:
            newest = max(entries, key=lambda entry: int(entry.get("CommittedDate") or 0), default={})
            return str(newest.get("Revision") or "")

        commit: str = self._told(read, repository, revision or "master")
        if not COMMIT.fullmatch(commit):
            raise ToolError("HubUnreachable", f"the hub does not report a commit of {repository}", retry=True)
        return commit

    def files(self, repository: str, commit: str) -> list[RemoteFile]:
        """See Hub."""
        entries = self._entries(repository, commit)

        def read() -> list[RemoteFile]:
            found = [entry for entry in entries if entry.get("Type") != "tree"]
            files = (RemoteFile(entry["Path"], int(entry["Size"]), entry.get("Sha256") or None) for entry in found)
            return listing(files, repository)

        files: list[RemoteFile] = self._told(read, repository, commit)
        return files

    def fetch(self, file: RemoteFile, target: Transfer) -> str:
        """See Hub. The client keeps the beginning beside the file, continues it, and hashes while it receives."""

        file.within(target.folder)

        def ask() -> str:
            path = self._api.download_file(
                target.repository,
                "model",
                file.name,
                revision=target.commit,
                local_dir=target.folder,
                expected_sha256=file.sha256,
                file_size=file.bytes,
            )
            # The client has compared it; without a hash of the hub there was nothing to compare with.
            return file.sha256 or content.verify(path, file, target.alive)

        return str(self._told(ask, target.repository, target.commit))

    def _entries(self, repository: str, revision: str) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            # list_repo_files of HubApi leaves the commits out.
            return self._api.legacy.list_repo_files(repository, "model", revision=revision, recursive=True)

        entries: list[dict[str, Any]] = self._told(ask, repository, revision)
        return entries

    def _told(self, ask: Callable[[], Any], repository: str, revision: str) -> Any:
        """Do something, and translate the client's errors."""
        try:
            return ask()
        except errors.FileIntegrityError as error:
            # The client has tried it three times.
            raise ToolError(
                "WeightsCorrupt",
                f"{first_line(error)}. The copy of {repository} at the hub is damaged, or something between changes "
                "it: try another revision",
            ) from error
        except errors.NotExistError as error:
            raise self._missing(error, repository, revision) from error
        except (ToolError, MemoryError):
            raise
        except Exception as error:
            raise self._translated(error, repository) from error

    def _missing(self, error: Exception, repository: str, revision: str) -> ToolError:
        try:
            exists = self._api.repo_exists(repository, "model")
        except Exception as second:
            return self._translated(second, repository)
        if exists:
            return refused_repository("RevisionNotFound", f"{repository} has no revision {revision!r}", error)
        return refused_repository(
            "ModelNotFound", f"{repository} does not exist, or is private: check the name and the token", error
        )

    def _translated(self, error: Exception, repository: str) -> ToolError:
        endpoint = str(self._api.legacy.endpoint)
        if isinstance(error, errors.RateLimitError):
            text = "the hub limits requests (429): with a token the limits are higher"
            return RateLimitedError(text, error.retry_after)
        if isinstance(error, errors.AuthenticationError):
            return refused_repository(
                "ModelAccessDenied", f"the hub does not accept the token for {repository}: give a valid one", error
            )
        if isinstance(error, errors.PermissionDeniedError):
            return refused_repository(
                "ModelGated", f"the token may not read {repository}: request access on {endpoint}", error
            )
        return unwritable(error) or unreachable(endpoint, error)
