"""Reasons of engines whose end says little of its cause."""

from __future__ import annotations

from llm_operator.reasons.types import READY_AND_STALLED, Reason

ENDS: tuple[Reason, ...] = (
    Reason(
        "EngineDied",
        "Engine",
        "the engine's process died while it served",
        "see the first error that `kubectl logs --previous` has",
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineProcessDied",
        "Engine",
        "a process of the engine died while it started, and its log does not say why",
        "see the first traceback that `kubectl logs --previous` has",
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineCodeFailed",
        "Engine",
        "the engine failed in its own code, without a word of what it did not like",
        "use another engine.version; with TurboMind, set engine.backend to PyTorch",
        fields=("spec.engine.version", "spec.engine.backend"),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineAborted",
        "Engine",
        "the engine aborted after one of its internal checks failed",
        "see in `kubectl logs --previous` what it checked, or use another engine.version",
        fields=("spec.engine.version",),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineCrashed",
        "Engine",
        "a segmentation fault",
        "use another engine.version or engine.image",
        fields=("spec.engine.version",),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineKilled",
        "Engine",
        "killed by the node for its memory, or by the kubelet after the startup or grace period",
        "see in `kubectl describe pod` who killed it: raise resources.limits.memory for the node, "
        "startupTimeoutSeconds for the kubelet",
        fields=(
            "spec.resources.limits.memory",
            "spec.startupTimeoutSeconds",
        ),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineTerminated",
        "Engine",
        "the engine ended after SIGTERM",
        "see in `kubectl describe pod` who ended it",
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineExited",
        "Engine",
        "the engine ended by itself, with exit code 0 and without an error",
        "see the end of its log: `kubectl logs --previous`",
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "EngineFailed",
        "Engine",
        "anything else; the message quotes the last line of its log",
        "see the end of its log: `kubectl logs --previous`",
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "StartupHung",
        "Engine",
        "the engine made no progress while it started: its processes wait for each other",
        "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.env",
        ),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
    Reason(
        "StartStuck",
        "Engine",
        "an engine that loads has said nothing new in its log for 10 minutes; it still runs",
        "do what the message says: look at the speed of the volume, or set NCCL_P2P_DISABLE=1 in "
        "engine.env; startupTimeoutSeconds ends it",
        fields=("spec.engine.extraArgs", "spec.engine.env", "spec.startupTimeoutSeconds"),
        severity="Warning",
    ),
    Reason(
        "StartupTimeout",
        "Engine",
        "the kubelet ended the engine before it was ready: the startup probe gave up",
        "raise startupTimeoutSeconds",
        fields=("spec.startupTimeoutSeconds",),
        conditions=READY_AND_STALLED,
        stalls="after 3 restarts",
    ),
)
