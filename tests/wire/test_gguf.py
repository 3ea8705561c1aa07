from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gguf
import pytest

from llorch.engine.model_file import model_bytes, model_parts, read_gguf
from llorch.errors import ModelFileInvalid
from llorch.wire.gguf import GgufHeader, parse_gguf
from llorch.wire.gguf_names import FILE_TYPES, TENSOR_TYPES
from tests.engine.tiny_model import CONTEXT, WIDTH, vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def number(key: str, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


def words(key: str, values: list[str]) -> bytes:
    return text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))


def tensor(name: str, rows: int, columns: int, kind: int, offset: int) -> bytes:
    return text(name) + struct.pack("<IQQIQ", 2, columns, rows, kind, offset)


@dataclass
class File:
    """A GGUF file, byte by byte."""

    version: int = 3
    keys: list[bytes] = field(
        default_factory=lambda: [
            text("general.architecture") + struct.pack("<I", 8) + text("llama"),
            number("llama.context_length", 2048),
            number("llama.block_count", 4),
            number("llama.embedding_length", 64),
            number("llama.attention.head_count", 8),
        ]
    )
    tensors: list[bytes] = field(default_factory=list)

    def as_bytes(self) -> bytes:
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys))
        return head + b"".join(self.keys) + b"".join(self.tensors)


def refusal(data: bytes) -> str:
    with pytest.raises(ModelFileInvalid) as caught:
        parse_gguf(data)
    assert caught.value.hint
    return caught.value.message


def test_the_header_of_a_real_file_is_read(tiny_model: Path) -> None:
    header = read_gguf(tiny_model)
    assert header == GgufHeader(
        version=3,
        architecture="llama",
        name="tiny story",
        quantisation="F32",
        context_length=CONTEXT,
        block_count=2,
        embedding_length=WIDTH,
        feed_forward_length=WIDTH,
        head_count=4,
        head_count_kv=4,
        key_length=16,
        value_length=16,
        vocab_size=len(vocabulary()[0]),
        tokenizer_model="gpt2",
        has_chat_template=True,
        tensor_count=21,
        tensor_bytes=header.needed_file_bytes - header.data_offset,
        data_offset=header.data_offset,
        needed_file_bytes=tiny_model.stat().st_size,
        split_count=1,
    )


def test_our_table_of_types_is_that_of_the_gguf_package() -> None:
    assert {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()} == TENSOR_TYPES
    names = {int(kind): kind.name.removeprefix("MOSTLY_") for kind in gguf.LlamaFileType}
    assert FILE_TYPES.items() >= {(k, v) for k, v in names.items() if 0 < k < 1000}


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_in_use_are_read(version: int) -> None:
    assert parse_gguf(File(version).as_bytes()).version == version


def test_what_is_not_said_follows_from_what_is() -> None:
    header = parse_gguf(File().as_bytes())
    assert (header.head_count_kv, header.key_length, header.value_length) == (8, 8, 8)
    assert header.shape().kv_values_per_token == 8 * (8 + 8)
    assert (header.name, header.quantisation, header.has_chat_template) == ("", "", False)


def test_heads_that_differ_by_layer_count_as_the_most() -> None:
    per_layer = text("llama.attention.head_count_kv") + struct.pack("<IIQ4I", 9, 4, 4, 0, 2, 4, 2)
    file = File()
    file.keys.append(per_layer)
    assert parse_gguf(file.as_bytes()).head_count_kv == 4


def test_the_tensor_table_tells_how_long_the_file_must_be() -> None:
    file = File(tensors=[tensor("a", 64, 64, 2, 0), tensor("b", 32, 64, 0, 2304)])
    header = parse_gguf(file.as_bytes())
    assert header.tensor_bytes == 64 * 64 // 32 * 18 + 32 * 64 * 4
    assert header.needed_file_bytes == header.data_offset + 2304 + 32 * 64 * 4
    assert header.data_offset % 32 == 0


def test_a_tensor_type_of_the_future_does_not_matter() -> None:
    file = File(tensors=[tensor("a", 64, 64, 9999, 64)])
    assert parse_gguf(file.as_bytes()).needed_file_bytes > 64


@pytest.mark.parametrize(
    "start,words",
    [
        (b"", "empty"),
        (b"lmgg" + bytes(60), "old ggml file"),
        (b"tjgg" + bytes(60), "old ggml file"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n <HTML lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
        (struct.pack("<Q", 5000) + b'{"__metadata__":{}}', "safetensors"),
        (b"PK\x03\x04", "zip archive"),
        (b'{"error": "not found"}', "JSON"),
        (b"some other file", "not a GGUF model"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "big-endian"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(60), "version 1"),
        (b"GGUF" + struct.pack("<I", 77) + bytes(60), "version 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 2**60), f"{2**60} keys"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), f"{2**60} tensors"),
        (b"GGUF", "cut off"),
        (File().as_bytes()[:-3], "cut off"),
        (File(keys=[number("a.b", 1)]).as_bytes(), "architecture"),
        (File(keys=[text("k") + struct.pack("<I", 99)]).as_bytes(), "value type 99"),
        (File(keys=[text("k") + struct.pack("<IIQ", 9, 9, 1)]).as_bytes(), "array type 9"),
        (File(keys=[struct.pack("<Q", 2**50) + b"k"]).as_bytes(), "cut off"),
        (File(keys=[text("k") + struct.pack("<IIQ", 9, 8, 2**50)]).as_bytes(), "cut off"),
        (File(keys=[text("k") + struct.pack("<IIQ", 9, 4, 2**50)]).as_bytes(), "cut off"),
        (File(tensors=[text("t") + struct.pack("<I", 1000)]).as_bytes(), "1000 dimensions"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(start: bytes, words: str) -> None:
    assert words in refusal(start)


def test_a_header_cut_anywhere_is_refused(tiny_model: Path) -> None:
    data = tiny_model.read_bytes()[: read_gguf(tiny_model).data_offset - 32]
    for length in range(0, len(data), 97):
        with pytest.raises(ModelFileInvalid):
            parse_gguf(data[:length])


def test_a_string_in_a_vocabulary_may_not_claim_more_than_the_file_has() -> None:
    array = text("t") + struct.pack("<IIQ", 9, 8, 2) + text("a") + struct.pack("<Q", 2**40) + b"b"
    assert "cut off" in refusal(File(keys=[array]).as_bytes())


class CountingSource:
    """A header that stands in a file of 40 GB, and counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.most_at_once, self.read = data, 0, 0

    def size(self) -> int:
        return 40 << 30

    def at(self, offset: int, count: int) -> bytes:
        self.most_at_once = max(self.most_at_once, count)
        self.read += count
        return self.data[offset : offset + count]


def test_a_large_vocabulary_is_stepped_over_through_a_small_window() -> None:
    file = File()
    file.keys.append(words("tokenizer.ggml.tokens", [f"token {n}" for n in range(250_000)]))
    scores = struct.pack("<IIQ", 9, 6, 250_000) + bytes(4 * 250_000)
    file.keys.append(text("tokenizer.ggml.scores") + scores)
    file.keys.append(number("general.file_type", 15))
    source = CountingSource(file.as_bytes() + bytes(1 << 20))
    started = time.process_time()
    header = parse_gguf(source)
    assert time.process_time() - started < 5
    assert (header.vocab_size, header.quantisation) == (250_000, "Q4_K_M")
    assert source.most_at_once <= 1 << 20
    assert source.read < 3 * len(file.as_bytes())


def test_a_file_that_is_shorter_than_its_tensors_is_cut_off(
    tiny_model: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.gguf"
    short.write_bytes(tiny_model.read_bytes()[:-1])
    size = tiny_model.stat().st_size
    with pytest.raises(ModelFileInvalid, match=f"{size - 1} bytes of {size}"):
        read_gguf(short)


def test_a_file_that_is_absent_or_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid, match=r"absent.gguf.*No such file"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ModelFileInvalid, match="is a folder"):
        read_gguf(tmp_path)


def test_a_bad_file_is_named_in_its_reason(tmp_path: Path) -> None:
    page = tmp_path / "model.gguf"
    page.write_text("<html>404")
    with pytest.raises(ModelFileInvalid, match=r"model.gguf: the file is a web page") as caught:
        read_gguf(page)
    assert "download" in caught.value.hint


def test_a_split_model_is_all_its_parts(tmp_path: Path) -> None:
    file = File()
    file.keys.append(number("split.count", 2))
    parts = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    parts[0].write_bytes(file.as_bytes())
    header = read_gguf(parts[0])
    assert model_parts(parts[0], header) == parts
    with pytest.raises(ModelFileInvalid, match=r"m-00002-of-00002.gguf is missing"):
        model_bytes(parts[0], header)
    parts[1].write_bytes(bytes(100))
    assert model_bytes(parts[0], header) == parts[0].stat().st_size + 100
    renamed = parts[0].rename(tmp_path / "mine.gguf")
    with pytest.raises(ModelFileInvalid, match="one of 2 parts"):
        model_parts(renamed, header)
