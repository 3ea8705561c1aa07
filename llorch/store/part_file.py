"""The part of a file that has arrived so far, kept from one try to the next.

Its name is the target's with a suffix. Only once all of it is here and its SHA-256 is right does it
get the target's name, by a rename: what bears the final name is whole, whenever a process dies.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from llorch.errors import ChecksumMismatch
from llorch.store.files import (
    open_to_append,
    read_document,
    settle,
    storage_errors,
    sync_folder,
    update_document,
)

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is fetched, in words, and what is known of it. part_suffix: name of the part file."""

    what: str
    size_bytes: int | None = None
    sha256: str | None = None
    part_suffix: str = ".part"


class PartFile:
    """The bytes that are here already, their hash, and the validator that they were sent under.

    announced: whether progress was told of the present run of bytes.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.path = path
        self.size = 0
        self.announced = False
        self.validator: str | None = None
        self._wanted = wanted
        self._note_path = path.with_name(path.name + ".json")
        self._digest = hashlib.sha256()
        self._stream: IO[bytes] | None = None

    def load(self) -> bool:
        """Take up what an earlier try left where it can be continued; says whether it did."""
        with storage_errors(self.path, "read"):
            self._stream = open_to_append(self.path)
            self.validator = self._kept_validator()
            if self._wanted.sha256 is None and self.validator is None:
                self.restart()
                return False
            self._stream.seek(0)
            while block := self._stream.read(_BLOCK_BYTES):
                self._digest.update(block)
                self.size += len(block)
        return self.size > 0

    def write(self, block: bytes) -> None:
        """Append. Raises NoSpace and StoreFailed."""
        with storage_errors(self.path, "write"):
            # At once, so that a full disk is met here and not when the file is closed.
            self._open_stream().write(block)
            self._open_stream().flush()
        self._digest.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget everything that is here."""
        with storage_errors(self.path, "write"):
            self._open_stream().truncate(0)
        self.size = 0
        self.announced = False
        self._digest = hashlib.sha256()

    def remember(self, validator: str | None) -> None:
        """Keep the validator beside the bytes, for a later process."""
        if validator == self.validator and self._note_path.exists():
            return
        self.validator = validator
        if self._wanted.sha256 is None:
            update_document(self._note_path, 1, lambda body: body.update(validator=validator))

    def sha256(self) -> str:
        """The hash of all bytes so far, in hex."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Leave the part file for a later try."""
        if self._stream is not None:
            self._stream.close()

    def finish(self, target: Path) -> None:
        """Check the hash and give the file its name. Raises ChecksumMismatch."""
        if self._wanted.sha256 not in {None, self.sha256()}:
            self._forget(self.path)
            raise ChecksumMismatch(
                f"{self._wanted.what} arrived damaged: its SHA-256 is {self.sha256()}, "
                f"not {self._wanted.sha256}",
                hint="run the same again; if it stays so, the source has another file",
            )
        with storage_errors(target, "write"):
            with self.path.open("rb+") as stream:
                settle(stream)
            self.path.rename(target)
        self._forget(self._note_path, self._note_path.with_name(self._note_path.name + ".lock"))
        sync_folder(target.parent)

    def _open_stream(self) -> IO[bytes]:
        assert self._stream is not None, "load comes first"
        return self._stream

    def _kept_validator(self) -> str | None:
        kept = read_document(self._note_path, 1).get("validator")
        return kept if isinstance(kept, str) else None

    def _forget(self, *paths: Path) -> None:
        with storage_errors(self.path, "delete"):
            for path in paths:
                path.unlink(missing_ok=True)
