"""The logs of background workers: their last words, and the old ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

from llorch.store import workers
from llorch.store.paths import logs_dir

_TAIL_BYTES = 16_384


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log; [] where there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []


def delete_old_logs(older_than_seconds: float) -> list[Path]:
    """Delete logs that belong to no record and were not written to for so long; return them."""
    kept = {record.log_path for record in workers.records()}
    limit = time.time() - older_than_seconds
    old = [
        log
        for log in sorted(logs_dir().glob("*.log"))
        if str(log) not in kept and log.stat().st_mtime < limit
    ]
    for log in old:
        log.unlink(missing_ok=True)
    return old
