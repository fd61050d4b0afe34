"""vLLM's batch limits: what its configuration verifies between several options, said before a pod is made.

Sources: vllm/config/scheduler.py (verify_max_model_len) and vllm/engine/arg_utils.py
(_set_default_max_num_seqs_and_batched_tokens_args), alike in 0.20.2, 0.26.0 and 0.33.0; the configuration step of each
of them is asked by the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from llm_operator.api.spec import LLMDeploymentSpec
from llm_operator.engines import common
from llm_operator.engines.arguments import FIELD, whole_number
from llm_operator.problems import Problem, wrong_field

TOKENS = "--max-num-batched-tokens"
ACTIVE = "--max-num-active-seqs"
LEAST_DEFAULT_TOKENS = 2048
"""Default of --max-num-batched-tokens on cards below 70 GiB (vllm/engine/arg_utils.py)."""
_CHUNKED_OFF = ("--no-enable-chunked-prefill", "--disable-chunked-prefill")


@dataclass(frozen=True, slots=True)
class Batch:
    """What is rendered beside the user's arguments.

    Attributes:
        sequences: --max-num-seqs; None leaves vLLM's default, which it lowers to the batched tokens by itself.
        context: --max-model-len in tokens; None leaves the model's.
        tokens: --max-num-batched-tokens on which the plan counts; None leaves vLLM's default.
    """

    sequences: int | None
    context: int | None
    tokens: int | None = None


def batched_tokens_given(spec: LLMDeploymentSpec) -> int | None:
    """The user's --max-num-batched-tokens; None if extraArgs has none that vLLM reads."""
    return whole_number(common.value_given(spec, TOKENS) or "")


def chunked_prefill_is_off(spec: LLMDeploymentSpec) -> bool:
    """Whether extraArgs turn chunked prefill off: a whole prompt must then fit into one batch."""
    return any(common.given(spec, name) for name in _CHUNKED_OFF)


def check_batch(spec: LLMDeploymentSpec, batch: Batch) -> list[Problem]:
    """What vLLM's configuration would refuse of the user's batch limits beside the rendered ones."""
    return [*_check_tokens(spec, batch), *_check_active(spec, batch)]


def batched_tokens(spec: LLMDeploymentSpec, batch: Batch) -> int | None:
    """--max-num-batched-tokens to render; None if the user gives it or vLLM's default will do.

    vLLM refuses fewer tokens than sequences, and without chunked prefill also fewer than the context.
    """
    if common.given(spec, TOKENS):
        return None
    sequences = batch.sequences or 0
    if chunked_prefill_is_off(spec):
        return None if batch.context is None else max(batch.tokens or 0, sequences, batch.context)
    if batch.tokens is None:
        return sequences if sequences > LEAST_DEFAULT_TOKENS else None
    return max(batch.tokens, sequences)


def _check_tokens(spec: LLMDeploymentSpec, batch: Batch) -> list[Problem]:
    tokens = batched_tokens_given(spec)
    if tokens is None:
        return []
    if tokens < 1:
        return [_invalid(f"{TOKENS}: '{tokens}' is too small; expected at least 1")]
    refusals = []
    if batch.sequences is not None and tokens < batch.sequences:
        refusals.append(_conflict(_too_few_for_sequences(spec, tokens, batch.sequences)))
    if batch.context is not None and tokens < batch.context and chunked_prefill_is_off(spec):
        refusals.append(_conflict(_too_few_for_context(spec, tokens, batch.context)))
    return refusals


def _too_few_for_sequences(spec: LLMDeploymentSpec, tokens: int, sequences: int) -> str:
    if spec.max_concurrent_sequences is None:
        whose, instead = (
            "that the plan passes as --max-num-seqs",
            f"set spec.maxConcurrentSequences to at most {tokens}",
        )
    else:
        whose, instead = "of spec.maxConcurrentSequences", f"lower that to {tokens}"
    return (
        f"{TOKENS} {tokens} is less than the {sequences} sequences {whose}, and vLLM wants at least one token for "
        f"each: give it {sequences} or more, remove it, or {instead}"
    )


def _too_few_for_context(spec: LLMDeploymentSpec, tokens: int, context: int) -> str:
    whose = "that the plan passes as --max-model-len" if spec.context_length is None else "of spec.contextLength"
    return (
        f"{TOKENS} {tokens} is less than the {context} tokens {whose}, and without chunked prefill vLLM takes a prompt "
        f"in one batch: give it {context} or more, remove it, or leave chunked prefill on"
    )


def _check_active(spec: LLMDeploymentSpec, batch: Batch) -> list[Problem]:
    active = whole_number(common.value_given(spec, ACTIVE) or "")
    if active is None:
        return []
    if active < 1:
        return [_invalid(f"{ACTIVE}: '{active}' is too small; expected at least 1")]
    sequences = batch.sequences or batched_tokens_given(spec) or batched_tokens(spec, batch)
    if sequences is None or active <= sequences:
        return []
    text = (
        f"{ACTIVE} {active} is more than the {sequences} sequences that vLLM will be configured for: lower it, or set "
        f"spec.maxConcurrentSequences to {active} or more"
    )
    return [_conflict(text)]


def _invalid(text: str) -> Problem:
    return wrong_field("InvalidArgument", FIELD, text)


def _conflict(text: str) -> Problem:
    return wrong_field("ConflictingArgument", FIELD, text)
