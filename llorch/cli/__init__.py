"""ASKS AND SHOWS. The command line: one file per command group, and the one place that prints."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command in `sys.argv[1:]` and return the exit code of the process."""
    if sys.argv[1:2] == ["engine-process"]:  # a worker's child: no command of the user's
        from llorch.engine.process import main as engine_process

        return engine_process()
    from llorch.cli.app import run

    return run()
