"""Write packaging/locks anew from requirements.in and requirements-dev.in. Needs uv on the PATH.

1. Resolve for the oldest Python: these versions are used everywhere, so that all targets share
   the pure wheels.
2. Resolve each target with those versions, with the hashes of every file that the index has.
3. Let pip choose the wheel, under these hashes, and write down that one. Where an older Python of
   the same system already chose a wheel that newer ones can use too, they get the same.
4. Lock the tools of check.sh for all systems at once.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fetch import BuildFailed, cache_folder, download, progress, sha256_of
from targets import LOCKS, PYTHONS, SYSTEMS, Pin, Target, all_targets, parse_lock

HERE = Path(__file__).parent
UV_PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
}
Shared = dict[tuple[str, str], Pin]


def main() -> int:
    """Relock everything; return the exit code."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            versions = Path(folder) / "versions.txt"
            versions.write_text(resolve(Target(SYSTEMS[0], PYTHONS[0]), None, hashes=False))
            shared: Shared = {}
            for target in all_targets():
                lock_target(target, versions, shared)
            lock_tools(versions)
    except BuildFailed as failure:
        progress(f"Error: {failure}\nTry: {failure.hint}")
        return 1
    return 0


def resolve(target: Target, versions: Path | None, *, hashes: bool = True) -> str:
    """Return what uv resolves requirements.in to on `target`, within `versions`."""
    arguments = ["--python-version", target.version]
    arguments += ["--python-platform", UV_PLATFORMS[target.system]]
    arguments += ["--generate-hashes"] if hashes else []
    arguments += ["--constraint", str(versions)] if versions else []
    return uv_compile(HERE / "requirements.in", arguments)


def lock_target(target: Target, versions: Path, shared: Shared) -> None:
    """Write the lock of one target; `shared` collects wheels that serve newer Pythons too."""
    progress(f"locking {target.name}")
    admitted = parse_lock(resolve(target, versions))
    wanted = [shared.get((target.system, pin.name), pin) for pin in admitted]
    wheels = download(target, wanted, cache_folder())
    chosen = {sha256_of(wheel): wheel for wheel in wheels}
    pins = [_narrowed(pin, chosen) for pin in wanted]
    for pin in pins:
        if chosen[pin.sha256].name.split("-")[-2] in {"abi3", "none"}:
            shared[target.system, pin.name] = pin
    lines = [f"{p.name}=={p.version} \\\n    --hash=sha256:{p.sha256}\n" for p in pins]
    target.lock.write_text("".join(lines))


def lock_tools(versions: Path) -> None:
    """Write the lock of the development environment, for every system and Python."""
    progress("locking the development tools")
    arguments = ["--universal", "--python-version", "3.10", "--generate-hashes"]
    arguments += ["--constraint", str(versions)]
    (LOCKS / "dev.txt").write_text(uv_compile(HERE / "requirements-dev.in", arguments))


def uv_compile(requirements: Path, arguments: list[str]) -> str:
    """Run `uv pip compile` and return the resolution, without a word on where files come from."""
    uv = shutil.which("uv")
    if uv is None:
        raise BuildFailed("relocking needs uv", "python3 -m pip install uv")
    quiet = ["--quiet", "--no-config", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command = [uv, "pip", "compile", *quiet, "--only-binary", ":all:", *arguments]
    done = subprocess.run(
        [*command, str(requirements)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildFailed("uv could not resolve the requirements", "read uv's message above")
    return done.stdout


def _narrowed(pin: Pin, chosen: dict[str, Path]) -> Pin:
    (sha256,) = set(pin.hashes) & set(chosen)
    return Pin(pin.name, pin.version, (sha256,))


if __name__ == "__main__":
    sys.exit(main())
