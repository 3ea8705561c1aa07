"""Build dist/llorch.pyz from the checkout and the committed locks. Run it through build_pyz.sh."""

import argparse
import re
import sys
import time
from pathlib import Path

from archive import Part, app_wheel, write_pyz
from fetch import BuildFailed, cache_folder, progress, sha256_of, wheels_for
from slim import find_strip, slim
from targets import Target, all_targets, parse_lock, this_machine

ROOT = Path(__file__).parent.parent
LIMIT_BYTES = 80_000_000


def main(arguments: list[str]) -> int:
    """Build as the command line says; return the exit code."""
    options = _parse(arguments)
    started = time.monotonic()
    try:
        targets = [_this_machine()] if options.this_machine_only else all_targets()
        build(ROOT, targets, options.output)
    except BuildFailed as failure:
        progress(f"Error: {failure}\nTry: {failure.hint}")
        return 1
    seconds = time.monotonic() - started
    size = options.output.stat().st_size
    progress(f"{options.output}: {size / 1e6:.1f} MB, {len(targets)} targets, {seconds:.1f} s")
    progress(f"sha256 {sha256_of(options.output)}")
    return 0


def build(root: Path, targets: list[Target], output: Path) -> None:
    """Write `output`, which runs on `targets`.

    Raises:
        BuildFailed: a wheel cannot be had, or the file would be too big.
    """
    version = read_version(root)
    for system in sorted({target.system for target in targets}):
        if system.startswith("linux") and find_strip(system) is None:
            progress(f"{system}: no strip for its libraries here, they stay as big as published")
    app = app_wheel(root, version)
    parts = {target.name: [app, *_parts(target)] for target in targets}
    _check_size(parts)
    write_pyz(output, version, parts)


def read_version(root: Path) -> str:
    """Return `__version__` of the package in `root`, without importing it."""
    text = (root / "llorch" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise BuildFailed("llorch/__init__.py has no __version__", 'add __version__ = "X.Y.Z"')
    return match[1]


def _parts(target: Target) -> list[Part]:
    cache = cache_folder()
    pins = parse_lock(target.lock.read_text(encoding="utf-8"))
    return [slim(wheel, target.system, cache) for wheel in wheels_for(target, pins, cache)]


def _check_size(targets: dict[str, list[Part]]) -> None:
    wheels = {part.member: len(part.data) for parts in targets.values() for part in parts}
    total = sum(wheels.values())
    if total > LIMIT_BYTES:
        raise BuildFailed(
            f"the file would have {total / 1e6:.0f} MB, more than {LIMIT_BYTES / 1e6:.0f} MB",
            "install strip for every Linux target (binutils, binutils-aarch64-linux-gnu, "
            "binutils-x86-64-linux-gnu), or use --this-machine-only",
        )


def _this_machine() -> Target:
    try:
        target = this_machine()
    except KeyError:
        raise BuildFailed(f"llorch does not run on {sys.platform}", "build on Linux") from None
    if target not in all_targets():
        raise BuildFailed(f"llorch has no lock for {target.name}", "set PYTHON to 3.10 to 3.13")
    return target


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build_pyz.sh", description=__doc__)
    parser.add_argument(
        "--this-machine-only",
        action="store_true",
        help="leave out what other systems and Pythons need: a smaller file, built faster",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist" / "llorch.pyz", help="default: %(default)s"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
