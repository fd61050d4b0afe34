"""How much worse a quantized model is: perplexity of a text, and agreement with the original on prompts.

The original is measured first; then its weights are replaced in place by the unpacked ones of the quantized checkpoint
and it is measured again, so that nothing but the weights differs. It runs in a separate process: an out-of-memory
here must not lose the quantized weights.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_operator.modeltools import report
from llm_operator.modeltools.report import Progress, ToolError
from llm_operator.modeltools.text import read_json

DATA = Path(__file__).with_name("data")
TEXT, PROMPTS = DATA / "evaluation.txt", DATA / "prompts.json"
WINDOW_TOKENS = 1024
ANSWER_TOKENS = 32
LOGIT_ROWS = 256
"""Rows of logits that are turned into 32 bits at once: a vocabulary of 150,000 takes 150 MB for them."""
_GPU_RESERVE = 1.15
"""A model is put onto the GPU whole where its bytes times this are free: activations and the cache need some."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    report.add_arguments(parser)
    parser.add_argument("--original", required=True, type=Path, metavar="DIRECTORY", help="the 16-bit model")
    parser.add_argument("--quantized", required=True, type=Path, metavar="DIRECTORY", help="its AWQ checkpoint")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code of the model's directory")
    parser.add_argument("--text", type=Path, default=TEXT, help="text whose perplexity is measured")
    parser.add_argument("--stream-layers", action="store_true", help="keep one layer at a time on the GPU, for tests")


def run(options: argparse.Namespace) -> int:
    """Measure both; the result has the numbers."""
    return report.finish(options.result, lambda: measure(options))


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Perplexities, and the share of equal choices, as text with fixed decimals.

    Raises:
        ToolError: ToolFailed: the two are not the same model, or a number is none.
    """
    import torch  # noqa: PLC0415

    from llm_operator.modeltools.dequantize import MismatchError, load_quantized  # noqa: PLC0415

    steps = _Steps(Progress())
    torch.manual_seed(0)
    steps.next("loading the original")
    tokenizer, model = _load(options.original, options.trust_remote_code)
    text = tokenizer(options.text.read_text(encoding="utf-8"))["input_ids"]
    with torch.inference_mode():
        device = _place(model, stream=options.stream_layers)
        steps.next("answers of the original")
        answers = _answers(model, tokenizer, _prompts(tokenizer), device)
        steps.next("perplexity of the original")
        before = _perplexity(model, text, device)
        chosen = _choices(model, answers, device)
        steps.next("unpacking the quantized weights")
        try:
            load_quantized(model, options.quantized)
        except MismatchError as error:
            raise ToolError("ToolFailed", f"the quantized weights cannot be compared: {error}") from error
        steps.next("perplexity of the quantized model")
        after = _perplexity(model, text, device)
        steps.next("agreement")
        again = _choices(model, answers, device)
    return summary(before, after, [one == two for one, two in zip(chosen, again, strict=True)], len(text))


def summary(original: float, quantized: float, equal: Sequence[bool], tokens: int) -> dict[str, object]:
    """The numbers as the result reports them.

    Raises:
        ToolError: ToolFailed: a perplexity is not finite, which means broken weights.
    """
    for name, value in (("original", original), ("quantized", quantized)):
        if not math.isfinite(value):
            raise ToolError("ToolFailed", f"the perplexity of the {name} model is {value}: its weights are broken")
    return {
        "perplexityOriginal": f"{original:.3f}",
        "perplexityQuantized": f"{quantized:.3f}",
        "perplexityIncreasePercent": f"{100 * (quantized / original - 1):.1f}",
        "agreementPercent": round(100 * sum(equal) / len(equal)) if equal else 100,
        "tokens": tokens,
    }


class _Steps:
    """Progress in equal steps: what takes longest differs from machine to machine."""

    COUNT = 6

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def next(self, what: str) -> None:
        self._progress.show("Evaluating", percent=100 * self._done // self.COUNT, detail=what, now=True)
        self._done += 1


def _load(directory: Path, trust_remote_code: bool) -> tuple[Any, Any]:
    """Tokenizer and model in host memory, in the model's own type; in 32 bits if there is no GPU."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    given = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **given)
    dtype = "auto" if torch.cuda.is_available() else torch.float32
    failures = []
    # A model that also sees is no "causal LM" to transformers.
    for kind in ("AutoModelForCausalLM", "AutoModelForImageTextToText"):
        try:
            model = getattr(transformers, kind).from_pretrained(directory, torch_dtype=dtype, **given)
        except ValueError as error:
            failures.append(str(error))
        else:
            return tokenizer, model.eval()
    raise ToolError("ToolFailed", f"transformers cannot load the original: {failures[0][:300]}")


def _place(model: Any, *, stream: bool) -> Any:
    """Put the model onto the GPU, whole or a layer at a time; the device of its inputs."""
    import torch  # noqa: PLC0415

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    fits = device.type == "cpu" or size * _GPU_RESERVE < torch.cuda.mem_get_info()[0]
    if fits and not stream:
        model.to(device)
        return device
    _stream_layers(model, device)
    return device


def _stream_layers(model: Any, device: Any) -> None:
    """Move each decoder layer to the device only while it computes; everything else stays there.

    Not accelerate's offloading: it puts empty tensors in the model's place, which cannot be filled in place.
    """
    import torch  # noqa: PLC0415

    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
    layers = max(lists, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))
    inside = {id(part) for layer in layers for part in (*layer.parameters(), *layer.buffers())}
    for module in model.modules():
        for name, part in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if id(part) in inside:
                continue
            if isinstance(part, torch.nn.Parameter):
                part.data = part.data.to(device)
            else:
                setattr(module, name, part.to(device))
    for layer in layers:
        layer.register_forward_pre_hook(lambda module, _inputs: module.to(device) and None)
        layer.register_forward_hook(lambda module, _inputs, _output: module.to("cpu") and None)


def _perplexity(model: Any, tokens: Sequence[int], device: Any) -> float:
    import torch  # noqa: PLC0415

    limit = getattr(model.config, "max_position_embeddings", None) or WINDOW_TOKENS
    window = min(WINDOW_TOKENS, int(limit))
    total, count = 0.0, 0
    for start in range(0, len(tokens), window):
        part = torch.tensor([tokens[start : start + window]], device=device)
        if part.shape[1] < 2:
            break
        logits, following = model(input_ids=part, use_cache=False).logits[0, :-1], part[0, 1:]
        for row in range(0, len(following), LOGIT_ROWS):
            rows = slice(row, row + LOGIT_ROWS)
            loss = torch.nn.functional.cross_entropy(logits[rows].float(), following[rows], reduction="sum")
            total += loss.item()
        count += len(following)
    return math.exp(total / count) if total / count < 700 else math.inf


def _prompts(tokenizer: Any) -> Iterator[list[int]]:
    """The golden prompts as the model is asked them: in its own template, if it has one."""
    for prompt in read_json(PROMPTS.read_text(encoding="utf-8")):
        text = prompt
        if getattr(tokenizer, "chat_template", None):
            turn = [{"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        yield tokenizer(text)["input_ids"]


def _answers(model: Any, tokenizer: Any, prompts: Iterator[list[int]], device: Any) -> list[tuple[list[int], int]]:
    """Prompt and greedy answer of each prompt, with the length of the prompt."""
    import torch  # noqa: PLC0415

    asked = list(prompts)
    ends = _end_tokens(model, tokenizer)
    sequences = [list(prompt) for prompt in asked]
    open_ones = set(range(len(asked)))
    # All prompts advance together: where layers are streamed, a pass over the model is what takes time.
    for _ in range(ANSWER_TOKENS):
        running = sorted(open_ones)
        if not running:
            break
        longest = max(len(sequences[index]) for index in running)
        # Padding follows the text, where causal attention does not look.
        batch = [sequences[index] + [0] * (longest - len(sequences[index])) for index in running]
        logits = model(input_ids=torch.tensor(batch, device=device), use_cache=False).logits
        for row, index in enumerate(running):
            token = int(logits[row, len(sequences[index]) - 1].argmax())
            sequences[index].append(token)
            if token in ends:
                open_ones.discard(index)
    return [(sequence, len(prompt)) for sequence, prompt in zip(sequences, asked, strict=True)]


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    found = configured if isinstance(configured, list) else [configured, tokenizer.eos_token_id]
    return {int(token) for token in found if token is not None}


def _choices(model: Any, answers: Sequence[tuple[list[int], int]], device: Any) -> list[int]:
    """The token that the model would choose at every place of the answers, given what precedes it there."""
    import torch  # noqa: PLC0415

    longest = max(len(sequence) for sequence, _ in answers)
    batch = [sequence + [0] * (longest - len(sequence)) for sequence, _ in answers]
    logits = model(input_ids=torch.tensor(batch, device=device), use_cache=False).logits
    return [
        int(logits[row, place - 1].argmax())
        for row, (sequence, begin) in enumerate(answers)
        for place in range(begin, len(sequence))
    ]


def main(measure_and_report: Callable[[argparse.Namespace], int] = run) -> int:
    """The command on its own."""
    parser = argparse.ArgumentParser(prog="python3 -m llm_operator.modeltools.quality", allow_abbrev=False)
    add_arguments(parser)
    return measure_and_report(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
