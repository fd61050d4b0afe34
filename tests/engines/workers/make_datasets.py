"""ROOT TEXTS: writes small data sets below ROOT/datasets, in the layouts that LMDeploy's loaders ask the hub for.

TEXTS is a JSON list of texts, of which they are made. Repositories, configurations, file names and fields are those of
lmdeploy/lite/utils/calib_dataloader.py, 0.9.2.post1 to 0.18.0; further files stand for what must not be downloaded.
"""

import gzip
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

Rows = Sequence[Mapping[str, Any]]


def parquet(rows: Rows) -> bytes:
    """A file as the hub's own conversion makes them."""
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), target)
    return target.getvalue()


def json_lines(rows: Rows) -> bytes:
    """One object in each line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(configurations: Mapping[str, Mapping[str, str]]) -> bytes:
    """README.md that names configurations, and the files of their splits."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", "# A data set", ""]).encode()


def repositories(texts: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """File -> content by repository."""
    rows = [{"text": text} for text in texts]
    long = [{"text": text * 4} for text in texts if text]
    questions = [{"question": text, "answer": "42"} for text in texts if text]
    turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": texts[0]}]
    tasks = [{"instruction": "Go on.", "input": text, "output": text} for text in texts]
    return {
        "Salesforce/wikitext": {
            "wikitext-2-raw-v1/test-00000-of-00001.parquet": parquet([{"text": "a test"}]),
            "wikitext-2-raw-v1/train-00000-of-00001.parquet": parquet(rows),
            "wikitext-103-raw-v1/train-00000-of-00001.parquet": parquet([{"text": "another configuration"}]),
            "README.md": card(
                {
                    "wikitext-103-raw-v1": {"train": "wikitext-103-raw-v1/train-*"},
                    "wikitext-2-raw-v1": {"test": "wikitext-2-raw-v1/test-*", "train": "wikitext-2-raw-v1/train-*"},
                }
            ),
        },
        "allenai/c4": {
            "en/c4-train.00000-of-01024.json.gz": gzip.compress(json_lines(long)),
            "en/c4-train.00001-of-01024.json.gz": gzip.compress(json_lines(rows)),
            "en/c4-validation.00000-of-00008.json.gz": gzip.compress(json_lines(long[:3])),
            "README.md": card({"en": {"train": "en/c4-train.*.json.gz", "validation": "en/c4-validation.*.json.gz"}}),
        },
        "mit-han-lab/pile-val-backup": {
            "val.jsonl.zst": zstandard.compress(json_lines(rows)),
            "README.md": b"# No configurations\n",
        },
        "openai/gsm8k": {
            "main/test-00000-of-00001.parquet": parquet(questions[:3]),
            "main/train-00000-of-00001.parquet": parquet(questions),
            "socratic/train-00000-of-00001.parquet": parquet(questions[:2]),
            "README.md": card(
                {
                    "main": {"train": "main/train-*", "test": "main/test-*"},
                    "socratic": {"train": "socratic/train-*"},
                }
            ),
        },
        "neuralmagic/calibration": {
            "LLM/train.parquet": parquet([{"messages": turns}] * 9),
            "README.md": card({"LLM": {"train": "LLM/train.parquet"}}),
        },
        "garage-bAInd/Open-Platypus": {
            "data/train-00000-of-00001.parquet": parquet(tasks),
            "README.md": b"---\nlicense: other\n---\n",
        },
        "Skylion007/openwebtext": {
            "plain_text/train-00000-of-00080.parquet": parquet(long),
            "plain_text/train-00001-of-00080.parquet": parquet(rows),
            "README.md": card({"plain_text": {"train": "plain_text/train-*"}}),
        },
    }


def main() -> None:
    """Write them."""
    root, texts = sys.argv[1:]
    for repository, files in repositories(json.loads(Path(texts).read_text())).items():
        for name, content in files.items():
            path = Path(root, "datasets", repository, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
