"""The machines that llorch.pyz runs on, and the locks that say what it carries for each.

A target is a system (operating system and processor) and a CPython version; each has its own
lock, because pip evaluates a lock's markers for the Python that runs pip, not for the target.
A lock names one SHA-256 per package: exactly one wheel can satisfy it.
"""

import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
PYTHONS = ("310", "311", "312", "313")
SYSTEMS = ("linux-x86_64", "linux-aarch64", "macos-arm64")
GLIBC_MINOR = 28
MACOS_MAJOR = 13

_PIN = re.compile(
    r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^\\\n]+)?((?:\s*\\?\s*--hash=sha256:[0-9a-f]{64})+)"
)
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, order=True)
class Target:
    """One system with one Python, such as linux-x86_64 with 312."""

    system: str
    python: str

    @property
    def name(self) -> str:
        """Return "linux-x86_64-cp312", the same as `llorch_boot.target()` there."""
        return f"{self.system}-cp{self.python}"

    @property
    def lock(self) -> Path:
        """Return the path of the committed lock."""
        return LOCKS / f"{self.name}.txt"

    @property
    def arch(self) -> str:
        """Return x86_64, aarch64 or arm64."""
        return self.system.partition("-")[2]

    @property
    def version(self) -> str:
        """Return "3.12"."""
        return f"{self.python[0]}.{self.python[1:]}"


@dataclass(frozen=True)
class Pin:
    """One package of a lock, with the wheels that it admits."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Return the hash of the one wheel that a committed lock admits."""
        (only,) = self.hashes
        return only

    def line(self) -> str:
        """Return the pin in the form that pip reads."""
        return f"{self.name}=={self.version} " + " ".join(f"--hash=sha256:{h}" for h in self.hashes)


def all_targets() -> list[Target]:
    """Return every target that a full build covers."""
    return [Target(system, python) for system in SYSTEMS for python in PYTHONS]


def this_machine() -> Target:
    """Return the target that this very process is. Raises KeyError on an unknown system."""
    system = {"linux": "linux", "darwin": "macos"}[sys.platform]
    return Target(f"{system}-{platform.machine()}", f"{sys.version_info[0]}{sys.version_info[1]}")


def parse_lock(text: str) -> list[Pin]:
    """Return the pins of a lock, in its order."""
    return [
        Pin(match[1], match[2], tuple(_HASH.findall(match[3]))) for match in _PIN.finditer(text)
    ]


def platform_tags(target: Target) -> list[str]:
    """Return every wheel platform tag that runs on `target`, newest first.

    pip expands none of them by itself when it is told a platform.
    """
    if target.system.startswith("macos"):
        return _macos_tags()
    arch = target.arch
    tags = [f"manylinux_2_{minor}_{arch}" for minor in range(GLIBC_MINOR, 4, -1)]
    tags.append(f"manylinux2014_{arch}")
    if arch == "x86_64":
        tags += [f"manylinux2010_{arch}", f"manylinux1_{arch}"]
    return tags


def _macos_tags() -> list[str]:
    recent = [
        f"macosx_{major}_0_{kind}"
        for major in range(MACOS_MAJOR, 10, -1)
        for kind in ("arm64", "universal2")
    ]
    return recent + [f"macosx_10_{minor}_universal2" for minor in range(16, 8, -1)]


def pip_arguments(target: Target) -> list[str]:
    """Return what makes `pip download` choose wheels for `target`, whatever runs pip."""
    arguments = ["--python-version", target.version, "--implementation", "cp"]
    for abi in (f"cp{target.python}", "abi3", "none"):
        arguments += ["--abi", abi]
    for tag in platform_tags(target):
        arguments += ["--platform", tag]
    return arguments
