"""Remedies with vLLM's own options."""

from __future__ import annotations

UNLINKED = "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env"
