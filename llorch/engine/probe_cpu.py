"""Cores and the name of the processor, as this process may use them.

Threads beyond the physical cores slow llama.cpp down (they wait for each other after every layer),
and so do threads beyond a container's quota: it stops all of them when the quota is used up.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from llorch.engine import probe_cgroup


@dataclass(frozen=True, slots=True)
class Cores:
    """Counts of the machine, and of what is left to this process."""

    physical: int
    logical: int
    usable: int


def cores() -> Cores:
    """Count. Where the topology cannot be read every logical core counts as a physical one."""
    logical = os.cpu_count() or 1
    allowed = _allowed() or set(range(logical))
    if platform.system() == "Darwin":
        physical = _sysctl_number("hw.physicalcpu") or logical
        # Efficiency cores hold the fast ones up; only the fast ones compute.
        usable = _sysctl_number("hw.perflevel0.physicalcpu") or physical
        return Cores(physical, logical, usable)
    topology = _topology(_cpuinfo())
    physical = len(set(topology.values())) or logical
    usable = len({topology.get(cpu, ("", str(cpu))) for cpu in allowed})
    quota = probe_cgroup.cpu_quota()
    return Cores(physical, logical, max(1, min(usable, quota or usable)))


def _allowed() -> set[int]:
    """The logical cores that this process may run on; empty where the system does not tell."""
    ask = getattr(os, "sched_getaffinity", None)
    return set(ask(0)) if ask else set()


def _topology(cpuinfo: str) -> dict[int, tuple[str, str]]:
    """Logical core -> (socket, physical core) of /proc/cpuinfo; empty where it does not say."""
    found: dict[int, tuple[str, str]] = {}
    for block in cpuinfo.split("\n\n"):
        values = dict(_pair(line) for line in block.splitlines())
        if values.get("processor", "").isdigit() and "core id" in values:
            place = (values.get("physical id", "0"), values["core id"])
            found[int(values["processor"])] = place
    return found


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""


def model() -> str:
    """The processor's name, the architecture where it has none."""
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    for line in _cpuinfo().splitlines():
        key, value = _pair(line)
        if key == "model name":
            return value
    return platform.machine()


def _sysctl_number(name: str) -> int:
    text = _sysctl(name)
    return int(text) if text.isdigit() else 0


def _sysctl(name: str) -> str:
    try:
        answer = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, check=False, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
