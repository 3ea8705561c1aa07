"""ASKS AND SHOWS. The command line: one file per command group, and the one place that prints."""

from __future__ import annotations


def main() -> int:
    """Run the command in `sys.argv[1:]` and return the exit code of the process."""
    from llorch.cli.app import run

    return run()
