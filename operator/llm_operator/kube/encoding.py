"""JSON as the API server must get it, so that it keeps what was meant."""

from __future__ import annotations

import re

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def as_go(text: bytes) -> bytes:
    """JSON as Go's encoder writes it: what the API server keeps as text must not change when it is written again.

    The data of a ControllerRevision is compared byte by byte at each patch of its metadata, such as the garbage
    collector's, and refused as a change if it differs (Kubernetes 1.36, ValidateControllerRevisionUpdate).
    """
    text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return text if text.isascii() else text.decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def yaml_safe(text: bytes) -> bytes:
    """JSON that a YAML parser reads as the same values: applies are sent as YAML.

    YAML refuses some control characters that JSON allows, and folds three that it takes for ends of lines into spaces.
    """
    if text.isascii() and b"\x7f" not in text:
        return text
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode()).encode()
