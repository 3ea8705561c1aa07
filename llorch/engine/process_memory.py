"""How much memory a process holds."""

from __future__ import annotations

import subprocess
from pathlib import Path


def resident_bytes(pid: int) -> int | None:
    """Resident size of a process in bytes; None where it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status")
        if status.is_file():
            return _from_status(status.read_text())
        ps = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)],
            capture_output=True,
            check=False,
            text=True,
            timeout=5,
        )
        return int(ps.stdout) * 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _from_status(text: str) -> int | None:
    """VmRSS of /proc/PID/status, which counts in KiB."""
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return None
