"""NVIDIA devices, as `nvidia-smi` tells them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from llorch.core.choice import GpuFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS = 10.0
MIB = 1 << 20
_QUESTION = (
    "--query-gpu=index,name,memory.total,memory.free,driver_version",
    "--format=csv,noheader,nounits",
)


def nvidia_devices(problems: list[str]) -> tuple[GpuFacts, ...]:
    """Every NVIDIA device; none where there is no driver. What fails is added to `problems`."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(
            [program, *_QUESTION],
            capture_output=True,
            check=False,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        problems.append(f"nvidia-smi did not answer: {type(error).__name__}")
        return ()
    if answer.returncode:
        problems.append(f"nvidia-smi failed: {_first_line(answer.stdout + answer.stderr)}")
        return ()
    return tuple(parse_devices(answer.stdout))


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


def parse_devices(text: str) -> Iterator[GpuFacts]:
    """Devices of nvidia-smi's CSV answer. A device whose memory it does not tell has 0 bytes."""
    for line in text.splitlines():
        columns = [column.strip() for column in line.split(",")]
        if len(columns) == 5 and columns[0].isdigit():
            index, name, total, free, driver = columns
            yield GpuFacts(int(index), name, _mib(total), _mib(free), driver)


def _mib(text: str) -> int:
    return int(text) * MIB if text.isdigit() else 0
