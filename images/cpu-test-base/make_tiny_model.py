"""make-tiny-model DIRECTORY [qwen2|llama]: a chat model so small that a CPU makes it, and serves it, in seconds.

Two layers, four heads over two KV heads, about 0.9 million parameters in bfloat16, a byte-level tokenizer of some 290
entries and a chat template. A few seconds of over-fitting teach it one sentence, which it answers to everything, so
that a test can tell a served model from noise. Its sizes are multiples of 128, so AWQ with group size 128 works on it;
heads of 64 values are the smallest that TurboMind knows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SENTENCE = "hello, I am a tiny test model."
STEPS = 150
CONTEXT_LENGTH = 32_768
"""Tokens; it was taught on a few, and says anything after them. Room for answers that take an engine a while."""
FAMILIES = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
# The turns of ChatML, which both engines know.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_IGNORED = -100  # the label that transformers leaves out of the loss


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the sentence alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{SENTENCE} user assistant system"] * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_LENGTH,
        chat_template=TEMPLATE,
    )


def make_model(family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The model with random weights."""
    torch.manual_seed(0)
    config, model = FAMILIES[family]
    made: PreTrainedModel = model(
        config(
            vocab_size=len(tokenizer),
            hidden_size=256,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    return made


def teach(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Over-fit on random questions with the one answer; the last loss.

    The questions are learned, too, which cannot be foreseen: so that the model is unsure of foreign text rather than
    sure of nonsense, and its perplexity is a sensible number.
    """
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    random = torch.Generator().manual_seed(0)
    answer = [*tokenizer(SENTENCE)["input_ids"], tokenizer.eos_token_id]
    before = tokenizer("<|im_start|>user\n")["input_ids"]
    after = tokenizer("<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    loss = torch.tensor(0.0)
    for _ in range(STEPS):
        length = int(torch.randint(1, 24, (1,), generator=random))
        question = torch.randint(3, len(tokenizer), (length,), generator=random).tolist()
        tokens = torch.tensor([[*before, *question, *after, *answer]])
        labels = torch.tensor([[*[_IGNORED] * len(before), *question, *[_IGNORED] * len(after), *answer]])
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss)


def main() -> None:
    """Make the model beside its place and put it there whole: a Job that is killed leaves no half of one."""
    line = argparse.ArgumentParser(prog="make-tiny-model", description=__doc__, allow_abbrev=False)
    line.add_argument("directory", type=Path)
    line.add_argument("family", choices=sorted(FAMILIES), nargs="?", default="qwen2")
    chosen = line.parse_args()
    if (chosen.directory / "config.json").exists():
        print(f"{chosen.directory} holds a model already")
        return
    torch.set_num_threads(1)
    start = time.monotonic()
    tokenizer = make_tokenizer()
    model = make_model(chosen.family, tokenizer)
    loss = teach(model, tokenizer)
    model = model.to(torch.bfloat16)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    part = chosen.directory.with_name(f".{chosen.directory.name}.{os.getpid()}")
    tokenizer.save_pretrained(part)
    model.save_pretrained(part)
    shutil.rmtree(chosen.directory, ignore_errors=True)
    part.rename(chosen.directory)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{chosen.family} in {chosen.directory}: {parameters} parameters, {len(tokenizer)} tokens, loss {loss:.4f}, "
        f"{time.monotonic() - start:.1f} s"
    )


if __name__ == "__main__":
    main()
