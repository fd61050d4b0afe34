"""`python3 devtools/release_chart.py CHART REGISTRY DIGESTS`: what a release writes into the chart before it is pushed.

values.yaml then names REGISTRY and each image's digest: DIGESTS is a folder with one file per image, which holds its
digest. Standard library only, and text in, text out, so that the comments of values.yaml stay.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

OWNERS = {"operator": "image", "model-tools": "modelTools", "web": "webUI"}
"""The top-level value below which an image's digest is."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def with_images(values: str, registry: str, digests: Mapping[str, str]) -> str:
    """values.yaml with a registry and digests by the name of the image.

    Raises:
        ValueError: a digest is not one, or values.yaml has no place for it.
    """
    values, found = re.subn(r'^imageRegistry: ""$', f'imageRegistry: "{registry}"', values, flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"values.yaml has {found} empty values imageRegistry; expected 1")
    for name, owner in OWNERS.items():
        digest = digests[name]
        if not DIGEST.fullmatch(digest):
            raise ValueError(f"{name}: {digest!r} is not a digest; expected sha256: and 64 hexadecimal digits")
        section = re.compile(rf'(^{owner}:\n(?:[ \t#].*\n|\n)*?[ ]+digest: )""$', re.MULTILINE)
        values, found = section.subn(rf'\g<1>"{digest}"', values)
        if found != 1:
            raise ValueError(f"values.yaml has {found} empty digests below {owner}; expected 1")
    return values


def main() -> None:
    """Rewrite values.yaml of a chart; the quantizing image is named by its digest as well."""
    chart, registry, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    digests = {path.name: path.read_text().strip() for path in folder.iterdir()}
    values = with_images((chart / "values.yaml").read_text(), registry, digests)
    quantize = f'  quantizeImage: "{registry}/lmdeploy@{digests["lmdeploy"]}"'
    (chart / "values.yaml").write_text(values.replace('  quantizeImage: ""', quantize))


if __name__ == "__main__":
    main()
