"""Which process a pid means: the system uses pids again, start times it does not.

Linux   boot id and start time in ticks from /proc/PID/stat (field 22, see proc(5))
macOS   `ps -o lstart=`, the start time to the second
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROC = Path("/proc")


def process_start(pid: int) -> str | None:
    """When this process started, as a word to compare; None where no such process runs.

    A zombie has ended and only waits to be noticed: None.
    """
    if pid <= 0:
        return None
    return _from_proc(pid) if sys.platform == "linux" else _from_ps(pid)


def _from_proc(pid: int) -> str | None:
    try:
        line = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may itself hold spaces and parentheses.
    after_name = line.rpartition(")")[2].split()
    state, ticks = after_name[0], after_name[19]
    return None if state in "ZX" else f"{_boot_id()}:{ticks}"


def _boot_id() -> str:
    # Ticks count from the boot: after another one the same pid and ticks may come again.
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # some containers hide it; pid and ticks then have to do
        return ""


def _from_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/bin:/usr/bin"},
        check=False,
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() or None if state and not state.startswith("Z") else None
