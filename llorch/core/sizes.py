"""Threads, batch, context, slots and layers: measured defaults, made to fit the memory. Pure.

The defaults rest on figures of `bench/engine_defaults.py` and single runs beside it, in tokens/s:
SmolLM2-135M Q4_1, 2 cores of an Intel Xeon (AVX2, AVX-512), 24 GiB, xllamacpp 2026.10.11549. The
machine was shared, so the best of several runs counts. decode N: N streams together.

    threads  batch  slots  flash    prefill  decode 1  decode 4  decode 8
    1        64     4      off      140       49        93
    2        64     4      off      276       93       167
    3        64     4      off      152       30        86
    4        64     4      off      134       29        80
    2        128    4      off      246       94       166
    2        256    4      off      243       97       173
    2        512    4      off      227      112       169
    2        64     4      on       323      118       197
    2        512    4      on       311      123       199
    2        64     8      off                                   182

    prefill and decode 1 after a prompt of 50 words: flash off 278 and 84, on 323 and 91;
    of 400 words: 281, 79 and 310, 77; of 1,200 words: 215, 68 and 260, 62

threads: one per physical core. More of them wait for each other after every layer: 3 times slower.
batch 64 on a CPU: larger ones gain nothing, and a cancel while a prompt is read takes one batch. A
GPU needs larger ones to be busy.
flash attention on: prompts are read a tenth to a fifth faster, short contexts written faster, long
ones a tenth slower; over a whole answer that is less time, and the buffers are a fraction.
slots 4 on a CPU: four streams share it at 1.7 times the speed of one; eight add a tenth and leave
each with half. A GPU is shared by more.
ctx 4096, or the model's own where that is less: enough for a conversation, while the 32,768 tokens
or more of newer models would take 4 GiB of cache per slot in a 7B model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llorch.core.memory import (
    MemoryNeed,
    ModelShape,
    check_fits,
    check_room,
    gib,
    memory_need,
    usable,
)
from llorch.errors import ModelTooBig, UsageError

DEFAULT_CTX = 4096
SMALLEST_CTX = 512
CTX_STEP = 256
DEFAULT_SLOTS = {"cpu": 4, "cuda": 8, "metal": 4}
DEFAULT_BATCH = {"cpu": 64, "cuda": 512, "metal": 512}
LARGEST_PROMPT_CACHE_BYTES = 2 << 30
ALL_LAYERS_OF_ANY_MODEL = 999


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that an engine is loaded with; as wishes, 0 (for layers -1) means open."""

    threads: int
    batch: int
    ctx: int
    slots: int
    gpu_layers: int
    flash_attention: bool = False
    prompt_cache_mib: int = 0


def choose_sizes(
    shape: ModelShape,
    backend: str,
    cores: int,
    wished: Sizes,
    room: tuple[int, int | None],
    file_bytes: int,
    reasons: list[str],
) -> Sizes:
    """Fill in what the wishes leave open. room: free bytes of the machine, and of the GPU if any.

    Raises UsageError for a context that the model does not have, ModelTooBig.
    """
    shape = replace(shape, weight_bytes=max(shape.weight_bytes, file_bytes))
    ctx = wished.ctx or min(shape.context_length or DEFAULT_CTX, DEFAULT_CTX)
    _check_ctx(shape, ctx)
    wanted = Sizes(
        threads=wished.threads or cores,
        batch=wished.batch or DEFAULT_BATCH[backend],
        ctx=_in_steps(ctx, reasons),
        slots=wished.slots or DEFAULT_SLOTS[backend],
        gpu_layers=0 if backend == "cpu" else ALL_LAYERS_OF_ANY_MODEL,
        flash_attention=True,
    )
    reasons.append(f"threads {wanted.threads}" + ("" if wished.threads else ": one per free core"))
    machine, gpu = room
    if gpu is not None:
        return _on_gpu(shape, wanted, wished, (machine, gpu), reasons)
    fitting = _shrunk(shape, wanted, wished, machine, reasons)
    return _with_prompt_cache(fitting, machine - _need(shape, fitting).total)


def _check_ctx(shape: ModelShape, ctx: int) -> None:
    if shape.context_length and ctx > shape.context_length:
        raise UsageError(
            f"--ctx {ctx} is more than the model was made for: {shape.context_length} tokens",
            hint=f"use --ctx {shape.context_length} or less",
        )


def _in_steps(ctx: int, reasons: list[str]) -> int:
    """Rounded up as llama.cpp does, so that what is reported is what there is."""
    stepped = -(-ctx // CTX_STEP) * CTX_STEP
    if stepped != ctx:
        reasons.append(f"context {stepped} for {ctx}: the engine counts in steps of {CTX_STEP}")
    return stepped


def _need(shape: ModelShape, sizes: Sizes) -> MemoryNeed:
    return memory_need(
        shape,
        ctx=sizes.ctx,
        slots=sizes.slots,
        batch=sizes.batch,
        flash_attention=sizes.flash_attention,
    )


def _shrunk(
    shape: ModelShape, wanted: Sizes, wished: Sizes, free: int, reasons: list[str]
) -> Sizes:
    """The largest sizes that fit: first fewer slots, then less context; never below a wish.

    Slots go first: a short context refuses prompts, fewer slots only make them wait.
    """
    sizes = wanted
    while _need(shape, sizes).total > usable(free):
        if sizes.slots > 1 and not wished.slots:
            sizes = replace(sizes, slots=sizes.slots // 2)
        elif sizes.ctx > SMALLEST_CTX and not wished.ctx:
            sizes = replace(sizes, ctx=max(SMALLEST_CTX, sizes.ctx // 2 // CTX_STEP * CTX_STEP))
        else:
            break
    check_fits(_need(shape, sizes), ctx=sizes.ctx, slots=sizes.slots, free_bytes=free)
    if sizes != wanted:
        reasons.append(
            f"{sizes.slots} x {sizes.ctx} tokens of context instead of {wanted.slots} x "
            f"{wanted.ctx}: only {gib(free)} of memory is free"
        )
    return sizes


def _with_prompt_cache(sizes: Sizes, left: int) -> Sizes:
    """Give a quarter of what is left, and at most 2 GiB, to prompts of earlier tasks.

    llama.cpp keeps the cache of a conversation there when another takes its slot, so that its next
    turn need not be read again. Its own default, 8 GiB, would push a small machine into swap.
    """
    allowed = max(0, min(left // 4, LARGEST_PROMPT_CACHE_BYTES))
    return replace(sizes, prompt_cache_mib=allowed >> 20)


def _on_gpu(
    shape: ModelShape,
    wanted: Sizes,
    wished: Sizes,
    room: tuple[int, int],
    reasons: list[str],
) -> Sizes:
    """All layers on the GPU where they fit; else as many as fit, which the reasons then say."""
    machine, gpu = room
    if wished.gpu_layers >= 0:
        sizes = replace(wanted, gpu_layers=wished.gpu_layers)
    else:
        sizes = _all_or_some_layers(shape, wanted, wished, gpu, reasons)
    on_gpu = _bytes_of_layers(shape, sizes, sizes.gpu_layers)
    check_room(on_gpu, gpu, "of GPU memory")
    left = machine - (_need(shape, sizes).total - on_gpu)
    check_room(machine - left, machine, "of memory")
    return _with_prompt_cache(sizes, left)


def _all_or_some_layers(
    shape: ModelShape, wanted: Sizes, wished: Sizes, gpu: int, reasons: list[str]
) -> Sizes:
    try:
        return _shrunk(shape, wanted, wished, gpu, reasons)
    except ModelTooBig:
        layers = shape.blocks
        while layers and _bytes_of_layers(shape, wanted, layers) > usable(gpu):
            layers -= 1
        if not layers:
            raise
    reasons.append(
        f"{layers} of {shape.blocks} layers on the GPU, the others on the CPU: "
        f"only {gib(gpu)} of GPU memory is free"
    )
    return replace(wanted, gpu_layers=layers)


def _bytes_of_layers(shape: ModelShape, sizes: Sizes, layers: int) -> int:
    """Weights and cache of some layers, with the buffers; the output layer counts as one more."""
    if layers == 0:
        return 0
    need = _need(shape, sizes)
    all_layers = shape.blocks + 1
    return (need.weights + need.cache) * min(layers, all_layers) // all_layers + need.buffers
