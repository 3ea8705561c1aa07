"""llorch: every machine you own, one LLM service, one file."""

__version__ = "0.1.0"
