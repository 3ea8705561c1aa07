"""Each host and cache that cannot be used is told so in one line, with a hint; exit code 78."""

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import llorch_refuse
import pytest
from llorch_refuse import Folder, Host, cache_reason, host_reason, release_name

from tests.packaging.tiny import ROOT, environment, run, tiny_pyz

LINUX = Host(system="linux", machine="x86_64", python=(3, 12), glibc="2.36")
MAC = Host(system="darwin", machine="arm64", python=(3, 12), macos="14.5")
OURS = Folder(path="/home/me/.cache/llorch", mode=0o40700, uid=1000, our_uid=1000)


@pytest.mark.parametrize(
    "host",
    [
        LINUX,
        MAC,
        replace(LINUX, machine="aarch64", glibc="2.28"),
        replace(LINUX, python=(3, 10)),
        replace(LINUX, python=(3, 13)),
        replace(MAC, macos="13.0"),
    ],
)
def test_a_supported_host_is_not_refused(host):
    assert host_reason(host) is None


@pytest.mark.parametrize(
    "host,words",
    [
        (replace(LINUX, python=(3, 9)), "this is Python 3.9"),
        (replace(LINUX, python=(3, 14)), "this is Python 3.14"),
        (replace(LINUX, implementation="pypy"), "needs CPython, this is pypy"),
        (replace(LINUX, free_threaded=True), "free-threaded"),
        (replace(LINUX, is_64_bit=False), "32-bit"),
        (replace(LINUX, glibc=""), "musl"),
        (replace(LINUX, glibc="2.27"), "needs glibc 2.28 or later, this system has 2.27"),
        (replace(LINUX, glibc="2.9"), "this system has 2.9"),
        (replace(LINUX, machine="riscv64"), "this is linux riscv64"),
        (replace(LINUX, system="win32", machine="AMD64", glibc=""), "this is win32 AMD64"),
        (replace(LINUX, system="freebsd14", glibc=""), "this is freebsd14 x86_64"),
        (replace(MAC, machine="x86_64"), "this is darwin x86_64"),
        (replace(MAC, macos="12.7"), "needs macOS 13 or later, this is 12.7"),
    ],
)
def test_an_unsupported_host_is_refused_in_words(host, words):
    reason = host_reason(host)
    assert reason is not None
    assert words in str(reason)
    assert reason.hint
    assert "\n" not in str(reason) + reason.hint


def test_rosetta_gets_a_hint_of_its_own():
    reason = host_reason(replace(MAC, machine="x86_64"))
    assert reason is not None
    assert "Rosetta" in reason.hint


def test_this_very_host_is_supported_and_read_correctly():
    host = Host.here()
    assert host_reason(host) is None
    assert host.python == sys.version_info[:2]


def test_a_file_for_other_machines_names_what_it_is_for():
    with pytest.raises(llorch_refuse.Refused, match="built for macos-arm64-cp312 only") as caught:
        release_name(LINUX, "linux-x86_64-cp312", {"macos-arm64-cp312": "x"})
    assert "--this-machine-only" in caught.value.hint


def test_a_private_folder_of_ours_is_a_good_cache():
    assert cache_reason(OURS) is None


def test_a_folder_that_others_can_only_read_is_closed_by_the_caller_not_refused():
    assert cache_reason(replace(OURS, mode=0o40755)) is None


@pytest.mark.parametrize(
    "folder,words",
    [
        (replace(OURS, mode=0o120777), "is a link"),
        (replace(OURS, mode=0o100600), "not a folder"),
        (replace(OURS, uid=0), "belongs to another user"),
        (replace(OURS, mode=0o40777), "other users can write"),
        (replace(OURS, mode=0o40720), "other users can write"),
        (replace(OURS, noexec=True), "mounted noexec"),
    ],
)
def test_an_unsafe_cache_is_refused_in_words(folder, words):
    reason = cache_reason(folder)
    assert reason is not None
    assert words in str(reason)
    assert "LLORCH_CACHE" in reason.hint or "chmod 700" in reason.hint


def test_the_gate_is_written_in_a_grammar_that_old_pythons_read():
    gate = (ROOT / "packaging/boot/__main__.py").read_text()
    ast.parse(gate, feature_version=(3, 4))
    assert not re.search(r"(?<![\w%])f['\"]|:=|->|print\b|\bnonlocal\b", gate)


def pretend(pyz: Path, cache: Path, prelude: str) -> subprocess.CompletedProcess[str]:
    """Run the file in a Python that was changed by `prelude` first."""
    script = f"import sys, runpy; {prelude}; sys.argv = ['llorch.pyz', '--version']; "
    script += f"runpy.run_path({str(pyz)!r}, run_name='__main__')"
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, env=environment(cache), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "prelude,words",
    [
        ("sys.version_info = (2, 7, 18)", "needs Python 3.10 to 3.13, this is Python 2.7"),
        ("sys.version_info = (3, 8, 18)", "needs Python 3.10 to 3.13, this is Python 3.8"),
        ("sys.version_info = (3, 14, 0)", "needs Python 3.10 to 3.13, this is Python 3.14"),
        ("sys.abiflags = 't'", "free-threaded"),
        ("sys.implementation.name = 'pypy'", "needs CPython, this is pypy"),
        ("sys.platform = 'win32'", "this is win32"),
    ],
)
def test_the_file_itself_refuses_with_78_and_leaves_no_cache(tmp_path, prelude, words):
    done = pretend(tiny_pyz(tmp_path), tmp_path / "cache", prelude)
    assert done.returncode == 78
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: ")
    assert words in error
    assert hint.startswith("Try: ")
    assert not (tmp_path / "cache").exists()


def old_pythons() -> list[Path]:
    return sorted(Path.home().glob(".pyenv/versions/[23].[0-9].*/bin/python"))


def test_old_pythons_that_are_installed_here_read_the_file_far_enough(tmp_path):
    pyz = tiny_pyz(tmp_path)
    for python in old_pythons():  # the faked versions above run where there is none
        done = run(pyz, cache=tmp_path / "cache", python=str(python))
        assert (done.returncode, done.stdout) == (78, ""), python
        assert done.stderr.startswith("Error: llorch needs Python 3.10 to 3.13, this is Python ")


def test_a_file_for_another_machine_refuses_with_78(tmp_path):
    pyz = tiny_pyz(tmp_path, target="macos-arm64-cp399")
    done = run(pyz, cache=tmp_path / "cache")
    assert done.returncode == 78
    assert "built for macos-arm64-cp399 only" in done.stderr
