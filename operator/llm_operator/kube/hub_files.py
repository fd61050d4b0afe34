"""A model's config.json and the size of its weights from the Hugging Face hub: one blocking read, bounded in bytes.

Anyone can publish a repository, so every byte of it is input: an answer is read in pieces up to a limit, redirects are
followed without reading what comes with them, and nothing is written to a disk.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from urllib.parse import quote

import httpx2
from huggingface_hub import constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from llm_operator.facts import Fact, Pending, Unknowable
from llm_operator.foreign import UnreadableError, read_json
from llm_operator.kube.hub import CONFIG, INDEX, SINGLE, host, unreachable
from llm_operator.models import (
    QUANTIZATION_BESIDE,
    InvalidModelConfigError,
    ModelShape,
    UnknownModelError,
    header_length,
    read_index,
    tensor_bytes,
)
from llm_operator.modeltools.hub_private import build_hf_headers, validate_repo_id
from llm_operator.modeltools.redirects import check_redirect
from llm_operator.reconcile.model_facts import ModelFacts, described, facts_of

log = logging.getLogger("llm_operator.models")

REQUEST_SECONDS = 10.0
"""To connect, and between two pieces of an answer."""
LISTING_BYTES = 16 << 20
"""What the hub says of a repository; 100,000 files take about 8 MiB."""
CONFIG_BYTES = 4 << 20
INDEX_BYTES = 32 << 20
"""The largest known are those of models with some hundred experts in each layer: 10 to 30 MB."""
HEADER_BYTES = 25_000_000
"""huggingface_hub 2.4 reads no longer ones (constants.SAFETENSORS_MAX_HEADER_LENGTH)."""
FIRST_BYTES = 100_000
"""Of a file, in which most headers end (huggingface_hub's own number)."""
REFUSAL_BYTES = 64 << 10
REDIRECTS = 5
COMMIT = re.compile(r"[0-9a-f]{40}")


class _TooLongError(Exception):
    """A file that is longer than any real one."""


def fetch_facts(repository: str, revision: str | None) -> Fact[ModelFacts]:
    """Read config.json and the size of the weights from the hub; blocking. Never raises: the fact says what went wrong.

    The hub's endpoint, a proxy and the offline mode are huggingface_hub's own settings (HF_ENDPOINT, HTTPS_PROXY,
    HF_HUB_OFFLINE). Gated repositories cannot be read, because the operator reads no Secrets.
    """
    try:
        return _read(repository, revision)
    except Exception as error:  # the client raises its transport's own errors for a hub that is away
        log.debug("%s could not be read from the hub", repository, exc_info=True)
        words = {"repository": repository, "revision": revision, "said": _first_line(error), "host": host()}
        for kind, reason, text in _FAILURES:
            if isinstance(error, kind):
                return Unknowable(reason, text.format(**words))
        if isinstance(error, HfHubHTTPError):
            return Pending("HubError", "the hub {host} refused: {said}".format(**words), failed=True)
        return unreachable(_first_line(error))


# The first that an error is an instance of; the client's errors are subclasses of each other.
_FAILURES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (HFValidationError, "ModelNotFound", "{repository!r} is not a valid repository name, such as org/model"),
    (
        GatedRepoError,
        "ModelGated",
        "{repository} is gated on {host}: the operator reads no token, so the engine finds out; the plan stays Unknown",
    ),
    (
        RepositoryNotFoundError,
        "ModelNotFound",
        "{repository} does not exist on the hub {host}, or is private: check spec.model and its credentials",
    ),
    (RevisionNotFoundError, "RevisionNotFound", "{repository} has no revision {revision!r} on the hub {host}"),
    (
        OfflineModeIsEnabled,
        "HubUnreachable",
        "the hub cannot be reached: HF_HUB_OFFLINE is set; the engine's own defaults stand",
    ),
    (EntryNotFoundError, "ModelUnsupported", "{repository} has no config.json on the hub {host}"),
    (_TooLongError, "ModelUnsupported", "{repository}: {said}"),
    (
        MemoryError,
        "ModelUnsupported",
        "{repository}: config.json, or what gives the size of the weights, takes more memory to read than any model's",
    ),
)


def _read(repository: str, revision: str | None) -> Fact[ModelFacts]:
    """The facts of one repository. Raises the hub client's errors."""
    validate_repo_id(repository)
    commit, files = _listing(repository, revision)

    def read() -> tuple[ModelShape | UnknownModelError, int | None]:
        config = bytes(_file(repository, CONFIG, commit or revision, CONFIG_BYTES))
        named = QUANTIZATION_BESIDE in files
        beside = bytes(_file(repository, QUANTIZATION_BESIDE, commit or revision, CONFIG_BYTES)) if named else None
        shape = described(config, beside)
        if INDEX in files:
            return shape, _total_of_index(_file(repository, INDEX, commit or revision, INDEX_BYTES))
        return shape, _total_of_header(repository, commit or revision) if SINGLE in files else None

    return facts_of(read, repository, commit)


def _listing(repository: str, revision: str | None) -> tuple[str | None, frozenset[str]]:
    """The commit of a revision, None if the hub says none, and the names of its files."""
    url = f"{constants.ENDPOINT}/api/models/{repository}"
    url += f"/revision/{quote(revision, safe='')}" if revision else ""
    try:
        told = read_json(bytes(_get(url, LISTING_BYTES, "the list of its files")), LISTING_BYTES)
    except UnreadableError as error:
        raise ValueError(f"its answer about {repository} is not JSON: {error}") from None
    if not isinstance(told, dict):
        raise ValueError(f"its answer about {repository} is not a JSON object")
    commit = told.get("sha")
    if commit is not None and not (isinstance(commit, str) and COMMIT.fullmatch(commit)):
        # It goes into the status, and from there into what is fetched.
        raise ValueError(f"its answer about {repository} names a commit that is not 40 hexadecimal digits")
    siblings = told.get("siblings")
    names = (one.get("rfilename") for one in siblings if isinstance(one, dict)) if isinstance(siblings, list) else ()
    return commit, frozenset(name for name in names if isinstance(name, str))


def _total_of_index(content: bytearray) -> int | None:
    """Bytes of all tensors according to the index; None if it does not."""
    try:
        # Not both at once: the bytes and the text of a long index are half of what reading it takes.
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidModelConfigError(f"{INDEX} is not UTF-8") from None
    content.clear()
    return read_index(text).total_bytes


def _total_of_header(repository: str, revision: str | None) -> int | None:
    """Bytes of all tensors according to the header of the one file; None if it has no tensor."""
    start = _file(repository, SINGLE, revision, FIRST_BYTES, part=True)
    end = header_length(bytes(start[:8]))
    if end > HEADER_BYTES:
        raise _TooLongError(f"{SINGLE} has a header of {end:,} bytes; expected at most {HEADER_BYTES:,}")
    if end > len(start):
        start = _file(repository, SINGLE, revision, end, part=True)
    if end > len(start):
        raise InvalidModelConfigError(f"{SINGLE} ends after {len(start):,} bytes, within its header of {end:,}")

    header = start[8:end]
    start.clear()
    return tensor_bytes(header, SINGLE)


def _file(repository: str, name: str, revision: str | None, limit: int, *, part: bool = False) -> bytearray:
    """A file of a repository; with `part` its first bytes.

    Raises:
        _TooLongError: there are more, and a part is not enough.
    """
    return _get(hf_hub_url(repository, name, revision=revision), limit, name, part=part)


def _get(url: str, limit: int, what: str, *, part: bool = False) -> bytearray:
    """The body of an answer. Raises the hub client's errors, and _TooLongError."""
    # A compressed answer has no length that could be trusted. The limit holds for what is unpacked all the same.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if part:
        headers["Range"] = f"bytes=0-{limit - 1}"
    session = get_session()
    request: httpx2.Request | None = session.build_request("GET", url, headers=headers, timeout=REQUEST_SECONDS)
    for _ in range(REDIRECTS + 1):
        if request is None:
            break
        answer = session.send(request, stream=True, follow_redirects=False)
        try:
            if answer.has_redirect_location:
                check_redirect(answer)
                request = answer.next_request
                continue
            if answer.status_code not in (200, 206):
                _refuse(answer)
            body, whole = _body(answer, limit)
        finally:
            answer.close()
        if not whole and not part:
            raise _TooLongError(f"{what} has more than {limit:,} bytes, which no model's has")
        return body
    raise ValueError(f"it redirected more than {REDIRECTS} times")


def _body(answer: httpx2.Response, limit: int) -> tuple[bytearray, bool]:
    """The first bytes of an answer, and whether they are all."""
    body = bytearray()
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > limit:
            return body[:limit], False
    return body, True


def _refuse(answer: httpx2.Response) -> None:
    """Raise the client's error for a refusal, of which only the beginning is read."""
    body, _ = _body(answer, REFUSAL_BYTES)
    headers: Mapping[str, str] = {
        name: value
        for name, value in answer.headers.items()
        if name.lower() in ("x-error-code", "x-error-message", "content-type", "x-request-id")
    }
    hf_raise_for_status(
        httpx2.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)
    )
    raise ValueError(f"it answered {answer.status_code}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
