"""Reasons of a pod that has no volume yet, or that the kubelet of its node does not start."""

from __future__ import annotations

from llm_operator.reasons.types import Reason

STARTS: tuple[Reason, ...] = (
    Reason(
        "ClaimUnbound",
        "Object",
        "a PersistentVolumeClaim of the pod has no volume; the message names it, whether it has a StorageClass, and "
        "what its events say",
        "see `kubectl describe pvc`; name a StorageClass in `cache.storageClassName`, or make one the "
        "cluster's default",
        fields=("spec.cache.storageClassName",),
        severity="Warning",
    ),
    Reason(
        "ClaimLost",
        "Object",
        "the PersistentVolume of a PersistentVolumeClaim is gone, and what was on it with it",
        "delete the claim that the message names, which the operator creates again if it created it, or restore its "
        "PersistentVolume from a backup",
        severity="Warning",
    ),
    Reason(
        "FailedMount",
        "Object",
        "a volume of the pod cannot be mounted; the message has the kubelet's words, from the pod's events",
        "correct the volume in `podTemplate`, or what it names: `kubectl describe pod` has all events",
        severity="Warning",
    ),
    Reason(
        "FailedAttachVolume",
        "Object",
        "a volume cannot be attached to the pod's node, or is still attached to another one",
        "delete the pod on the other node that still uses the claim, use one with `cache.accessMode: ReadWriteMany`, "
        "or check the CSI driver",
        fields=("spec.cache.accessMode",),
        severity="Warning",
    ),
    Reason(
        "FailedCreatePodSandBox",
        "Object",
        "the kubelet cannot create the pod's sandbox: the node lacks the container runtime of the pod's RuntimeClass, "
        "or its network plugin fails",
        "correct `runtimeClassName`, or set up the container runtime and the network plugin of the node that "
        "`kubectl get pod -o wide` shows",
        fields=("spec.runtimeClassName",),
        severity="Warning",
    ),
    Reason(
        "FailedPrepareDynamicResources",
        "Object",
        "the devices of a ResourceClaim cannot be prepared on the pod's node; the message has the kubelet's words",
        "check the DRA driver of that node, or correct `resourceClaims` in `podTemplate`",
        severity="Warning",
    ),
)
