"""Whether this machine can run an engine's native library, and what to do where it cannot.

The libraries are compiled for one kind of processor each and say nothing useful on another: an
old CPU gets SIGILL in the first call, long after an import that succeeded. So an engine asks here
before it imports its library. Commands that compute nothing (an orchestrator, the catalog) never
ask, and run on machines that no engine supports.

`gather()` reads the facts; everything else is a pure function of them.
"""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

LLAMACPP_CPU_FLAGS = ("avx2", "fma", "f16c", "bmi2")
"""What the x86-64 build of xllamacpp uses without asking (one variant, no dispatch)."""

LLAMACPP_MACOS = (13, 3)
CTRANSFORMERS_GLIBC = (2, 29)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the decisions below depend on."""

    system: str
    """`sys.platform`: linux, darwin, ..."""
    machine: str
    """`uname -m`: x86_64, aarch64, arm64, ..."""
    cpu_flags: frozenset[str] = frozenset()
    """Flags of /proc/cpuinfo, lower case; empty where it has none."""
    has_libgomp: bool = True
    """Whether the loader finds libgomp.so.1, the OpenMP runtime."""
    glibc: tuple[int, int] | None = None
    macos: tuple[int, int] | None = None


def llamacpp_reason(facts: HostFacts) -> str | None:
    """Return why xllamacpp cannot run here, with what to do about it, or None where it can."""
    if facts.system == "linux":
        return _cpu_reason(facts) or _libgomp_reason(facts)
    if facts.macos is not None and facts.macos < LLAMACPP_MACOS:
        return f"the llamacpp engine needs macOS {_dotted(LLAMACPP_MACOS)} or later: update macOS"
    return None


def ctransformers_reason(facts: HostFacts) -> str | None:
    """Return why ctransformers cannot run here, with what to do about it, or None where it can."""
    if facts.system == "linux" and facts.machine != "x86_64":
        return f"the ctransformers engine has no library for {facts.machine}: use llamacpp"
    if facts.glibc is not None and facts.glibc < CTRANSFORMERS_GLIBC:
        return (
            f"the ctransformers engine needs glibc {_dotted(CTRANSFORMERS_GLIBC)}, this system has "
            f"{_dotted(facts.glibc)}: use llamacpp"
        )
    return None


def ctransformers_lib(facts: HostFacts) -> str:
    """Return the build of the library to ask for: avx2, avx or basic.

    The same rule as ctransformers' own, which takes 1.2 s to find the flags out.
    """
    if {"avx2", "f16c", "fma"} <= facts.cpu_flags:
        return "avx2"
    if {"avx", "f16c"} <= facts.cpu_flags:
        return "avx"
    return "basic"


def gather() -> HostFacts:
    """Read the facts of this machine. Nothing raises: what cannot be read is left out."""
    return HostFacts(
        system=sys.platform,
        machine=os.uname().machine,
        cpu_flags=parse_cpu_flags(_read_cpuinfo()),
        has_libgomp=_loads("libgomp.so.1"),
        glibc=parse_glibc(_glibc_text()),
        macos=_macos_version(),
    )


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags of the first processor in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in {"flags", "features"}:
            return frozenset(value.lower().split())
    return frozenset()


def parse_glibc(text: str) -> tuple[int, int] | None:
    """Return (2, 36) for "glibc 2.36", and None for any other C library."""
    name, _, version = text.partition(" ")
    numbers = version.split(".")
    if name != "glibc" or len(numbers) < 2 or not all(n.isdigit() for n in numbers[:2]):
        return None
    return int(numbers[0]), int(numbers[1])


def _cpu_reason(facts: HostFacts) -> str | None:
    """A machine whose flags cannot be read gets the benefit of the doubt."""
    if facts.machine != "x86_64" or not facts.cpu_flags:
        return None
    missing = [flag for flag in LLAMACPP_CPU_FLAGS if flag not in facts.cpu_flags]
    if not missing:
        return None
    return (
        f"the llamacpp engine needs a processor with {', '.join(LLAMACPP_CPU_FLAGS)}; this one "
        f"lacks {', '.join(missing)}: use --engine ctransformers, or another machine"
    )


def _libgomp_reason(facts: HostFacts) -> str | None:
    if facts.has_libgomp:
        return None
    return (
        "the llamacpp engine needs libgomp.so.1, which this system lacks: "
        "apt-get install libgomp1, dnf install libgomp, or zypper install libgomp1"
    )


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _read_cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _glibc_text() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):
        return ""


def _macos_version() -> tuple[int, int] | None:
    """The version is empty, so None, on every other system."""
    numbers = platform.mac_ver()[0].split(".")
    if not numbers[0].isdigit():
        return None
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0
