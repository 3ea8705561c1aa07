"""The build: the same bytes each time, small wheels that still work, locks that agree."""

import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import archive
import build_pyz
import fetch
import pytest
import slim
import targets
from targets import Target

from tests.packaging.tiny import ROOT, make_app, run, tiny_pyz, tiny_wheel

REQUIREMENT = re.compile(r"^[A-Za-z_-]+[^#\n]*", re.MULTILINE)


def locked(target: Target) -> dict[str, str]:
    return {pin.name: pin.version for pin in targets.parse_lock(target.lock.read_text())}


def test_two_builds_have_the_same_bytes_whatever_the_times_and_the_zone(tmp_path, monkeypatch):
    made = []
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.setenv("TZ", zone)
        previous = os.umask(0o077 if number else 0o002)
        try:
            made.append(tiny_pyz(folder).read_bytes())
        finally:
            os.umask(previous)
    assert made[0] == made[1]


def test_the_order_in_which_wheels_are_named_changes_no_member(tmp_path):
    (tmp_path / "x").mkdir()
    wheels = [tiny_wheel("tinydep"), tiny_wheel("other")]
    one, two = tiny_pyz(tmp_path, wheels), tiny_pyz(tmp_path / "x", wheels[::-1])
    names = [zipfile.ZipFile(path).namelist() for path in (one, two)]
    assert names[0] == names[1]


def test_entries_carry_the_time_of_source_date_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    with zipfile.ZipFile(tiny_pyz(tmp_path)) as whole:
        assert {info.date_time for info in whole.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert archive.moment() == (1980, 1, 1, 0, 0, 0)


def test_everything_in_the_outer_file_is_stored_and_the_gate_comes_first(tmp_path):
    with zipfile.ZipFile(tiny_pyz(tmp_path)) as whole:
        assert {info.compress_type for info in whole.infolist()} == {zipfile.ZIP_STORED}
        assert whole.namelist()[0] == "__main__.py"
        assert whole.testzip() is None


def test_the_file_can_be_run_by_itself(tmp_path):
    pyz = tiny_pyz(tmp_path)
    assert os.access(pyz, os.X_OK)
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_what_editors_and_python_leave_behind_is_not_built_in(tmp_path):
    app = make_app(tmp_path / "app")
    (app / "llorch/__pycache__").mkdir()
    for name in ("__pycache__/x.cpython-312.pyc", ".hidden.py", "web.css"):
        (app / "llorch" / name).write_text("x")
    with zipfile.ZipFile(io.BytesIO(archive.app_wheel(app, "1.0").data)) as wheel:
        names = wheel.namelist()
    assert "llorch/web.css" in names
    assert not [name for name in names if name.endswith(".pyc") or "/." in name]


def test_an_older_file_stays_when_a_build_fails(tmp_path, monkeypatch):
    output = tmp_path / "llorch.pyz"
    output.write_text("older")
    with pytest.raises(TypeError):
        archive.write_pyz(output, "1.0", {"t": [archive.Part("x.whl", None)]})  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["llorch.pyz"]
    assert output.read_text() == "older"


def test_the_version_is_the_packages():
    from llorch import __version__

    assert build_pyz.read_version(ROOT) == __version__


def test_a_checkout_without_a_version_is_named(tmp_path):
    (tmp_path / "llorch").mkdir()
    (tmp_path / "llorch/__init__.py").write_text("")
    with pytest.raises(fetch.BuildFailed, match="no __version__"):
        build_pyz.read_version(tmp_path)


def published_wheel(folder: Path, name: str, files: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    extra = {f"{info}/METADATA": b"Name: x\n", f"{info}/RECORD": b"", f"{info}/LICENSE": b"MIT\n"}
    path.write_bytes(archive.zip_bytes({**files, **extra}.items()))
    return path


def names_of(part: archive.Part) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(part.data)) as wheel:
        return wheel.namelist()


@pytest.mark.parametrize(
    "system,kept",
    [
        ("linux-x86_64", ["avx2/libctransformers.so", "basic/libctransformers.so"]),
        ("linux-aarch64", []),
        ("macos-arm64", ["basic/libctransformers.dylib"]),
    ],
)
def test_ctransformers_keeps_the_libraries_of_the_system_only(tmp_path, system, kept):
    ballast = os.urandom(20_000)
    libraries = ["avx2/ctransformers.dll", "cuda/libctransformers.so"]
    libraries += [f"{b}/libctransformers.{e}" for b in ("avx2", "basic") for e in ("so", "dylib")]
    files = {f"ctransformers/lib/{name}": ballast for name in libraries}
    wheel = published_wheel(tmp_path, "ctransformers", files)
    names = names_of(slim.slim(wheel, system, tmp_path / "cache"))
    assert [n.removeprefix("ctransformers/lib/") for n in names if "/lib/" in n] == kept
    assert "ctransformers-1.0.dist-info/LICENSE" in names
    assert "ctransformers-1.0.dist-info/METADATA" in names


def test_a_wheel_that_would_hardly_shrink_stays_as_published(tmp_path):
    wheel = published_wheel(tmp_path, "small", {"small/a.pyi": b"x" * 100, "small/a.py": b""})
    part = slim.slim(wheel, "linux-x86_64", tmp_path / "cache")
    assert part.data == wheel.read_bytes()
    assert part.sha256 == part.locked_sha256


def test_a_rewritten_wheel_has_a_record_of_what_is_left(tmp_path):
    files = {"big/tests/data.py": os.urandom(50_000), "big/a.py": b"pass\n"}
    part = slim.slim(published_wheel(tmp_path, "big", files), "macos-arm64", tmp_path / "cache")
    with zipfile.ZipFile(io.BytesIO(part.data)) as wheel:
        record = wheel.read("big-1.0.dist-info/RECORD").decode().splitlines()
        assert sorted(line.split(",")[0] for line in record) == sorted(wheel.namelist())
        assert f"big/a.py,sha256={slim.urlsafe_sha256(b'pass' + bytes([10]))},5" in record
    assert part.sha256 != part.locked_sha256


def test_macos_libraries_are_never_touched(tmp_path):
    library = b"\xcf\xfa\xed\xfe" + os.urandom(40_000)
    files = {"big/tests/data.py": os.urandom(50_000), "big/lib.so": library}
    part = slim.slim(published_wheel(tmp_path, "big", files), "macos-arm64", tmp_path / "cache")
    with zipfile.ZipFile(io.BytesIO(part.data)) as wheel:
        assert wheel.read("big/lib.so") == library


def test_macos_has_no_strip_and_an_unknown_processor_none_either():
    assert slim.find_strip("macos-arm64") is None
    assert slim.find_strip("linux-vax") in {None, shutil.which("llvm-strip")}


def test_every_target_has_a_lock_with_one_hash_per_package():
    for target in targets.all_targets():
        pins = targets.parse_lock(target.lock.read_text())
        assert len(pins) > 30, target.name
        assert all(pin.sha256 for pin in pins)
        assert target.lock.read_text().count("==") == len(pins)


def test_all_targets_have_the_same_versions():
    oldest = locked(targets.all_targets()[0])
    for target in targets.all_targets():
        assert locked(target).items() <= oldest.items(), target.name


def test_the_tools_are_locked_with_the_versions_that_are_shipped():
    text = (targets.LOCKS / "dev.txt").read_text()
    tools = targets.parse_lock(text)
    assert len(tools) == text.count("==") - text.count("== '")
    shipped = locked(targets.all_targets()[0])
    assert shipped.items() <= {(pin.name, pin.version) for pin in tools}


def test_what_must_not_come_back_is_not_there():
    shipped = locked(targets.all_targets()[0])
    assert not {"numpy", "pydantic"} & set(shipped)
    assert shipped["typer"] == "0.28.0"
    assert shipped["ctransformers"] == "0.2.27"


def test_locks_do_not_say_where_files_come_from():
    for lock in targets.LOCKS.glob("*.txt"):
        assert not re.search(r"://|--index|--find-links|#", lock.read_text()), lock.name


def test_the_metadata_of_the_project_names_the_same_requirements():
    wanted = (ROOT / "packaging/requirements.in").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    block = project.partition("dependencies = [")[2].partition("]\n")[0]
    listed = {line.strip(' ",').replace("'", '"') for line in block.splitlines()} - {""}
    assert listed == {match[0].strip() for match in REQUIREMENT.finditer(wanted)}


def test_tags_are_those_that_the_oldest_supported_system_runs():
    tags = targets.platform_tags(Target("linux-x86_64", "310"))
    assert tags[0] == "manylinux_2_28_x86_64"
    assert "manylinux2014_x86_64" in tags
    assert "manylinux_2_29_x86_64" not in tags
    assert targets.platform_tags(Target("macos-arm64", "310"))[0] == "macosx_13_0_arm64"


def test_a_rotten_file_in_the_build_cache_is_not_used(tmp_path, monkeypatch):
    wheel = published_wheel(tmp_path, "x", {})
    pin = targets.Pin("x", "1.0", (fetch.sha256_of(wheel),))
    home = tmp_path / "cache" / "wheels" / pin.sha256
    home.mkdir(parents=True)
    kept = wheel.rename(home / wheel.name)
    assert fetch.wheels_for(Target("linux-x86_64", "312"), [pin], tmp_path / "cache") == [kept]
    kept.write_bytes(b"rot")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(fetch.BuildFailed, match="pip download failed"):
        fetch.wheels_for(Target("linux-x86_64", "312"), [pin], tmp_path / "cache")
    assert not kept.exists()


def test_a_tiny_file_runs(tmp_path):
    assert run(tiny_pyz(tmp_path), "--version", cache=tmp_path / "c").stdout == "llorch 0.1.0\n"
