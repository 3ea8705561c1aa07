"""How much memory a model needs with its context, and whether it fits.

The formula, all in bytes:

    weights   every tensor of the file (it is mapped, but must stay resident to be fast)
    cache     ctx * slots * blocks * (key and value numbers per token) * 2 (f16)
    buffers   batch * 4 * (2 * feed_forward + 4 * embedding + ctx * heads without flash attention)
              + batch * ctx * 2 (the mask) + slots * vocabulary * 4 (one row of logits per slot)
    process   what Python and the libraries hold

The first two are what llama.cpp allocates by construction (`llama_kv_cache`, `load_tensors`); the
buffers follow its compute graph, one attention score matrix and one feed-forward at a time.
Measured on SmolLM2-135M (30 blocks, 9 heads, f16 cache), resident size against the estimate, MiB:

    ctx 4096, slots 1, batch 64, flash off    237 of 257
    ctx 4096, slots 8, batch 64, flash off    869 of 889
    ctx 4096, slots 4, batch 512, flash on    508 of 532

Models with sliding windows or few attention layers need less cache than this says: it is an upper
bound, so that nothing is loaded that swaps the machine to death.
"""

from __future__ import annotations

from dataclasses import dataclass

from llorch.errors import ModelTooBig

CACHE_VALUE_BYTES = 2
FLOAT_BYTES = 4
PROCESS_BYTES = 64 << 20

# A machine that is filled to the last page kills something; keep a twentieth of what is free.
USABLE_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that decide its memory. kv_values_per_token: of one block."""

    weight_bytes: int
    context_length: int
    blocks: int
    embedding_length: int
    feed_forward_length: int
    heads: int
    kv_values_per_token: int
    vocab_size: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What a model needs, in bytes, by what it is for."""

    weights: int
    cache: int
    buffers: int
    process: int = PROCESS_BYTES

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.buffers + self.process


def memory_need(
    shape: ModelShape, *, ctx: int, slots: int, batch: int, flash_attention: bool = False
) -> MemoryNeed:
    """Memory for a model with `slots` contexts of `ctx` tokens; see the module for the formula."""
    scores = 0 if flash_attention else ctx * shape.heads
    per_token = 2 * shape.feed_forward_length + 4 * shape.embedding_length + scores
    return MemoryNeed(
        weights=shape.weight_bytes,
        cache=ctx * slots * cache_bytes_per_token(shape),
        buffers=batch * (FLOAT_BYTES * per_token + 2 * ctx)
        + slots * shape.vocab_size * FLOAT_BYTES,
    )


def cache_bytes_per_token(shape: ModelShape) -> int:
    """Bytes of the key-value cache that one token of context takes."""
    return shape.blocks * shape.kv_values_per_token * CACHE_VALUE_BYTES


def usable(free_bytes: int) -> int:
    """The part of the free memory that a model may take."""
    return int(free_bytes * USABLE_SHARE)


def check_fits(need: MemoryNeed, *, ctx: int, slots: int, free_bytes: int) -> None:
    """Raise ModelTooBig with both numbers where a model with its context does not fit."""
    if need.total <= usable(free_bytes):
        return
    raise ModelTooBig(
        f"the model needs {gib(need.total)} of memory (weights {gib(need.weights)}, "
        f"{slots} x {ctx} tokens of context {gib(need.cache)}), but only {gib(free_bytes)} is free",
        hint="use a smaller --ctx or --slots, a smaller quantisation, or free some memory",
        extra={"needed_bytes": need.total, "free_bytes": free_bytes},
    )


def check_room(needed_bytes: int, free_bytes: int, kind: str) -> None:
    """Raise ModelTooBig where a part of a model does not fit its place. kind: "of GPU memory"."""
    if needed_bytes > usable(free_bytes):
        raise ModelTooBig(
            f"the model needs {gib(needed_bytes)} {kind}, but only {gib(free_bytes)} is free",
            hint="use a smaller --ctx or --slots, other --gpu-layers, or a smaller quantisation",
            extra={"needed_bytes": needed_bytes, "free_bytes": free_bytes},
        )


def gib(count: int) -> str:
    """A size for people: in GiB with one digit, or in MiB where that would say 0.0."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
