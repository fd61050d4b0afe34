"""Objects as older operators made them."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from llm_operator.manifests.common import compact_json
from llm_operator.manifests.kept_template import PACKED

PLAIN_BYTES = 128 << 10
"""Up to this the annotation held text."""


def template_text(template: dict[str, Any]) -> str:
    """What operators before revisions wrote into the annotation applied-template of the engine's Deployment."""
    text = compact_json(template)
    if len(text.encode()) <= PLAIN_BYTES:
        return text
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    packed = packer.compress(text.encode()) + packer.flush()
    return PACKED + base64.b64encode(packed).decode()
