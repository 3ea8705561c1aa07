"""Reading the header of a GGUF model file, and saying what is wrong with a file that is none.

Theory of operation. Layout (the GGUF specification in ggml's `docs/gguf.md`), all little-endian:

    magic "GGUF" | u32 version | u64 tensors | u64 keys | key-values | tensor table | padding | data

The header may be tens of MB long (a vocabulary of 250,000 strings) and stands in a file of many GB,
so it is read through a window (`gguf_bytes.Cursor`), and arrays are stepped over, not kept. The
tensor table says where the last tensor ends: a file that is shorter was cut off.

No file is opened here: the bytes come from a `Source`, or whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llorch.core.memory import ModelShape
from llorch.errors import ModelFileInvalid
from llorch.wire.gguf_bytes import Array, Cursor, Source, Value, WholeBytes
from llorch.wire.gguf_names import FILE_TYPES, TENSOR_TYPES
from llorch.wire.not_gguf import what_is_it

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_KEYS = 100_000
MOST_TENSORS = 1_000_000
MOST_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself. Absent keys are 0, "" or False; sizes are in bytes.

    head_count_kv: of the layer that has most. needed_file_bytes: end of the last tensor, so a
    shorter file was cut off. tensor_bytes: all weights together. split_count: files of the model.
    """

    version: int
    architecture: str
    name: str
    quantisation: str
    context_length: int
    block_count: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    vocab_size: int
    tokenizer_model: str
    has_chat_template: bool
    tensor_count: int
    tensor_bytes: int
    data_offset: int
    needed_file_bytes: int
    split_count: int

    def shape(self) -> ModelShape:
        """What the memory arithmetic needs of it."""
        return ModelShape(
            weight_bytes=self.tensor_bytes,
            context_length=self.context_length,
            blocks=self.block_count,
            embedding_length=self.embedding_length,
            feed_forward_length=self.feed_forward_length,
            heads=self.head_count,
            kv_values_per_token=self.head_count_kv * (self.key_length + self.value_length),
            vocab_size=self.vocab_size,
        )


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The tensor table in sum. end: of the last tensor, from the start of the data."""

    count: int
    end: int
    bytes: int
    vocab_size: int


def parse_gguf(source: Source | bytes) -> GgufHeader:
    """Read a header. Raises ModelFileInvalid with the reason where it is none, or is damaged."""
    cursor = Cursor(WholeBytes(source) if isinstance(source, bytes) else source)
    version = _check_start(cursor)
    tensor_count, key_count = cursor.u64(), cursor.u64()
    if key_count > MOST_KEYS or tensor_count > MOST_TENSORS:
        raise ModelFileInvalid(
            f"the GGUF header is damaged: it claims {key_count} keys and {tensor_count} tensors",
            hint="download the model again",
        )
    keys = {cursor.text(): cursor.value() for _ in range(key_count)}
    tensors = _read_tensors(cursor, tensor_count)
    alignment = _whole(keys, "general.alignment") or DEFAULT_ALIGNMENT
    data_offset = -(-cursor.position // alignment) * alignment
    return _header(version, keys, tensors, data_offset)


def _check_start(cursor: Cursor) -> int:
    """Check magic and version; return the version."""
    start = cursor.peek(512)
    if start[:4] != MAGIC:
        raise what_is_it(start)
    cursor.skip(4)
    version = cursor.u32()
    if version & 0xFFFF == 0 and version:
        raise ModelFileInvalid(
            "the GGUF file is big-endian; this machine's engines read little-endian ones",
            hint="download the little-endian file of the model",
        )
    if version not in VERSIONS:
        raise ModelFileInvalid(
            f"GGUF version {version} is not known; versions 2 and 3 are",
            hint="download a newer file of the model" if version < 2 else "update llorch",
        )
    return version


def _read_tensors(cursor: Cursor, count: int) -> _Tensors:
    end = total = vocab_size = 0
    for _ in range(count):
        name = cursor.text()
        dimensions = [cursor.u64() for _ in range(_dimensions(cursor))]
        size, offset = _tensor_bytes(dimensions, cursor.u32()), cursor.u64()
        end, total = max(end, offset + size), total + size
        if name == "token_embd.weight" and len(dimensions) > 1:
            vocab_size = dimensions[1]
    return _Tensors(count, end, total, vocab_size)


def _dimensions(cursor: Cursor) -> int:
    dimensions = cursor.u32()
    if dimensions > MOST_DIMENSIONS:
        raise ModelFileInvalid(
            f"the GGUF header is damaged: a tensor claims {dimensions} dimensions",
            hint="download the model again",
        )
    return dimensions


def _tensor_bytes(dimensions: list[int], type_number: int) -> int:
    """Size of a tensor; 0 for a type that is newer than this table, so a lower bound."""
    elements = 1
    for dimension in dimensions:
        elements *= dimension
    block, block_bytes = TENSOR_TYPES.get(type_number, (1, 0))
    return elements // block * block_bytes


def _header(
    version: int, keys: Mapping[str, Value], tensors: _Tensors, data_offset: int
) -> GgufHeader:
    architecture = _text(keys, "general.architecture")
    if not architecture:
        raise ModelFileInvalid(
            "the GGUF file does not say its architecture: it holds no language model",
            hint="name the model's main file, not an adapter or projector",
        )
    heads = _whole(keys, f"{architecture}.attention.head_count")
    embedding = _whole(keys, f"{architecture}.embedding_length")
    head_size = embedding // heads if heads else 0
    return GgufHeader(
        version=version,
        architecture=architecture,
        name=_text(keys, "general.name"),
        quantisation=FILE_TYPES.get(_whole(keys, "general.file_type", absent=-1), ""),
        context_length=_whole(keys, f"{architecture}.context_length"),
        block_count=_whole(keys, f"{architecture}.block_count"),
        embedding_length=embedding,
        feed_forward_length=_whole(keys, f"{architecture}.feed_forward_length"),
        head_count=heads,
        head_count_kv=_whole(keys, f"{architecture}.attention.head_count_kv") or heads,
        key_length=_whole(keys, f"{architecture}.attention.key_length") or head_size,
        value_length=_whole(keys, f"{architecture}.attention.value_length") or head_size,
        vocab_size=_length(keys, "tokenizer.ggml.tokens") or tensors.vocab_size,
        tokenizer_model=_text(keys, "tokenizer.ggml.model"),
        has_chat_template=bool(_text(keys, "tokenizer.chat_template")),
        tensor_count=tensors.count,
        tensor_bytes=tensors.bytes,
        data_offset=data_offset,
        needed_file_bytes=data_offset + tensors.end if tensors.count else 0,
        split_count=_whole(keys, "split.count") or 1,
    )


def _text(keys: Mapping[str, Value], key: str) -> str:
    value = keys.get(key)
    return value if isinstance(value, str) else ""


def _whole(keys: Mapping[str, Value], key: str, absent: int = 0) -> int:
    """A whole number; of an array with one per layer, the largest."""
    value = keys.get(key)
    if isinstance(value, Array):
        return max(value.numbers, default=absent)
    return value if isinstance(value, int) else absent


def _length(keys: Mapping[str, Value], key: str) -> int:
    value = keys.get(key)
    return value.length if isinstance(value, Array) else 0
