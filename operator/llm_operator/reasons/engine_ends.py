"""Reasons of engines whose end says little of its cause."""

from __future__ import annotations

from llm_operator.reasons.types import Reason, death

ENDS: tuple[Reason, ...] = (
    death(
        "EngineDied",
        "the engine's process died while it served",
        "see the first error that `kubectl logs --previous` has",
    ),
    death(
        "EngineProcessDied",
        "a process of the engine died while it started, and its log does not say why",
        "see the first traceback that `kubectl logs --previous` has",
    ),
    death(
        "EngineCodeFailed",
        "the engine failed in its own code, without a word of what it did not like",
        "use another engine.version; with TurboMind, set engine.backend to PyTorch",
        fields=("spec.engine.version", "spec.engine.backend"),
    ),
    death(
        "SpeculationFailed",
        "the engine's code for speculative decoding failed",
        "remove --speculative-config or --speculative-algorithm from engine.extraArgs, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.version",
        ),
    ),
    death(
        "MultimodalFailed",
        "the engine's code for images, video or sound failed",
        "add --language-model-only to engine.extraArgs where text is enough, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.version",
        ),
    ),
    death(
        "StructuredOutputFailed",
        "the engine's code for structured output failed",
        "name another backend of it in --structured-outputs-config of engine.extraArgs, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.version",
        ),
    ),
    death(
        "KVTransferFailed",
        "the engine's code that moves KV caches between engines or to other memory failed",
        "remove --kv-transfer-config from engine.extraArgs, or correct what the message names in it",
        fields=("spec.engine.extraArgs",),
    ),
    death(
        "GraphCaptureFailed",
        "the engine failed while it captured CUDA graphs",
        "add --enforce-eager (vLLM) or --eager-mode (LMDeploy) to engine.extraArgs, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.version",
        ),
    ),
    death(
        "KVCacheLayoutFailed",
        "the engine cannot lay out a KV cache for this model as it is configured",
        "remove --speculative-config, --block-size and --kv-cache-dtype from engine.extraArgs, set "
        "kvCache.quantization to None, or use another engine.version",
        fields=(
            "spec.engine.extraArgs",
            "spec.kvCache.quantization",
            "spec.engine.version",
        ),
    ),
    death(
        "ModelCodeFailed",
        "the engine's code for the model's architecture failed",
        "use another engine.version, another engine.backend or the other engine; or add "
        "--model-impl=transformers to engine.extraArgs of vLLM",
        fields=(
            "spec.engine.version",
            "spec.engine.backend",
            "spec.engine.extraArgs",
        ),
    ),
    death(
        "EngineAborted",
        "the engine aborted after one of its internal checks failed",
        "see in `kubectl logs --previous` what it checked, or use another engine.version",
        fields=("spec.engine.version",),
    ),
    death(
        "EngineCrashed",
        "a segmentation fault",
        "use another engine.version or engine.image",
        fields=("spec.engine.version",),
    ),
    death(
        "EngineKilled",
        "killed by the node for its memory, or by the kubelet after the startup or grace period",
        "see in `kubectl describe pod` who killed it: raise resources.limits.memory for the node, "
        "startupTimeoutSeconds for the kubelet",
        fields=(
            "spec.resources.limits.memory",
            "spec.startupTimeoutSeconds",
        ),
    ),
    death(
        "EngineTerminated",
        "the engine ended after SIGTERM",
        "see in `kubectl describe pod` who ended it",
    ),
    death(
        "EngineExited",
        "the engine ended by itself, with exit code 0 and without an error",
        "see the end of its log: `kubectl logs --previous`",
    ),
    death(
        "EngineFailed",
        "anything else; the message quotes the last line of its log",
        "see the end of its log: `kubectl logs --previous`",
    ),
    death(
        "StartupHung",
        "the engine made no progress while it started: its processes wait for each other",
        "add --disable-custom-all-reduce to engine.extraArgs, or set NCCL_P2P_DISABLE=1 in engine.env",
        fields=(
            "spec.engine.extraArgs",
            "spec.engine.env",
        ),
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
    death(
        "StartupTimeout",
        "the kubelet ended the engine before it was ready: the startup probe gave up",
        "raise startupTimeoutSeconds",
        fields=("spec.startupTimeoutSeconds",),
    ),
)
