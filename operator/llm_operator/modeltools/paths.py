"""The one way from foreign text to a path: a hub's file names, commits, markers, an index's shards, options.

No path is joined from such text anywhere else (tests/unit/modeltools/test_paths.py): what comes out of here lies below
its root, also when symbolic links are followed.
"""

from __future__ import annotations

from pathlib import Path

from llm_operator.modeltools.report import Reason, ToolError

NAME_BYTES = 255
"""Of one name; what Linux' file systems take (NAME_MAX)."""
PATH_BYTES = 1024
DEEPEST = 16
"""Names in a path; repositories have two or three."""


def parts_of(text: object, reason: Reason = "ModelPathMissing") -> tuple[str, ...]:
    """The names of a relative path, which leads nowhere else.

    Raises:
        ToolError: with that reason: empty, absolute, too long or deep, with a name that is "." or "..", or with
            characters that cannot be printed.
    """
    shown = repr(text)[:200]
    if not isinstance(text, str) or not text:
        raise ToolError(reason, f"{shown} is not a path")
    names = tuple(text.split("/"))
    if any(name in ("", ".", "..") for name in names):
        raise ToolError(reason, f"the path {shown} leads elsewhere: expected names with / between them")
    if not text.isprintable():  # half of a surrogate pair, too, which no encoding has
        raise ToolError(reason, f"the path {shown} has characters that cannot be printed")
    if (
        max(len(name.encode()) for name in names) > NAME_BYTES
        or len(text.encode()) > PATH_BYTES
        or len(names) > DEEPEST
    ):
        most = f"{NAME_BYTES} bytes a name, {PATH_BYTES:,} bytes and {DEEPEST} names"
        raise ToolError(reason, f"the path {shown} is too long: expected at most {most}")
    return names


def below(root: Path, text: object, reason: Reason = "ModelPathMissing") -> Path:
    """The path of that name below a root, which need not exist yet.

    Raises:
        ToolError: with that reason: the text is not such a path, or a symbolic link on the way leads out of the root.
    """
    path = root.joinpath(*parts_of(text, reason))
    top = root.resolve()
    if top not in path.resolve().parents:
        raise ToolError(reason, f"the path {str(text)[:200]!r} leads out of {root}, by a symbolic link")
    return path


def beside(path: Path, ending: str) -> Path:
    """The path beside another, with an ending of ours: .partial, .lock."""
    return path.with_name(f"{path.name}{ending}")


def normal(text: str) -> str:
    """A path that a person wrote, without what means nothing: "/a/./b/" is "a/b", "." is ""."""
    return "/".join(name for name in text.split("/") if name not in ("", "."))
