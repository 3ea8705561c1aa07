"""Runs a command on a real terminal, which is what colours, bars and stdin rules look at."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.cli.conftest import LLORCH


def in_terminal(cli, *arguments: str, **variables: str) -> str:
    """All that the command showed on a terminal of 80 columns; stdin is the terminal too."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*LLORCH, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=cli.home,
        env=cli.environment | {"COLUMNS": "80"} | variables,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:
        pass  # Linux says so when the last process has left the terminal
    os.close(leader)
    process.wait(30)
    return shown.decode()
