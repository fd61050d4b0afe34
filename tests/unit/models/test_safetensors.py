"""Weight files: index and header, and what is wrong with broken ones."""

from __future__ import annotations

import json

import pytest

from llm_operator.models import InvalidModelConfigError, header_length, read_header, read_index


def file_start(header: object) -> bytes:
    body = json.dumps(header).encode()
    return len(body).to_bytes(8, "little") + body


def tensor(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_header_splits_bytes_by_dtype() -> None:
    start = file_start(
        {"__metadata__": {"format": "pt"}, "a": tensor("BF16", [4, 8], 0, 64), "b": tensor("I32", [4], 64, 80)}
    )
    header = read_header(start)
    assert (header.total_bytes, header.elements, header.tensors) == (80, 36, 2)
    assert dict(header.bytes_by_dtype) == {"BF16": 64, "I32": 16}
    assert header.file_bytes == header_length(start[:8]) + 80


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0"),
        ((1 << 60).to_bytes(8, "little"), "header of"),
        (file_start({"a": tensor("BF16", [4], 0, 8)})[:-3], "needs"),
        (file_start({"a": tensor("BF16", [4], 0, 9)}), "9 bytes for shape"),
        (file_start({"a": tensor("BF16", [4], 0, 8), "b": tensor("BF16", [4], 4, 12)}), "no tensor or two"),
        (file_start({"a": tensor("BF16", [4], 8, 16)}), "no tensor or two"),
        (file_start({"a": tensor("Q4", [4], 0, 8)}), "dtype 'Q4'"),
        (file_start({"a": 3}), "dtype ''"),
        (file_start([]), "expected an object"),
    ],
)
def test_broken_headers(content: bytes, message: str) -> None:
    with pytest.raises(InvalidModelConfigError, match=message):
        read_header(content)


def test_index() -> None:
    index = read_index(
        json.dumps({"metadata": {"total_size": 96.0}, "weight_map": {"a": "2.safetensors", "b": "1.safetensors"}})
    )
    assert (index.total_bytes, index.files, index.tensors) == (96, ("1.safetensors", "2.safetensors"), 2)


@pytest.mark.parametrize(
    "content", ["{}", '{"weight_map": {"a": 1}}', '{"metadata": {"total_size": -1}, "weight_map": {"a": "x"}}', "{"]
)
def test_broken_index(content: str) -> None:
    with pytest.raises(InvalidModelConfigError):
        read_index(content)
