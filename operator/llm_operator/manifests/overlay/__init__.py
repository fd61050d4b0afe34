"""The user's own additions to a pod template: checked by name, merged by Kubernetes' strategic-merge rules. Pure.

What a pod template may hold, and by which key its lists are merged, is in `pod_template.json`, which
`python -m devcluster.pod_schema` writes from the API server's own OpenAPI document.
"""

from llm_operator.manifests.overlay.check import FIELDS, check_overlay, check_overlays, overlay_of
from llm_operator.manifests.overlay.children import merged
from llm_operator.manifests.overlay.paths import in_words_of_overlay
from llm_operator.manifests.overlay.table import pod_fields

__all__ = ["FIELDS", "check_overlay", "check_overlays", "in_words_of_overlay", "merged", "overlay_of", "pod_fields"]
