"""The pod template in its Deployment's annotation, as operators before revisions kept it. Only read.

Up to 128 KiB it is JSON, beyond that JSON packed by gzip in base64. The first look of this operator makes a revision of
it (manifests/revision.py) and takes the annotation away.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

from llm_operator.foreign import read_json

UNPACKED_BYTES = 1 << 20
"""Of a template."""
PACKED = "gzip:"
"""Begins a packed one."""


def read_template(text: str) -> Any:
    """The value that an annotation holds.

    Raises:
        ValueError: it is damaged, or longer than any that was written.
    """
    if not text.startswith(PACKED):
        return read_json(text, UNPACKED_BYTES)
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        unpacked = unpacker.decompress(base64.b64decode(text.removeprefix(PACKED), validate=True), UNPACKED_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return read_json(unpacked.decode(), UNPACKED_BYTES)
