"""Choosing engine, backend, device and sizes from the facts of a machine and a user's wishes.

Theory of operation. `choose` is pure: what a machine is comes in as `HostFacts` (recorded facts of
many machines are its tests), what the user said as `Wishes`, the model as `ModelShape`. Decisions
are made in this order, each with a reason that is shown:

  1. engine     a name that exists and whose build is here
  2. backend    the one asked for, or refused; `auto` takes the best that build and machine have
  3. device     the one asked for, or refused
  4. threads, batch, flash attention
  5. context and slots: as asked, or the defaults made smaller until they fit the memory
  6. layers on the GPU, memory for prompts of earlier tasks

A wish is fulfilled or refused, never replaced by something else.

The defaults, by measurement (`bench/engine_defaults.py`): see `llorch/core/sizes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llorch.core.sizes import Sizes, choose_sizes
from llorch.errors import EngineUnavailable, UsageError

if TYPE_CHECKING:
    from llorch.core.memory import ModelShape

ENGINES = ("llamacpp", "echo")
BACKENDS = ("cpu", "cuda", "metal")
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One NVIDIA device. Memory in bytes."""

    index: int
    name: str
    memory_total: int
    memory_free: int
    driver: str


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """An engine library that can be imported here, and the backends inside it."""

    engine: str
    version: str
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a machine is. Memory in bytes, as this process may use it (cgroup limits included).

    usable_cores: physical cores that affinity and quota leave to this process, at least 1.
    problems: sentences on what could not be found out or cannot work here.
    """

    system: str
    machine: str
    cpu_model: str
    physical_cores: int
    logical_cores: int
    usable_cores: int
    cpu_flags: tuple[str, ...]
    memory_total: int
    memory_free: int
    gpus: tuple[GpuFacts, ...] = ()
    metal: bool = False
    builds: tuple[EngineBuild, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for; None and "auto" leave it to llorch. ctx: tokens per slot."""

    engine: str = AUTO
    backend: str = AUTO
    device: int | None = None
    threads: int | None = None
    batch: int | None = None
    ctx: int | None = None
    slots: int | None = None
    gpu_layers: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """How an engine is loaded. ctx: tokens per slot. device: "cpu", "cuda:0", "metal:0"."""

    engine: str
    backend: str
    device: str
    device_index: int
    threads: int
    batch: int
    ctx: int
    slots: int
    gpu_layers: int
    flash_attention: bool
    prompt_cache_mib: int
    reasons: tuple[str, ...]


def choose(
    facts: HostFacts, wishes: Wishes, shape: ModelShape | None, *, file_bytes: int = 0
) -> Choice:
    """Decide how to serve a model. shape: None only for the echo engine, which has no model.

    Raises UsageError for impossible numbers, EngineUnavailable where the machine lacks what was
    asked for, ModelTooBig where the memory does not suffice.
    """
    _check_numbers(wishes)
    reasons: list[str] = []
    engine = _engine(facts, wishes, reasons)
    if engine == "echo":
        return _echo(wishes, reasons)
    if shape is None:
        raise EngineUnavailable(
            "the llamacpp engine needs a model file", hint="name one with --model"
        )
    backend = _backend(facts, wishes, reasons)
    index = _device(facts, wishes, backend)
    room = _room(facts, backend, index)
    sizes = choose_sizes(
        shape, backend, facts.usable_cores, _wished_sizes(wishes), room, file_bytes, reasons
    )
    return Choice(
        engine=engine,
        backend=backend,
        device=backend if backend == "cpu" else f"{backend}:{index}",
        device_index=index,
        threads=sizes.threads,
        batch=sizes.batch,
        ctx=sizes.ctx,
        slots=sizes.slots,
        gpu_layers=sizes.gpu_layers,
        flash_attention=sizes.flash_attention,
        prompt_cache_mib=sizes.prompt_cache_mib,
        reasons=tuple(reasons),
    )


def _check_numbers(wishes: Wishes) -> None:
    for name in ("threads", "batch", "ctx", "slots"):
        value = getattr(wishes, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value} is not possible: it must be at least 1")
    for name, value in (("device", wishes.device), ("gpu-layers", wishes.gpu_layers)):
        if value is not None and value < 0:
            raise UsageError(f"--{name} {value} is not possible: it must be at least 0")


def _engine(facts: HostFacts, wishes: Wishes, reasons: list[str]) -> str:
    name = "llamacpp" if wishes.engine == AUTO else wishes.engine
    if name not in ENGINES:
        raise EngineUnavailable(
            f"there is no engine {name}", hint=f"use one of: {', '.join((AUTO, *ENGINES))}"
        )
    if name == "llamacpp" and _build(facts) is None:
        raise EngineUnavailable(
            "the llamacpp engine is not installed in this Python",
            hint="run llorch.pyz, which carries it, or install the package xllamacpp",
        )
    if wishes.engine == AUTO:
        reasons.append("engine llamacpp: it loads every GGUF model")
    return name


def _build(facts: HostFacts) -> EngineBuild | None:
    return next((build for build in facts.builds if build.engine == "llamacpp"), None)


def _backend(facts: HostFacts, wishes: Wishes, reasons: list[str]) -> str:
    if wishes.backend not in (AUTO, *BACKENDS):
        raise EngineUnavailable(
            f"there is no backend {wishes.backend}",
            hint=f"use one of: {', '.join((AUTO, *BACKENDS))}",
        )
    if wishes.backend == AUTO:
        return _best_backend(facts, reasons)
    lacking = _what_lacks(facts, wishes.backend)
    if lacking:
        raise EngineUnavailable(
            f"{wishes.backend} was asked for, but {lacking}",
            hint="use --backend cpu or auto; `llorch pool backends` shows what this machine has",
        )
    return wishes.backend


def _what_lacks(facts: HostFacts, backend: str) -> str:
    """Why a backend cannot be used here, "" where it can."""
    build = _build(facts)
    if backend == "cuda" and not facts.gpus:
        return "no NVIDIA device was found on this machine"
    if backend == "metal" and not facts.metal:
        return "Metal exists on Apple silicon only"
    if build is None or backend not in build.backends:
        return f"the llamacpp build here has no {backend} inside"
    return ""


def _best_backend(facts: HostFacts, reasons: list[str]) -> str:
    for backend in ("cuda", "metal"):
        if not _what_lacks(facts, backend):
            reasons.append(f"backend {backend}: the fastest that is here")
            return backend
    if facts.gpus:
        lacking = _what_lacks(facts, "cuda")
        reasons.append(f"backend cpu: {facts.gpus[0].name} is here, but {lacking}")
    else:
        reasons.append("backend cpu: no GPU was found that the engine can use")
    return "cpu"


def _device(facts: HostFacts, wishes: Wishes, backend: str) -> int:
    devices = [gpu.index for gpu in facts.gpus] if backend == "cuda" else [0]
    if wishes.device is None:
        return max(facts.gpus, key=_free).index if backend == "cuda" else 0
    if wishes.device not in devices:
        raise EngineUnavailable(
            f"device {wishes.device} was asked for, but {backend} has: "
            + ", ".join(map(str, devices)),
            hint="leave --device out, or name one of these",
        )
    return wishes.device


def _free(gpu: GpuFacts) -> tuple[int, int]:
    """The device with most free memory; of equals the first."""
    return gpu.memory_free, -gpu.index


def _room(facts: HostFacts, backend: str, index: int) -> tuple[int, int | None]:
    """Free bytes of the machine, and of the GPU where it has memory of its own."""
    if backend != "cuda":
        return facts.memory_free, None
    return facts.memory_free, next(g.memory_free for g in facts.gpus if g.index == index)


def _wished_sizes(wishes: Wishes) -> Sizes:
    return Sizes(
        threads=wishes.threads or 0,
        batch=wishes.batch or 0,
        ctx=wishes.ctx or 0,
        slots=wishes.slots or 0,
        gpu_layers=-1 if wishes.gpu_layers is None else wishes.gpu_layers,
    )


def _echo(wishes: Wishes, reasons: list[str]) -> Choice:
    if wishes.backend not in (AUTO, "cpu"):
        raise EngineUnavailable(
            f"{wishes.backend} was asked for, but the echo engine computes nothing",
            hint="leave --backend out",
        )
    reasons.append("engine echo: it repeats the prompt; no model is loaded")
    return Choice(
        engine="echo",
        backend="cpu",
        device="cpu",
        device_index=0,
        threads=wishes.threads or 1,
        batch=wishes.batch or 64,
        ctx=wishes.ctx or 4096,
        slots=wishes.slots or 4,
        gpu_layers=0,
        flash_attention=False,
        prompt_cache_mib=0,
        reasons=tuple(reasons),
    )
