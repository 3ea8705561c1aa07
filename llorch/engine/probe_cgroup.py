"""The limits that a container or a systemd unit sets: CPU quota and memory (cgroups v2 and v1).

A limit holds for a group and all groups in it, so every group from ours up to the root is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Whole cores that the tightest quota allows, at least 1; None without a quota."""
    shares = []
    for folder in _folders(root, own, "cpu"):
        quota, period = _quota(folder)
        if quota > 0 and period > 0:
            shares.append(max(1, quota // period))
    return min(shares, default=None)


def _quota(folder: Path) -> tuple[int, int]:
    """Microseconds of CPU time per period, and the period; 0 where there is no limit."""
    v2 = _read(folder / "cpu.max").split()
    if len(v2) == 2:
        return _number(v2[0]), _number(v2[1])
    quota = _number(_read(folder / "cpu.cfs_quota_us"))
    return quota, _number(_read(folder / "cpu.cfs_period_us"))


def memory_left(root: Path = ROOT, own: Path = OWN) -> tuple[int, int] | None:
    """(limit, bytes left under it) of the tightest memory limit; None without one."""
    limits = []
    for folder in _folders(root, own, "memory"):
        limit = _number(_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes"))
        used = _number(_read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes"))
        # v1 says "no limit" with a number near 2**63.
        if 0 < limit < 1 << 60:
            limits.append((limit, max(0, limit - max(0, used - _droppable(folder)))))
    return min(limits, key=lambda limit: limit[1], default=None)


def _droppable(folder: Path) -> int:
    """Cached file contents, which the kernel gives up when memory is asked for."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return _number(value)
    return 0


def _folders(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Our group's folder and all above it. In a container the root itself is our group."""
    for line in _read(own).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        folder = base / path.strip().lstrip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(base))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int:
    """A whole number, 0 for "max", -1 and what is none."""
    return int(text) if text.strip().isdigit() else 0
