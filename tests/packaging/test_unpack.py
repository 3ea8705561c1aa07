"""Unpacking: once, whole or not at all, privately, and never from a damaged file."""

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import llorch_boot
import pytest

from tests.packaging.tiny import environment, releases, run, tiny_pyz, tiny_wheel

DEADLINE_SECONDS = 30


def start(pyz: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(pyz), *arguments],
        env=environment(cache),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_first_run_unpacks_and_the_second_finds_it(tmp_path):
    pyz, cache = tiny_pyz(tmp_path), tmp_path / "cache"
    first = run(pyz, "--version", cache=cache)
    assert (first.returncode, first.stdout, first.stderr) == (0, "llorch 0.1.0\n", "")
    (release,) = releases(cache)
    made = (cache / "pyz" / release).stat()
    assert run(pyz, "--version", cache=cache).stdout == "llorch 0.1.0\n"
    assert releases(cache) == [release]
    assert (cache / "pyz" / release).stat().st_ino == made.st_ino


def test_the_folder_is_named_by_version_target_and_content(tmp_path):
    cache = tmp_path / "cache"
    (tmp_path / "other").mkdir()
    run(tiny_pyz(tmp_path), cache=cache)
    run(tiny_pyz(tmp_path / "other", [tiny_wheel(size=11)]), cache=cache)
    first, second = releases(cache)
    assert first != second
    assert first.startswith(f"0.1.0-{llorch_boot.target()}-")
    assert first[:-16] == second[:-16]


def test_nobody_else_can_enter_the_cache_or_write_into_a_release(tmp_path):
    cache = tmp_path / "cache"
    run(tiny_pyz(tmp_path), cache=cache)
    for path in [cache, *cache.rglob("*")]:
        byte_code = "__pycache__" in path.parts  # written by Python, as the user's umask says
        assert byte_code or not path.lstat().st_mode & 0o077, path


def test_a_cache_that_others_could_read_is_closed(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)
    assert run(tiny_pyz(tmp_path), "--version", cache=cache).returncode == 0
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_cache_that_others_could_write_is_refused(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    done = run(tiny_pyz(tmp_path), "--version", cache=cache)
    assert done.returncode == 78
    assert "other users can write" in done.stderr
    assert list(cache.iterdir()) == []


def test_a_link_is_no_cache(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    done = run(tiny_pyz(tmp_path), cache=tmp_path / "cache")
    assert done.returncode == 78
    assert "is a link" in done.stderr


def test_a_file_in_the_way_of_the_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tiny_pyz(tmp_path), cache=tmp_path / "file" / "cache")
    assert done.returncode == 78
    assert f"cannot write the cache {tmp_path}/file/cache: File exists" in done.stderr


def test_where_the_first_folder_cannot_be_used_the_next_one_is(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "xdg").write_text("in the way")
    variables = {"XDG_CACHE_HOME": str(tmp_path / "xdg"), "HOME": str(home)}
    pyz = tiny_pyz(tmp_path)
    for _ in range(2):
        done = run(pyz, "--version", cache=Path(), LLORCH_CACHE="", **variables)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(releases(home / ".cache" / "llorch")) == 1


def test_cache_folders_come_in_the_documented_order(monkeypatch):
    monkeypatch.setenv("LLORCH_CACHE", "/a/b")
    assert llorch_boot.cache_folders() == ["/a/b"]
    monkeypatch.delenv("LLORCH_CACHE")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    last = f"/var/tmp/llorch-{os.geteuid()}"
    assert llorch_boot.cache_folders() == ["/x/llorch", "/home/me/.cache/llorch", last]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert llorch_boot.cache_folders() == ["/home/me/.cache/llorch", last]


def test_eight_first_runs_at_once_make_one_release(tmp_path):
    pyz, cache = tiny_pyz(tmp_path, [tiny_wheel(files=500)]), tmp_path / "cache"
    processes = [start(pyz, cache, "--version") for _ in range(8)]
    for process in processes:
        assert process.communicate(timeout=DEADLINE_SECONDS) == ("llorch 0.1.0\n", "")
        assert process.returncode == 0
    assert len(releases(cache)) == 1


def kill_in_mid_unpacking(pyz: Path, cache: Path) -> None:
    """Kill a first run while its temporary folder fills; try again where it was too fast for us."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        shutil.rmtree(cache, ignore_errors=True)
        with start(pyz, cache, "--version") as process:
            while process.poll() is None and not any(".tmp-" in r for r in releases(cache)):
                pass
            process.send_signal(signal.SIGKILL)
        if [r for r in releases(cache) if r.startswith(".tmp-")]:
            return
    raise AssertionError("never caught it in the middle")


def test_kill_in_mid_unpacking_leaves_nothing_that_runs_and_the_next_start_cleans_up(tmp_path):
    pyz, cache = tiny_pyz(tmp_path, [tiny_wheel(files=3000)]), tmp_path / "cache"
    kill_in_mid_unpacking(pyz, cache)
    assert run(pyz, "--version", cache=cache).stdout == "llorch 0.1.0\n"
    (release,) = releases(cache)
    assert len(list((cache / "pyz" / release / "tinydep").glob("m*.py"))) == 3000


def test_ctrl_c_in_mid_unpacking_is_quiet(tmp_path):
    pyz, cache = tiny_pyz(tmp_path, [tiny_wheel(files=3000)]), tmp_path / "cache"
    with start(pyz, cache, "--version") as process:
        while process.poll() is None and not any(".tmp-" in r for r in releases(cache)):
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert "Traceback" not in err
    assert (process.returncode, out) in [(130, ""), (0, "llorch 0.1.0\n")]


def assert_refused_as_damaged(pyz: Path, cache: Path) -> None:
    done = run(pyz, "--version", cache=cache)
    assert done.returncode == 78
    assert done.stderr == (
        f"Error: {pyz} is damaged: what is in it is not what was built\nTry: copy it again\n"
    )
    assert releases(cache) == []


def test_a_flipped_byte_in_a_wheel_is_found(tmp_path):
    pyz = tiny_pyz(tmp_path)
    data = bytearray(pyz.read_bytes())
    with zipfile.ZipFile(pyz) as whole:
        info = next(i for i in whole.infolist() if "tinydep" in i.filename)
    data[info.header_offset + len(info.filename) + 60] ^= 1
    pyz.write_bytes(data)
    assert_refused_as_damaged(pyz, tmp_path / "cache")


def test_a_wheel_that_was_exchanged_is_found(tmp_path):
    pyz, changed = tiny_pyz(tmp_path), tmp_path / "changed.pyz"
    with zipfile.ZipFile(pyz) as old, zipfile.ZipFile(changed, "w") as new:
        for info in old.infolist():
            other = tiny_wheel(size=99).data if "tinydep" in info.filename else old.read(info)
            new.writestr(info, other)
    assert_refused_as_damaged(changed, tmp_path / "cache")


def test_a_wheel_that_is_missing_is_found(tmp_path):
    pyz, changed = tiny_pyz(tmp_path), tmp_path / "changed.pyz"
    with zipfile.ZipFile(pyz) as old, zipfile.ZipFile(changed, "w") as new:
        for info in old.infolist():
            if "tinydep" not in info.filename:
                new.writestr(info, old.read(info))
    assert_refused_as_damaged(changed, tmp_path / "cache")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_copy_never_starts_and_its_head_says_why(tmp_path, kept):
    pyz = tiny_pyz(tmp_path, [tiny_wheel(files=200)])
    data = pyz.read_bytes()
    pyz.write_bytes(data[: int(len(data) * kept)])
    done = run(pyz, "--version", cache=tmp_path / "cache")
    assert done.returncode != 0
    assert done.stdout == ""
    assert not (tmp_path / "cache").exists()
    assert b"this copy is incomplete: copy it again" in data.split(b"PK")[0].replace(b"\n# ", b" ")


def run_on_tmpfs(pyz: Path, folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Run the file with its cache on a small file system of its own, in its own mount namespace."""
    folder.mkdir()
    script = (
        'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && "$@"; code=$?; '
        'ls -A "$LLORCH_CACHE/pyz" >&2; exit $code'
    )
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "-r"]
    return subprocess.run(
        [*unshare, "sh", "-c", script, "sh", options, str(folder), sys.executable, str(pyz)],
        env=environment(folder / "cache"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="mounts a Linux tmpfs")


@linux_only
def test_a_noexec_file_system_is_refused(tmp_path):
    done = run_on_tmpfs(tiny_pyz(tmp_path), tmp_path / "mount", "noexec,size=64m")
    assert done.returncode == 78
    assert "is on a file system mounted noexec" in done.stderr


@linux_only
def test_a_file_system_that_is_too_small_is_refused_before_anything_is_written(tmp_path):
    done = run_on_tmpfs(tiny_pyz(tmp_path), tmp_path / "mount", "size=4m")
    assert done.returncode == 78
    assert "no space in the cache" in done.stderr
    assert "16 MB needed, 4 MB free" in done.stderr or "16 MB needed, 3 MB free" in done.stderr


@linux_only
def test_a_file_system_that_fills_up_meanwhile_is_refused_and_left_clean(tmp_path):
    pyz = tiny_pyz(tmp_path, [tiny_wheel(files=200)])
    done = run_on_tmpfs(pyz, tmp_path / "mount", "size=64m,nr_inodes=100")
    assert done.returncode == 78
    error, hint, *left = done.stderr.splitlines()
    assert error.endswith("the disk is full")
    assert "--prune-cache" in hint
    assert left == []


def test_unpacked_bytes_in_the_manifest_are_what_the_files_take():
    part = tiny_wheel(files=3, size=1000)
    with zipfile.ZipFile(io.BytesIO(part.data)) as wheel:
        assert part.unpacked_bytes() == sum(len(wheel.read(n)) for n in wheel.namelist())
