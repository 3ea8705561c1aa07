"""The built dist/llorch.pyz: all that every target needs is inside, and built for it."""

import io
import json
import re
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import build_pyz
import pytest
import targets
from targets import Target

from tests.packaging.binaries import elf_machine, elf_sections, mach_slices
from tests.packaging.tiny import ROOT, releases, run

pytestmark = pytest.mark.e2e

PYZ = ROOT / "dist" / "llorch.pyz"
EVERY = pytest.mark.parametrize("target", targets.all_targets(), ids=lambda t: t.name)
NATIVE = {"bcrypt", "cffi", "cryptography", "hf_xet", "pynacl", "pyyaml", "xllamacpp"}


@cache
def manifest() -> dict[str, Any]:
    assert PYZ.exists(), "build it first: ./build_pyz.sh"
    with zipfile.ZipFile(PYZ) as whole:
        loaded: dict[str, Any] = json.loads(whole.read("manifest.json"))
    return loaded


def wheels(target: Target) -> Iterator[tuple[str, zipfile.ZipFile]]:
    with zipfile.ZipFile(PYZ) as whole:
        for entry in manifest()["targets"][target.name]:
            data = whole.read(entry["member"])
            yield entry["member"].rpartition("/")[2], zipfile.ZipFile(io.BytesIO(data))


def libraries(target: Target) -> Iterator[tuple[str, bytes]]:
    for filename, wheel in wheels(target):
        for name in wheel.namelist():
            if re.search(r"\.(so|dylib|dll|pyd)(\.|$)", name):
                yield f"{filename}:{name}", wheel.read(name)


def test_the_file_is_small_enough():
    assert PYZ.stat().st_size <= build_pyz.LIMIT_BYTES


@EVERY
def test_a_target_has_exactly_what_its_lock_says_and_the_app(target):
    pins = targets.parse_lock(target.lock.read_text())
    members = [entry["member"] for entry in manifest()["targets"][target.name]]
    hashes = manifest()["locked_sha256"]
    assert sorted(hashes[m] for m in members if m in hashes) == sorted(p.sha256 for p in pins)
    assert [m for m in members if m not in hashes] == [m for m in members if "/llorch-" in m]
    assert len(members) == len(pins) + 1


@EVERY
def test_the_tags_of_every_wheel_match_the_target(target):
    allowed = {*targets.platform_tags(target), "any"}
    for filename, _ in wheels(target):
        python, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
        assert allowed & set(platforms.split(".")), filename
        assert abi in {"none", "abi3", f"cp{target.python}"}, filename
        if abi == "abi3":
            assert int(python[3:]) <= int(target.python[1:]), filename
        else:
            assert python in {"py3", "py2.py3", f"cp{target.python}"}, filename


@EVERY
def test_every_native_package_brings_a_library(target):
    found = {filename.split("-")[0] for filename, _ in wheels(target)}
    assert found >= NATIVE
    with_library = {place.split("-")[0] for place, _ in libraries(target)}
    expected = NATIVE if target.arch == "aarch64" else NATIVE | {"ctransformers"}
    assert with_library == expected


@EVERY
def test_every_library_is_built_for_the_target(target):
    for place, data in libraries(target):
        if target.system.startswith("linux"):
            assert elf_machine(data) == target.arch, place
            assert ".debug_info" not in elf_sections(data), place
            continue
        (part,) = [s for s in mach_slices(data) if s.machine == "arm64"]
        assert part.min_macos <= (13, 3), place
        assert part.signed, place  # an arm64 library without a signature is not loaded


@EVERY
def test_metadata_and_licences_are_kept(target):
    for filename, wheel in wheels(target):
        names = wheel.namelist()
        assert [n for n in names if n.endswith(".dist-info/METADATA")], filename
        assert not [n for n in names if "cuda" in n.lower() and n.endswith((".so", ".dll"))]


def pythons() -> list[str]:
    """This Python, and the other supported ones that are installed here."""
    found = sorted(Path.home().glob(".pyenv/versions/3.1[0-3].*/bin/python"))
    return [sys.executable, *map(str, found)]


@pytest.mark.parametrize("python", pythons())
def test_it_unpacks_and_everything_imports(tmp_path, python):
    done = run(PYZ, "--version", cache=tmp_path, python=python)
    assert done.stdout == f"llorch {build_pyz.read_version(ROOT)}\n", done.stderr
    (release,) = releases(tmp_path)
    checked = subprocess.run(
        [
            python,
            "-W",
            "ignore",
            str(ROOT / "packaging/check_imports.py"),
            tmp_path / "pyz" / release,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_version_costs_little_more_than_python_itself(tmp_path):
    run(PYZ, "--version", cache=tmp_path)

    def median_seconds(*command: str) -> float:
        times = []
        for _ in range(9):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env={"LLORCH_CACHE": tmp_path})
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    bare = median_seconds(sys.executable, "-c", "pass")
    assert median_seconds(sys.executable, str(PYZ), "--version") < bare + 0.1


def test_the_checkout_and_the_file_say_the_same_version():
    done = subprocess.run(
        [sys.executable, "llorch.py", "--version"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.decode() == f"llorch {manifest()['version']}\n"
