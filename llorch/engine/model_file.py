"""Opening a model file and reading what its header says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from llorch.errors import ModelFileInvalid
from llorch.wire.gguf import GgufHeader, parse_gguf

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class _File:
    """An open file as a source of the header's bytes."""

    file: BinaryIO
    length: int

    def size(self) -> int:
        return self.length

    def at(self, offset: int, count: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(count)


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of a GGUF file and check that the file is as long as its tensors need.

    Takes milliseconds for a file of any size. Raises ModelFileInvalid with the reason.
    """
    if path.is_dir():
        raise ModelFileInvalid(f"{path} is a folder", hint="name the .gguf file in it")
    try:
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            header = parse_gguf(_File(file, size))
    except OSError as error:
        raise ModelFileInvalid(
            f"the model file {path} cannot be read: {error.strerror or error}",
            hint="check the path and its permissions",
        ) from error
    except ModelFileInvalid as error:
        raise ModelFileInvalid(f"{path}: {error.message}", hint=error.hint) from error
    _check_length(path, size, header)
    return header


def _check_length(path: Path, size: int, header: GgufHeader) -> None:
    if size < header.needed_file_bytes:
        raise ModelFileInvalid(
            f"{path}: the model file is cut off: it has {size} bytes of {header.needed_file_bytes}",
            hint="download the model again; a download resumes where it stopped",
        )


def model_bytes(path: Path, header: GgufHeader) -> int:
    """Size of the model on disk in bytes, all parts of a split model together.

    Raises ModelFileInvalid when a part is missing.
    """
    return sum(_size_of(part) for part in model_parts(path, header))


def model_parts(path: Path, header: GgufHeader) -> list[Path]:
    """The files of a model: `x-00001-of-00003.gguf` and its followers, or just the one."""
    count = header.split_count
    if count < 2:
        return [path]
    end = f"-of-{count:05d}.gguf"
    if not path.name.endswith(end):
        raise ModelFileInvalid(
            f"{path}: the file is one of {count} parts, but its name does not say which",
            hint=f"keep the names that the parts were published under: NAME-00001{end}",
        )
    start = path.name[: -len(end) - len("-00001")]
    return [path.with_name(f"{start}-{number:05d}{end}") for number in range(1, count + 1)]


def _size_of(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError as error:
        raise ModelFileInvalid(
            f"{part} is missing: it is a part of the model", hint="download all parts of the model"
        ) from error
