#!/usr/bin/env python3
"""Run llorch from a checkout: `python llorch.py ...` does what `python llorch.pyz ...` does."""

from llorch.__main__ import start

if __name__ == "__main__":
    raise SystemExit(start())
