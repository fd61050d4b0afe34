"""Write or check the flag tables of operator/llm_operator/engines/*/options.json from the engines' own parsers.

python -m tests.engines.tables --write     # every known version: downloads about 6 GB once, keeps 1 GB
python -m tests.engines.tables --check
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.engines.environments import FOLDERS, known_versions
from tests.engines.worker import Worker

VERSIONS = {
    "lmdeploy": "0.9.2.post1 0.10.0 0.10.1 0.10.2 0.11.0 0.11.1 0.12.0 0.12.1 0.12.2 0.12.3"
    " 0.13.0 0.14.0 0.15.0 0.16.0 0.17.0 0.18.0",
    "vllm": "0.20.0 0.20.1 0.20.2 0.21.0 0.22.0 0.22.1 0.23.0 0.24.0 0.25.0 0.25.1 0.26.0"
    " 0.27.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0 0.32.0 0.33.0",
}


def observe(engine: str, version: str) -> dict[str, Any]:
    """Options and catalogue of one version, as its own code tells them."""
    with Worker(engine, version) as worker:
        return {"options": worker.ask("options").result, **worker.ask("catalogue").result}


def table(observed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One table of all versions: every entry with the spans of versions (first, last) that have it."""
    versions = list(observed)
    keys = next(iter(observed.values())).keys()
    return {"versions": versions, **{key: _spans(versions, [observed[v][key] for v in versions]) for key in keys}}


def _spans(versions: Sequence[str], entries: Sequence[Iterable[Any]]) -> list[dict[str, Any]]:
    present: dict[str, list[int]] = {}
    for index, of_version in enumerate(entries):
        for entry in of_version:
            present.setdefault(json.dumps(entry, sort_keys=True), []).append(index)
    spans = []
    for text, indices in sorted(present.items()):
        start = previous = indices[0]
        for index in [*indices[1:], -1]:
            if index != previous + 1:
                spans.append({"entry": json.loads(text), "first": versions[start], "last": versions[previous]})
                start = index
            previous = index
    return spans


def text_of(whole: Mapping[str, Any]) -> str:
    """The table with one entry a line, so that a change of one option is a change of one line."""
    parts = [f'"versions": {json.dumps(whole["versions"])}']
    for key, spans in whole.items():
        if key != "versions":
            lines = ",\n".join("  " + json.dumps(span, sort_keys=True) for span in spans)
            parts.append(f'"{key}": [\n{lines}\n]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write or check both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    parser.add_argument("--engine", choices=list(VERSIONS), action="append")
    arguments = parser.parse_args()
    for engine in arguments.engine or VERSIONS:
        versions = VERSIONS[engine].split() if arguments.write else known_versions(engine)
        text = text_of(table({version: observe(engine, version) for version in versions}))
        path = FOLDERS / engine / "options.json"
        if arguments.write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} differs from what the parsers say: run with --write and look at the change")


if __name__ == "__main__":
    main()
