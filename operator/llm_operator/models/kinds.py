"""What a JSON file is if it is not a decoder's config.json: another file of a repository, or another kind of model."""

from __future__ import annotations

from collections.abc import Mapping

from llm_operator.models.errors import InvalidModelConfigError, UnknownKindError, UnsupportedModelKindError
from llm_operator.models.fields import Json

# Other files that people take for config.json, by fields that only these have.
OTHER_FILES = (
    (("weight_map",), "the index of the weight files"),
    (("tokenizer_class",), "tokenizer_config.json"),
    (("added_tokens_decoder",), "tokenizer_config.json"),
    (("image_processor_type",), "preprocessor_config.json"),
    (("feature_extractor_type",), "preprocessor_config.json"),
    (("do_sample",), "generation_config.json"),
    (("temperature",), "generation_config.json"),
    (("dim", "n_layers"), "params.json in the form of Mistral or Meta"),
    (("quant_method",), "quantize_config.json"),
    (("bits", "group_size"), "quantize_config.json"),
    (("apiVersion", "kind"), "a Kubernetes manifest, which goes after -f,"),
)
PIPELINES = ("_diffusers_version", "_class_name")
ENCODER_DECODERS = (
    "Bart", "MBart", "Bigbird", "BigBirdPegasus", "Blenderbot", "Donut", "EncoderDecoder", "FSMT", "Florence2", "LED",
    "LongT5", "M2M100", "Marian", "Moonshine", "MT5", "Nllb", "Pegasus", "PLBart", "ProphetNet", "SeamlessM4T",
    "Speech2Text", "SpeechEncoderDecoder", "Switch", "TrOCR", "UMT5", "VisionEncoderDecoder",
)  # fmt: skip
ENCODERS = ("Bert", "Roberta", "Deberta", "Electra", "MPNet", "CLIP", "Siglip", "ViT", "Whisper", "T5", "Wav2Vec")
CLASSIFIERS = ("MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering", "RewardModel")
PERCEPTION = (
    "ForImageClassification", "ForSemanticSegmentation", "ForInstanceSegmentation", "ForObjectDetection",
    "ForDepthEstimation", "ForMaskGeneration", "ForAudioClassification", "ForCTC", "ForRNNT", "ForTextToWaveform",
    "TTSForConditionalGeneration", "ForVideoClassification",
)  # fmt: skip
DRAFTS = ("Eagle", "MTPModel", "Medusa", "DraftModel", "DFlash", "DSpark")
EMBEDDING = ("ForRetrieval", "ForRanking", "EmbeddingModel", "BidirectionalModel", "EmbedModel")


def refuse_other_files(values: Mapping[str, Json]) -> None:
    """Raise InvalidModelConfigError for a known file that is not a config.json."""
    for names, what in OTHER_FILES:
        if all(name in values for name in names) and "architectures" not in values:
            raise InvalidModelConfigError(
                f"config.json is {what} by its fields: give config.json of the same repository"
            )


def refuse_other_kinds(values: Mapping[str, Json]) -> None:
    """Raise UnsupportedModelKindError for a pipeline or an adapter, which name no architecture."""
    for marker, kind in (*((name, "a diffusion pipeline") for name in PIPELINES), ("peft_type", "an adapter")):
        if marker in values:
            raise UnsupportedModelKindError(kind, f"{marker} {str(values[marker])[:60]}")


def refuse_architecture(values: Mapping[str, Json], name: str, known: Mapping[str, object]) -> None:
    """Raise what an unknown architecture is, where its name says.

    Raises UnsupportedModelKindError for what generates no text, UnknownKindError for what an engine may serve all the
    same: embeddings and drafts.
    """
    if values.get("is_encoder_decoder") is True or name.startswith(ENCODER_DECODERS):
        raise UnsupportedModelKindError("an encoder-decoder", name)
    if any(part in name for part in DRAFTS):
        raise UnknownKindError("a draft model for speculative decoding", name)
    if name.endswith(CLASSIFIERS) or name.startswith(ENCODERS) or name.endswith(("BertModel", "RobertaModel")):
        raise UnsupportedModelKindError("an encoder or classifier", name)
    if name.endswith(PERCEPTION):
        raise UnsupportedModelKindError("a model of images or sound", name)
    base = name.removesuffix("Model").removesuffix("Text")
    if name.endswith(EMBEDDING) or (base != name and f"{base}ForCausalLM" in known):
        raise UnknownKindError("an embedding model", name)
