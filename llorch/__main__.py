"""Where every way of starting llorch arrives: `llorch.py`, `python -m llorch` and the pyz.

`--version` is answered here, before anything slow is imported: it takes as long as Python itself
needs to start, so that scripts may ask it freely.
"""

import sys

from llorch import __version__


def start() -> int:
    """Run the command in `sys.argv[1:]` and return the exit code of the process."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"llorch {__version__}\n")
        return 0
    from llorch.cli import main

    return main()


if __name__ == "__main__":
    raise SystemExit(start())
