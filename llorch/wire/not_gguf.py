"""Saying what a file is that was given as a GGUF model and is none, by its first bytes."""

from __future__ import annotations

from llorch.errors import ModelFileInvalid

# Magic numbers of the formats before GGUF, stored little-endian, so they read backwards.
OLD_GGML = (b"lmgg", b"fmgg", b"tjgg", b"algg")


def what_is_it(start: bytes) -> ModelFileInvalid:
    """The error for a file that begins with `start`: what it seems to be, and what to do."""
    for looks_so, what, hint in _KINDS:
        if looks_so(start):
            return ModelFileInvalid(what, hint=hint)
    return ModelFileInvalid(
        "the file is not a GGUF model", hint="name a model file in the GGUF format"
    )


def is_old_ggml(start: bytes) -> bool:
    """Whether the file has one of the formats that came before GGUF."""
    return start[:4] in OLD_GGML


def _is_page(start: bytes) -> bool:
    return start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


def _is_lfs_pointer(start: bytes) -> bool:
    return start.startswith(b"version https://git-lfs")


def _is_safetensors(start: bytes) -> bool:
    """The length of a JSON header, then that header."""
    return start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 32


def _is_json(start: bytes) -> bool:
    return start.lstrip().startswith(b'{"')


_KINDS = (
    (lambda start: not start, "the model file is empty", "download the model again"),
    (
        is_old_ggml,
        "the file is an old ggml file, from before GGUF; llama.cpp no longer loads it",
        "download the model as GGUF",
    ),
    (
        _is_page,
        "the file is a web page, not a model: its download was answered with a page",
        "check the address and whether it needs a login, then download it again",
    ),
    (
        _is_lfs_pointer,
        "the file is a Git LFS pointer, not the model itself",
        "run `git lfs pull` in the checkout that it comes from",
    ),
    (
        _is_safetensors,
        "the file is a safetensors file, not GGUF",
        "download a GGUF file of the model",
    ),
    (
        lambda start: start.startswith((b"PK\x03\x04", b"\x80\x02")),
        "the file is a PyTorch or zip archive, not GGUF",
        "download a GGUF file of the model",
    ),
    (
        _is_json,
        "the file is JSON text, not a model",
        "check the address, then download the model again",
    ),
)
