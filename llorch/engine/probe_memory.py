"""Memory of this machine, and what of it a new process can have."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

from llorch.engine import probe_cgroup

_PAGE_SIZE = re.compile(r"page size of (\d+) bytes")


def memory() -> tuple[int, int]:
    """(total, free) in bytes, limits of containers included; zeros where it cannot be read."""
    if platform.system() == "Darwin":
        return _of_macos()
    total, free = parse_meminfo(_read("/proc/meminfo"))
    limit = probe_cgroup.memory_left()
    if limit is None:
        return total, free
    return min(total, limit[0]), min(free, limit[1])


def parse_meminfo(text: str) -> tuple[int, int]:
    """(MemTotal, MemAvailable) of /proc/meminfo in bytes. It counts in KiB."""
    found: list[tuple[str, str]] = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)
    values = {name: int(count) * 1024 for name, count in found}
    return values.get("MemTotal", 0), values.get("MemAvailable", values.get("MemFree", 0))


def _of_macos() -> tuple[int, int]:
    total = _output("sysctl", "-n", "hw.memsize")
    return int(total) if total.isdigit() else 0, parse_vm_stat(_output("vm_stat"))


def parse_vm_stat(text: str) -> int:
    """Bytes that macOS can hand out: free, inactive, speculative and purgeable pages."""
    page = _PAGE_SIZE.search(text)
    kinds = r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)\.$"
    pages = sum(int(count) for count in re.findall(kinds, text, re.MULTILINE))
    return pages * int(page[1]) if page else 0


def _output(*command: str) -> str:
    try:
        return _run(command).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=5)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
