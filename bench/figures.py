"""How bench/engine.py writes figures of several rounds."""

from __future__ import annotations

import statistics


def spread(figures: list[float], width: int = 7) -> str:
    """Median, worst and best."""
    return f"{statistics.median(figures):{width}.1f} ({min(figures):.1f} - {max(figures):.1f})"


def ratios(figures: list[float], base: list[float]) -> str:
    """Of the medians, of the bests, and the median of the rounds' own."""
    rounds = statistics.median(f / b for f, b in zip(figures, base, strict=True))
    medians = statistics.median(figures) / statistics.median(base)
    return f"{medians:.3f} {max(figures) / max(base):.3f} {rounds:.3f}"
