"""Reasons of engines that died for the model's files and the way to them."""

from __future__ import annotations

from llm_operator.reasons.types import Reason, death

MODELS: tuple[Reason, ...] = (
    death(
        "ChatTemplateMissing",
        "the ConfigMap of `model.chatTemplate`, or its key, does not exist",
        "create the ConfigMap of model.chatTemplate with its key, or name another one",
        fields=("spec.model.chatTemplate",),
    ),
    death(
        "ChatTemplateInvalid",
        "the chat template is not one that can be used",
        "correct the template of model.chatTemplate, or that in the model's tokenizer_config.json",
        fields=("spec.model.chatTemplate",),
    ),
    death(
        "RemoteCodeNeeded",
        "the model's repository holds code that loading it needs",
        "read the code of the repository, then set model.trustRemoteCode to true",
        fields=("spec.model.trustRemoteCode",),
    ),
    death(
        "ModelAccessDenied",
        "the hub does not give the model to this token",
        "accept the model's licence on the hub and name its token in model.credentials",
        fields=("spec.model.credentials",),
    ),
    death(
        "RevisionNotFound",
        "the hub has no such revision of the model",
        "correct the revision in `model`",
        fields=("spec.model",),
    ),
    death(
        "ModelNotFound",
        "the hub has no such repository, or hides it from this token",
        "correct the repository in `model`, or name a token in model.credentials",
        fields=("spec.model.credentials",),
    ),
    death(
        "HubRateLimited",
        "the hub refuses further downloads for now",
        "name a token in model.credentials, or serve from model.persistentVolumeClaim",
        fields=("spec.model.credentials",),
    ),
    death(
        "ModelNotReachable",
        "the model is not on the pod's volume and the hub cannot be reached",
        "check the pod's way to the hub and HF_HUB_OFFLINE in engine.env, or serve from a model.persistentVolumeClaim",
        fields=("spec.model.persistentVolumeClaim",),
    ),
    death(
        "ModelPathMissing",
        "the directory is not on the claim",
        "correct model.persistentVolumeClaim.path, which names a directory on the claim",
        fields=("spec.model.persistentVolumeClaim.path",),
    ),
    death(
        "ModelConfigMissing",
        "the model's directory holds no usable config.json",
        "correct model.persistentVolumeClaim.path, or the files on the claim",
        fields=("spec.model.persistentVolumeClaim.path",),
    ),
    death(
        "ModelConfigInvalid",
        "config.json says what the engine does not take",
        "use a newer engine.version, or correct the files of the model",
        fields=("spec.engine.version",),
    ),
    death(
        "WeightsMissing",
        "a file of the weights is missing",
        "download the model again, or correct its source in `model`",
        fields=("spec.model",),
    ),
    death(
        "WeightsMismatch",
        "names or sizes of tensors in the weights are not those that the engine expects for this config.json",
        "use a newer engine.version, another parallelism.tensor if it is above 1, or weights of another repository in "
        "`model`",
        fields=("spec.engine.version", "spec.parallelism.tensor", "spec.model"),
    ),
    death(
        "WeightsCorrupt",
        "a file of the weights is cut short or damaged",
        "download the model again, or correct its source in `model`",
        fields=("spec.model",),
    ),
    death(
        "FormatMismatch",
        "the weights are of another format than the spec says",
        "set model.format to what config.json says, or leave it at Auto",
        fields=("spec.model.format",),
    ),
    death(
        "UnsupportedArchitecture",
        "the engine does not know the model's architecture",
        "use a newer engine.version, or the other engine in engine.type",
        fields=("spec.engine.version",),
    ),
    death(
        "TokenizerMismatch",
        "the tokenizer or the transformers package does not go with this engine or this model",
        "use the engine project's own image of another engine.version",
        fields=("spec.engine.version",),
    ),
    death(
        "VocabularyMissing",
        "the vocabulary of gpt-oss is read from the network and cannot be reached",
        "put the vocabulary files beside the model and set TIKTOKEN_ENCODINGS_BASE in engine.env to their directory",
        fields=("spec.engine.env",),
    ),
    death(
        "ModelNotReadable",
        "the container's user may not read a file of the model",
        "make the files on the claim of model.persistentVolumeClaim readable for every user with `chmod -R a+rX`",
        fields=("spec.model.persistentVolumeClaim",),
    ),
)
