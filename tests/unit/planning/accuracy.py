"""The planner beside engines that really started: rows of data/, and docs/planner-accuracy.md made from them.

python -m tests.unit.planning.accuracy --write     write docs/planner-accuracy.md
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm_operator.memory.overheads import Runtime
from llm_operator.memory.types import Adapters
from llm_operator.models import parse_config
from llm_operator.planning import GpuFacts, KVQuantization, PlanRequest, plan
from llm_operator.planning.kv_cache import bytes_per_token
from llm_operator.planning.runtime import default_batch, runtime
from llm_operator.planning.weights import weight_bytes
from tests.support.engine_names import Backend, Engine
from tests.unit.planning import field

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DOCUMENT = ROOT / "docs" / "planner-accuracy.md"
POLICIES = {0: KVQuantization.NONE, 8: KVQuantization.INT8, 4: KVQuantization.INT4}
MIB = 1 << 20
# Other processes held memory of the same card in these starts; only the arithmetic after `free` can be compared.
SHARED_CARD = ("tm1b5-sigterm", "tm1b5-long", "pt1b5-sigterm", "pt1b5-long", "tmil2-q0")


@dataclass(frozen=True)
class Row:
    """One start: what the engine had, what the plan says. Sizes in bytes."""

    job: str
    what: str
    weights: int | None
    """None where the engine does not tell those of one GPU."""
    planned_weights: int
    tokens: int
    planned_tokens: int
    planned_low: int

    @property
    def token_error(self) -> float:
        """Percent by which the planned tokens differ."""
        return 100 * (self.planned_tokens / self.tokens - 1)


def _rows(engine: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((HERE / "data" / f"{engine}.json").read_text())
    return found


def lmdeploy_rows() -> list[dict[str, Any]]:
    """Return the LMDeploy starts."""
    return _rows("lmdeploy")


def vllm_rows() -> list[dict[str, Any]]:
    """Return the vLLM starts."""
    return _rows("vllm")


def h200(row: dict[str, Any]) -> GpuFacts:
    """Return the cards the row ran on."""
    return GpuFacts("NVIDIA-H200", row["gpu_total_bytes"], (9, 0), tensor(row))


def tensor(row: dict[str, Any]) -> int:
    """Return how many GPUs the engine ran on."""
    return int(row.get("tensor", 1))


def lmdeploy_request(row: dict[str, Any]) -> PlanRequest:
    """Return the row's command line as a request."""
    return PlanRequest(
        shape=parse_config(row["config"]),
        engine=Engine.LMDEPLOY,
        backend=Backend.TURBOMIND if row["backend"] == "turbomind" else Backend.PYTORCH,
        version=row["version"],
        gpu=h200(row),
        tensor=tensor(row),
        kv_quantization=POLICIES[row["quant_policy"]],
        memory_percent=max(round(row["ratio"] * 100), 1),
        context_length=row["session_len"],
    )


def vllm_request(row: dict[str, Any]) -> PlanRequest:
    """Return the row's command line as a request."""
    arguments = row["arguments"]
    values = dict(pairwise(arguments))
    size = values.get("--kv-cache-memory-bytes")
    return PlanRequest(
        shape=parse_config(row["config"]),
        engine=Engine.VLLM,
        version=row["version"],
        gpu=h200(row),
        tensor=tensor(row),
        kv_quantization=KVQuantization.FP8 if row["cache_dtype"] == "fp8" else KVQuantization.NONE,
        gpu_memory_utilization=None if size else row["gpu_memory_utilization"],
        kv_memory_bytes=_size(size) if size else None,
        context_length=int(values.get("--max-model-len", row["config"]["max_position_embeddings"])),
        max_concurrent_sequences=int(values["--max-num-seqs"]) if "--max-num-seqs" in values else None,
        max_batched_tokens=int(values["--max-num-batched-tokens"]) if "--max-num-batched-tokens" in values else None,
        enforce_eager="--enforce-eager" in arguments,
        older_runner=True if "older" in row.get("note", "") else None,
        adapters=_adapters(values) if "--enable-lora" in arguments else None,
    )


def _adapters(values: dict[str, str]) -> Adapters:
    return Adapters(int(values.get("--max-loras", "1")), int(values.get("--max-lora-rank", "16")))


def _size(text: str) -> int:
    return int(text[:-1]) << 30 if text.endswith("G") else int(text)


def request_of(row: dict[str, Any]) -> PlanRequest:
    """Return the row's command line as a request, of either engine."""
    return vllm_request(row) if row["engine"] == "vllm" else lmdeploy_request(row)


def rows() -> list[Row]:
    """Return every start whose memory was its own, planned."""
    found = []
    for row in lmdeploy_rows():
        if row["job"] not in SHARED_CARD:
            given = lmdeploy_request(row)
            # TurboMind folds the projections of a latent into larger ones than the files hold.
            weights = row["weights_bytes_file"] if tensor(row) == 1 and not given.shape.is_latent else None
            what = f"LMDeploy {row['backend']} {row['model']}, quant policy {row['quant_policy']}, ratio {row['ratio']}"
            what += f", tp {tensor(row)}" if tensor(row) > 1 else ""
            found.append(_row(row["job"], what, weights, row["kv_tokens"], given))
    for row in vllm_rows():
        what = f"vLLM {row['model']} {' '.join(row['arguments'])}".strip()
        given = vllm_request(row)
        # The slots of adapters are among the weights that vLLM logs, and among the plan's overheads.
        found.append(_row(row["job"], what, None if given.adapters else row["weights_bytes"], row["kv_tokens"], given))
    return found


def _row(job: str, what: str, weights: int | None, tokens: int, request: PlanRequest) -> Row:
    result = plan(request)
    assert result.plan is not None, f"{job}: {result.reasons}"
    got = result.plan
    return Row(job, what, weights, got.weight_bytes_per_gpu, tokens, got.kv_tokens, got.kv_tokens_low)


def document(found: list[Row]) -> str:
    """Return docs/planner-accuracy.md."""
    lines = [
        "# How exact the planner is",
        "",
        "Written by `python -m tests.unit.planning.accuracy --write`; a test fails when it is not what",
        "the planner computes. Each row is a real start of LMDeploy 0.18.0 or vLLM 0.26.0 on one NVIDIA H200",
        "(150,109,880,320 bytes), or two of them, with random weights of the named shape. A plan sees `config.json`,",
        "the cards and the arguments. Sizes of tensors, blocks, slabs, pages and groups are the engines' arithmetic;",
        "the constants in the overheads (context, libraries, NCCL, warm-up) were measured in starts of this kind,",
        "these among them. Weights are those of one GPU: LMDeploy's the size of the weight files (it reports none if",
        "there are two GPUs), vLLM's what it logs as loaded. With two GPUs TurboMind's tokens follow from the budget",
        "and the slabs in its log, for models that keep states beside those of as many requests of the session length",
        "as fit, counted by hand; and vLLM ran without FlashInfer and torch's symmetric memory, which a usual",
        "installation has.",
        "",
        "| start | weights, MiB | planned | differs | KV tokens | planned | differs | planned at least |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.what} | {_weights(row)} |"
        f" {row.tokens:,} | {row.planned_tokens:,} | {row.token_error:+.2f} % | {row.planned_low:,} |"
        for row in found
    ]
    lines += [
        "",
        "Given the engine's own budget in bytes, blocks and tokens come out exactly in every row (for states in",
        "TurboMind: objects and slabs), also in the five whose card was shared with other processes and which are not",
        "listed here. What differs above are overheads: for those a plan states a likely amount and a bound, and the",
        "tokens it holds at least.",
        "",
        "Not measured here, hence planned from the engines' code and from the public starts below: tensor parallelism",
        "above 2, cards other than the H200, images in requests, and vLLM 0.33.0, whose formulas are taken to be",
        "those of 0.26.0 but for its CUDA graphs and rope tables.",
        "",
        "Names with -l and a number are cut to that many layers; each layer has the shape of the model. vLLM made the",
        "weights of its last fifteen rows itself (`--load-format dummy`). Those with two GPUs ran FlashInfer's",
        "all-reduce without NVLink multicast; one GPU ran without FlashInfer. Most were stopped when their cache was",
        "there, before they answered. The last eleven logged sizes to 0.01 GiB. The planner of that day, which had not",
        "seen them, said what stands here, but for the slots of LoRA adapters and the CUDA graphs of DeepSeek V3,",
        "whose plan was 2.7 % too high.",
        "",
        *_beside_table(),
        "",
        *_field_table(),
    ]
    return "\n".join(lines)


def beside(row: dict[str, Any]) -> tuple[int, Runtime]:
    """Return the bytes of one GPU that were neither weights nor cache right after a start, and what is planned."""
    given = request_of(row)
    held = row["kv_tokens"] * bytes_per_token(given, tensor(row))
    cache = row.get("kv_budget_bytes", row.get("kv_available_bytes", given.kv_memory_bytes or held))
    taken = row["used_after"] - weight_bytes(given, tensor(row)).total - cache
    return taken, runtime(given, tensor(row), default_batch(given))


def own_card(row: dict[str, Any]) -> bool:
    """Return whether the row tells what the engine alone took of its card."""
    return row["job"] not in SHARED_CARD and "used_after" in row


def _beside_table() -> list[str]:
    lines = [
        "## Beside weights and cache",
        "",
        "What one GPU held right after the start that was neither, in MiB, where that was read. Likely and at most are",
        "the plan's, and count what comes under load, too.",
        "",
        "| start | taken | likely | at most |",
        "|---|--:|--:|--:|",
    ]
    for row in filter(own_card, lmdeploy_rows() + vllm_rows()):
        taken, planned = beside(row)
        name = f"{row['engine']} {row.get('backend', '')}".strip()
        likely, most = planned.before_likely + planned.after_likely, planned.before_high + planned.after_high
        lines.append(
            f"| {name} {row['model']}, {row['job']} | {taken / MIB:,.0f} | {likely / MIB:,.0f} | {most / MIB:,.0f} |"
        )
    return lines


def _field_table() -> list[str]:
    """Return the public starts beside their plans."""
    lines = [
        "## Public starts",
        "",
        "Numbers that users logged, of vLLM releases from 0.5 on; planned as the oldest release that is known here",
        "where the reported one is older. Tokens of bytes: what the planner makes of the cache in bytes that the",
        "engine reported. Likely and at least: the plan from the engine's share of the GPU, if it is known; the bound",
        "lies above none of them. Older releases and what ran beside them explain what is left.",
        "",
        "| model | GPUs | release | weights, GiB | planned | tokens | of those bytes | likely | at least | note |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in field.ROWS:
        given = field.asked(row)
        weights = weight_bytes(given, row["tensor"]).total / (1 << 30)
        of_bytes = f"{field.held(row).tokens:,}" if row["available_gib"] else "-"
        share = row["utilization"]
        result = plan(given, offers=False).plan if share else None
        least = f"{result.kv_tokens_low:,}" if result is not None else "-"
        likely = f"{result.kv_tokens:,}" if result is not None else "-"
        reported = f"{row['weights_gib']:.2f}" if row["weights_gib"] else "-"
        tokens = f"{row['tokens']:,}" if row["tokens"] else "-"
        lines.append(
            f"| {row['model']} | {row['tensor']} x {row['product']} | {row['reported_version']} | {reported} |"
            f" {weights:.2f} | {tokens} | {of_bytes} | {likely} | {least} | {row['note']} |"
        )
    return [*lines, ""]


def _weights(row: Row) -> str:
    planned = f"{row.planned_weights / MIB:,.0f}"
    if row.weights is None:
        return f"- | {planned} | -"
    return f"{row.weights / MIB:,.0f} | {planned} | {100 * (row.planned_weights / row.weights - 1):+.2f} %"


if __name__ == "__main__":
    text = document(rows())
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(text)
    print(text)
