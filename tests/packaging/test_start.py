"""A started llorch.pyz: what it imports from, how it names itself, and what pruning leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.tiny import environment, make_app, releases, run, tiny_pyz, tiny_wheel


def facts(pyz: Path, cache: Path, *flags: str, cwd: Path | None = None, **extra: str):
    command = [sys.executable, *flags, str(pyz), "facts"]
    done = subprocess.run(
        command,
        env=environment(cache, **extra),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("flags", [[], ["-I"], ["-S"], ["-E", "-s"], ["-B"]])
def test_imports_come_from_the_release_and_the_standard_library_only(tmp_path, flags):
    found = facts(tiny_pyz(tmp_path), tmp_path / "cache", *flags)
    (release,) = releases(tmp_path / "cache")
    assert found["path"][0] == str(tmp_path / "cache" / "pyz" / release)
    assert found["tinydep"].startswith(found["path"][0])
    assert not [p for p in found["path"] if "site-packages" in p or p.endswith(".pyz")]


def test_packages_that_the_host_imported_first_are_replaced_by_ours(tmp_path):
    host = tmp_path / "host"
    for package in ("tinydep", "hostmodule"):
        (host / package).mkdir(parents=True)
        (host / package / "__init__.py").write_text("")
    pyz, cache = tiny_pyz(tmp_path), tmp_path / "cache"
    script = (
        f"import sys, runpy, tinydep, hostmodule; sys.argv = ['x', 'facts'];"
        f"runpy.run_path({str(pyz)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(cache, PYTHONPATH=str(host)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found["tinydep"].startswith(str(cache))
    assert found["host_modules"] == ["hostmodule"]


def test_a_relative_path_and_a_link_still_give_an_absolute_own_command(tmp_path):
    pyz = tiny_pyz(tmp_path)
    found = facts(Path(pyz.name), tmp_path / "cache", cwd=tmp_path)
    assert found["own_command"] == [sys.executable, str(pyz)]
    assert found["argv"][0] == found["pyz"] == str(pyz)


def test_own_command_starts_the_same_program_from_another_folder(tmp_path):
    command = facts(tiny_pyz(tmp_path), tmp_path / "cache")["own_command"]
    done = subprocess.run(
        [*command, "--version"],
        env=environment(tmp_path / "cache"),
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "llorch 0.1.0\n"


def test_own_command_of_a_checkout_is_its_script_and_of_an_installed_package_the_module(tmp_path):
    app = make_app(tmp_path / "app")
    show = [sys.executable, "-c", "from llorch.self_path import own_command as c; print(c()[1:])"]

    def own() -> str:
        return subprocess.run(
            show,
            env={**os.environ, "PYTHONPATH": str(app)},
            cwd="/",
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert own() == "['-m', 'llorch']"
    (app / "llorch.py").write_text("")
    assert own() == f"['{app}/llorch.py']"


def test_byte_code_is_kept_in_the_release_even_where_python_is_told_not_to(tmp_path):
    pyz, cache = tiny_pyz(tmp_path), tmp_path / "cache"
    run(pyz, "facts", cache=cache, PYTHONDONTWRITEBYTECODE="1")
    assert list(cache.rglob("tinydep/__pycache__/*.pyc"))


def test_the_exit_code_is_the_commands(tmp_path):
    pyz = tiny_pyz(tmp_path)
    assert run(pyz, "exit", "6", cache=tmp_path / "cache").returncode == 6


def test_version_is_answered_without_the_command_line(tmp_path):
    pyz, cache = tiny_pyz(tmp_path), tmp_path / "cache"
    run(pyz, "--version", cache=cache)
    assert not list(cache.rglob("cli/__pycache__"))


def test_prune_removes_other_releases_but_not_its_own(tmp_path):
    cache = tmp_path / "cache"
    old, new = tiny_pyz(tmp_path, version="0.1.0"), tiny_pyz(tmp_path, version="0.2.0")
    run(old, cache=cache)
    run(new, cache=cache)
    (cache / "pyz" / ".tmp-dead").mkdir()
    done = run(new, "--prune-cache", cache=cache)
    assert done.returncode == 0
    assert "removed 0.1.0-" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("freed ")
    (left,) = releases(cache)
    assert left.startswith("0.2.0-")


def test_prune_keeps_a_release_as_long_as_a_process_runs_from_it(tmp_path):
    cache = tmp_path / "cache"
    old, new = tiny_pyz(tmp_path, version="0.1.0"), tiny_pyz(tmp_path, version="0.2.0")
    holder = subprocess.Popen(
        [sys.executable, str(old), "hold"],
        env=environment(cache),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        assert "kept 0.1.0-" in run(new, "--prune-cache", cache=cache).stdout
        assert len(releases(cache)) == 1
        holder.communicate("")
    assert holder.returncode == 0
    assert "removed 0.1.0-" in run(new, "--prune-cache", cache=cache).stdout
    assert releases(cache) == []


def test_a_release_that_was_pruned_is_simply_unpacked_again(tmp_path):
    cache = tmp_path / "cache"
    old, new = tiny_pyz(tmp_path, version="0.1.0"), tiny_pyz(tmp_path, version="0.2.0")
    run(old, cache=cache)
    run(new, "--prune-cache", cache=cache)
    assert run(old, "--version", cache=cache).stdout == "llorch 0.1.0\n"


def test_prune_takes_no_arguments_and_needs_no_cache(tmp_path):
    pyz = tiny_pyz(tmp_path, [tiny_wheel()])
    assert run(pyz, "--prune-cache", "all", cache=tmp_path / "c").returncode == 2
    done = run(pyz, "--prune-cache", cache=tmp_path / "c")
    assert (done.returncode, done.stdout) == (0, "freed 0 MB\n")
