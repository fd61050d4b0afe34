"""What huggingface_hub 2.4 has in private modules only, in one place; tests/unit/kube/test_hub_private.py holds each.

- `http_get`: download into an open file, from a byte on. The public functions write files with random names.
- `default_client_factory`: the client that the package makes for itself, to which limits are added.
- `parse_ratelimit_headers`: how long a hub that refuses wants to be left alone.
- `build_hf_headers`: the headers of a request, with the token that the package finds.
- `validate_repo_id`: whether a repository's name is one.
"""

from __future__ import annotations

from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import default_client_factory, parse_ratelimit_headers
from huggingface_hub.utils._validators import validate_repo_id

__all__ = ["build_hf_headers", "default_client_factory", "http_get", "parse_ratelimit_headers", "validate_repo_id"]
