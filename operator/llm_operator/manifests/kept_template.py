"""The pod template in its Deployment's annotation: packed if it is long, and never longer than an annotation may be.

All annotations of an object together may have 256 KiB. A template of long variables is more than that as text.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

from llm_operator.foreign import read_json
from llm_operator.manifests.common import compact_json

JSON = dict[str, Any]
PLAIN_BYTES = 128 << 10
"""Up to this it is kept as text, which people can read."""
UNPACKED_BYTES = 1 << 20
"""Of a template; etcd takes 1.5 MiB of an object."""
ANNOTATIONS_BYTES = 256 << 10
"""Of all annotations of an object (apimachinery, TotalAnnotationSizeLimitB)."""
MARGIN_BYTES = 2 << 10
"""For annotations of others, such as the revision that the Deployment controller writes."""
_PACKED = "gzip:"


def template_text(template: JSON) -> str:
    """What the annotation holds."""
    text = compact_json(template)
    if len(text.encode()) <= PLAIN_BYTES:
        return text
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    packed = packer.compress(text.encode()) + packer.flush()
    return _PACKED + base64.b64encode(packed).decode()


def read_template(text: str) -> Any:
    """The value that an annotation holds.

    Raises:
        ValueError: it is damaged, or longer than any that was written.
    """
    if not text.startswith(_PACKED):
        return read_json(text, UNPACKED_BYTES)
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        unpacked = unpacker.decompress(base64.b64decode(text.removeprefix(_PACKED), validate=True), UNPACKED_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return read_json(unpacked.decode(), UNPACKED_BYTES)


def excess(deployment: Mapping[str, Any]) -> int:
    """Bytes by which the annotations of a Deployment, or of its pods, are too long; 0 if they are not."""
    metas = (deployment["metadata"], deployment["spec"]["template"]["metadata"])
    sizes = (_size(meta.get("annotations") or {}) for meta in metas)
    return max(0, max(sizes) + MARGIN_BYTES - ANNOTATIONS_BYTES)


def _size(annotations: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items())
