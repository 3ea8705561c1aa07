"""A hub on loopback that speaks the Hugging Face hub's protocol.

    HEAD, GET /ORG/NAME/resolve/REV/FILE   302 to the content network, with X-Repo-Commit,
                                           X-Linked-Etag (the file's SHA-256) and X-Linked-Size
    GET /api/models/ORG/NAME/tree/REV      the list of files
    401, 403, 404 with X-Error-Code        no such repository, gated, no such file or revision

The content network is a second server under another host name, as in the real world; faults of the
transfer are set there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.store.web import Web, sha256

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    """files by name. key: what a client must send where the repository is gated."""

    files: dict[str, bytes] = field(default_factory=dict)
    key: str | None = None


class Cdn(Web):
    host = "localhost"


class Hub(Web):
    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, Repo] = {}
        self.cdn = Cdn()
        self.etag: str | None = None

    def add(self, repo: str, file: str, data: bytes, key: str | None = None) -> None:
        """Put a file into a repository."""
        self.repos.setdefault(repo, Repo(key=key)).files[file] = data
        self.cdn.serve(blob_path(data), data, etag=f'"cdn-{len(data)}"')

    def close(self) -> None:
        super().close()
        self.cdn.close()

    def answer(self, handler) -> None:
        path = unquote(handler.path.split("?")[0])
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = tree or file
        repo = self.repos.get(match[1]) if match else None
        if match is None or repo is None:
            refuse(handler, 401, "RepoNotFound")
        elif repo.key and handler.headers.get("Authorization") != f"Bearer {repo.key}":
            refuse(handler, 403, "GatedRepo")
        elif match[2] not in {"main", COMMIT}:
            refuse(handler, 404, "RevisionNotFound")
        elif tree:
            self._list(handler, repo)
        else:
            self._resolve(handler, repo, match[3])

    def _list(self, handler, repo: Repo) -> None:
        tree = [
            {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
            for name, data in repo.files.items()
        ]
        body = json.dumps(tree).encode()
        handler.reply(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, handler, repo: Repo, name: str) -> None:
        data = repo.files.get(name)
        if data is None:
            refuse(handler, 404, "EntryNotFound")
            return
        headers = {
            "Location": self.cdn.url + blob_path(data),
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{self.etag or sha256(data)}"',
            "X-Linked-Size": str(len(data)),
            "ETag": f'"{"0" * 40}"',
        }
        handler.reply(302, headers, b"")


def blob_path(data: bytes) -> str:
    return f"/blobs/{sha256(data)}"


def refuse(handler, status: int, code: str) -> None:
    handler.reply(status, {"X-Error-Code": code, "X-Error-Message": code}, b"")
