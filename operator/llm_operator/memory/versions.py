"""Versions of engines as numbers."""

from __future__ import annotations

import re

_VERSION = re.compile(r"([0-9]+)\.([0-9]+)(?:\.([0-9]+))?(?:\.post([0-9]+))?")


def release(version: str) -> tuple[int, int, int, int]:
    """A version as (major, minor, patch, post); what is left out is 0.

    Raises:
        ValueError: not a version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is not a version; expected such as 0.18.0 or 0.9.2.post1")
    major, minor, patch, post = (int(part or 0) for part in match.groups())
    return major, minor, patch, post
