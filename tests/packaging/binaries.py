"""Read what a native library is built for out of its headers (ELF and Mach-O)."""

import struct
from dataclasses import dataclass

ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
MACH_MACHINES = {0x01000007: "x86_64", 0x0100000C: "arm64"}
MACH_64, MACH_FAT = 0xFEEDFACF, 0xCAFEBABE
LC_VERSION_MIN_MACOSX, LC_BUILD_VERSION, LC_CODE_SIGNATURE = 0x24, 0x32, 0x1D


@dataclass(frozen=True)
class MachSlice:
    """One processor's part of a Mach-O file."""

    machine: str
    min_macos: tuple[int, int]
    signed: bool


def elf_machine(data: bytes) -> str | None:
    """Return the processor of an ELF file, or None when `data` is none."""
    if not data.startswith(b"\x7fELF"):
        return None
    (machine,) = struct.unpack_from("<H", data, 18)
    return ELF_MACHINES.get(machine, f"machine {machine}")


def elf_sections(data: bytes) -> set[str]:
    """Return the names of the sections of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    (base,) = struct.unpack_from("<Q", data, table + names * size + 24)
    offsets = [struct.unpack_from("<I", data, table + i * size)[0] for i in range(count)]
    return {data[base + o : data.index(b"\0", base + o)].decode() for o in offsets}


def mach_slices(data: bytes) -> list[MachSlice]:
    """Return the parts of a Mach-O file, thin or universal; none when `data` is something else."""
    if data[:4] == struct.pack(">I", MACH_FAT):
        (count,) = struct.unpack_from(">I", data, 4)
        starts = [struct.unpack_from(">I", data, 8 + 20 * i + 8)[0] for i in range(count)]
        return [_slice(data, start) for start in starts]
    if data[:4] == struct.pack("<I", MACH_64):
        return [_slice(data, 0)]
    return []


def _slice(data: bytes, start: int) -> MachSlice:
    machine, _, _, count = struct.unpack_from("<IIII", data, start + 4)
    offset, version, signed = start + 32, 0, False
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, offset)
        if command == LC_BUILD_VERSION:
            (version,) = struct.unpack_from("<I", data, offset + 12)
        elif command == LC_VERSION_MIN_MACOSX:
            (version,) = struct.unpack_from("<I", data, offset + 8)
        signed = signed or command == LC_CODE_SIGNATURE
        offset += size
    return MachSlice(
        MACH_MACHINES.get(machine, hex(machine)), (version >> 16, version >> 8 & 255), signed
    )
