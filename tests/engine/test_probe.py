from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

from llorch.engine import probe_cgroup, probe_cpu, probe_gpu, probe_memory
from llorch.engine.probe import probe
from llorch.engine.process_memory import resident_bytes

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def test_this_machine_is_probed_without_loading_an_engine() -> None:
    started = time.process_time()
    facts = probe()
    assert time.process_time() - started < 2
    assert 1 <= facts.usable_cores <= facts.physical_cores <= facts.logical_cores
    assert 0 < facts.memory_free <= facts.memory_total
    assert [build.engine for build in facts.builds] == ["llamacpp"]
    assert "cpu" in facts.builds[0].backends
    assert "xllamacpp" not in sys.modules


def test_two_threads_of_one_core_count_once() -> None:
    cpu = "processor\t: {}\nphysical id\t: 0\ncore id\t: {}\n"
    text = "\n".join(cpu.format(logical, logical // 2) for logical in range(4))
    assert len(set(probe_cpu._topology(text).values())) == 2
    assert probe_cpu._topology("processor\t: 0\nBogoMIPS\t: 50\n") == {}


def test_memory_that_caches_hold_counts_as_free() -> None:
    text = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  600 kB\n"
    assert probe_memory.parse_meminfo(text) == (1000 * 1024, 600 * 1024)
    assert probe_memory.parse_meminfo("") == (0, 0)


def test_macos_pages_become_bytes() -> None:
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               100.\n"
        "Pages active:                            9999.\n"
        "Pages inactive:                            50.\n"
        "Pages speculative:                          5.\n"
        "Pages purgeable:                            1.\n"
    )
    assert probe_memory.parse_vm_stat(text) == 156 * 16384
    assert probe_memory.parse_vm_stat("") == 0


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    (tmp_path / "own").write_text("0::/llorch/worker\n")
    (tmp_path / "fs/llorch/worker").mkdir(parents=True)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(value + "\n")


def test_the_tightest_group_above_us_limits_the_cores(cgroup: Path) -> None:
    root, own = cgroup / "fs", cgroup / "own"
    assert probe_cgroup.cpu_quota(root, own) is None
    write(root / "llorch/worker", cpu__max="max 100000")
    assert probe_cgroup.cpu_quota(root, own) is None
    write(root / "llorch", cpu__max="350000 100000")
    assert probe_cgroup.cpu_quota(root, own) == 3
    write(root / "llorch/worker", cpu__max="50000 100000")
    assert probe_cgroup.cpu_quota(root, own) == 1


def test_the_tightest_group_above_us_limits_the_memory(cgroup: Path) -> None:
    root, own = cgroup / "fs", cgroup / "own"
    assert probe_cgroup.memory_left(root, own) is None
    write(root / "llorch/worker", memory__max="max", memory__current="5")
    assert probe_cgroup.memory_left(root, own) is None
    stat = "anon 1\ninactive_file 100"
    write(root / "llorch", memory__max="1000", memory__current="700", memory__stat=stat)
    assert probe_cgroup.memory_left(root, own) == (1000, 400)


def test_old_groups_have_other_names(tmp_path: Path) -> None:
    root, own = tmp_path / "fs", tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/docker/abc\n7:memory:/docker/abc\n")
    # In a container the path of the host does not exist; the root of the controller is our group.
    (root / "cpu").mkdir(parents=True)
    (root / "memory").mkdir()
    write(root / "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    write(root / "memory", memory__limit_in_bytes="500", memory__usage_in_bytes="100")
    assert probe_cgroup.cpu_quota(root, own) == 2
    assert probe_cgroup.memory_left(root, own) == (500, 400)
    write(root / "memory", memory__limit_in_bytes=str(2**63 - 4096))
    write(root / "cpu", cpu__cfs_quota_us="-1")
    assert probe_cgroup.memory_left(root, own) is None
    assert probe_cgroup.cpu_quota(root, own) is None


def fake_nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_nvidia_devices_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "0, NVIDIA GeForce RTX 3090, 24576, 24250, 550.54.14\n1, NVIDIA X, [N/A], [N/A], 550.54.14"
    )
    fake_nvidia_smi(tmp_path, f"cat <<'E'\n{lines}\nE")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus = probe().gpus
    assert [gpu.name for gpu in gpus] == ["NVIDIA GeForce RTX 3090", "NVIDIA X"]
    assert (gpus[0].memory_total, gpus[0].memory_free) == (24576 * MIB, 24250 * MIB)
    assert gpus[1].memory_free == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in probe().gpus] == [1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert probe().gpus == ()


@pytest.mark.parametrize(
    "script,words",
    [
        ("echo 'NVIDIA-SMI has failed because of the driver'; exit 9", "because of the driver"),
        ("exit 3", "no reason given"),
    ],
)
def test_a_broken_driver_is_a_problem_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    fake_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    problems: list[str] = []
    assert probe_gpu.nvidia_devices(problems) == ()
    assert words in problems[0]


def test_a_process_has_a_resident_size() -> None:
    own = resident_bytes(os.getpid())
    assert own is not None
    assert own > MIB
    assert resident_bytes(2**30) is None
