"""Gathering the facts of this machine that the choice of engine and sizes depends on.

Takes a few milliseconds, and up to some seconds where an NVIDIA driver is asleep. Nothing here
raises: what cannot be found out becomes a sentence in `problems`.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from llorch.core.choice import EngineBuild, GpuFacts, HostFacts
from llorch.engine import host_check, probe_cpu, probe_memory
from llorch.engine.probe_gpu import nvidia_devices

FLAGS_OF_INTEREST = frozenset(
    {"avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"}
    | {"asimd", "asimddp", "i8mm", "sve"}
)


def probe() -> HostFacts:
    """Return the facts of this machine, as this process may use it."""
    problems: list[str] = []
    host = host_check.gather()
    reason = host_check.llamacpp_reason(host)
    if reason:
        problems.append(reason)
    memory_total, memory_free = probe_memory.memory()
    if not memory_total:
        problems.append("the memory of this machine cannot be read")
    cores = probe_cpu.cores()
    return HostFacts(
        system=sys.platform,
        machine=platform.machine(),
        cpu_model=probe_cpu.model(),
        physical_cores=cores.physical,
        logical_cores=cores.logical,
        usable_cores=cores.usable,
        cpu_flags=tuple(sorted(host.cpu_flags & FLAGS_OF_INTEREST)),
        memory_total=memory_total,
        memory_free=memory_free,
        gpus=_visible(nvidia_devices(problems)),
        metal=_has_metal(),
        builds=_builds(),
        problems=tuple(problems),
    )


def _visible(gpus: tuple[GpuFacts, ...]) -> tuple[GpuFacts, ...]:
    """Only the devices that CUDA_VISIBLE_DEVICES leaves, where it names them by number."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None or not all(part.strip().isdigit() for part in named.split(",") if part):
        return gpus
    allowed = {int(part) for part in named.split(",") if part}
    return tuple(gpu for gpu in gpus if gpu.index in allowed)


def _has_metal() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _builds() -> tuple[EngineBuild, ...]:
    """The engine libraries that could be imported; they are looked at, not loaded."""
    spec = find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        return ()
    backends = ["cpu"]
    if _has_metal():
        backends.append("metal")
    if any(_carries_cuda(folder) for folder in _library_folders(Path(spec.origin).parent)):
        backends.append("cuda")
    return (EngineBuild("llamacpp", _version("xllamacpp"), tuple(backends)),)


def _library_folders(package: Path) -> tuple[Path, ...]:
    """The package, and the folder beside it where wheels put the libraries they carry."""
    return package, package.with_name("xllamacpp.libs")


def _carries_cuda(folder: Path) -> bool:
    """A CUDA build links the CUDA runtime, or carries ggml's CUDA part."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return any("cudart" in name or "ggml-cuda" in name or "cublas" in name for name in names)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
