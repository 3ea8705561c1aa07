"""Mistakes on the command line in the house's words: what is wrong, where it was said, what to try.

The parser's own sentences name its types and show lists over several lines, and they blame an
option for what a variable or llorch.toml says. Here each becomes one line about what the user
wrote. Who comes from a similar program and tries its words is told the ones that mean it here.
"""

from __future__ import annotations

import os
import re
from typing import Any

from llorch.errors import UsageError

# Words of similar programs -> what does that here.
KNOWN_ELSEWHERE = {
    "help": "llorch --help",
    "version": "llorch --version",
    "run": "llorch infer --prompt TEXT",
    "chat": "llorch infer --chat --prompt TEXT",
    "generate": "llorch infer --prompt TEXT",
    "serve": "llorch serve-orchestrator, or llorch serve-worker --model MODEL",
    "ps": "llorch pool worker list",
    "spawn": "llorch pool worker spawn cpu --model MODEL",
    "stop": "llorch pool worker stop ID",
    "logs": "llorch pool worker logs ID",
    "list": "llorch pool models list",
    "ls": "llorch pool models list",
    "models": "llorch pool models list",
    "pull": "llorch pool models download ID",
    "download": "llorch pool models download ID",
    "rm": "llorch pool models remove ID",
    "backends": "llorch pool backends",
    "status": "llorch pool status",
}
_KINDS = {"int": "whole number", "integer": "whole number", "float": "number"}


def usage_error(error: Any) -> UsageError:
    """The parser's exception as an error of ours, with its hint."""
    context = getattr(error, "ctx", None)
    path = "llorch" if context is None else context.command_path
    return UsageError(_message(error, context), hint=_hint(error, path))


def _message(error: Any, context: Any) -> str:
    if possible := getattr(error, "possibilities", None):
        return f"{error.message}. Did you mean {' or '.join(sorted(possible))}?"
    text = " ".join(error.format_message().split()).rstrip(".")
    text = re.sub(
        r"is not a valid (int|integer|float)(?: range)?$",
        lambda found: f"is not a {_KINDS[found[1]]}",
        text,
    )
    text = re.sub(r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"unexpected: \1", text)
    if place := _place(getattr(error, "param", None), context):
        return f"Invalid value for {place}: {text.partition(': ')[2]}"
    return text


def _place(parameter: Any, context: Any) -> str:
    """The variable or the setting that a value comes from; "" for the command line."""
    if parameter is None or context is None:
        return ""
    source = getattr(context.get_parameter_source(parameter.name), "name", "")
    if source == "DEFAULT_MAP":
        return f"{parameter.name.replace('_', '-')} in {context.find_root().obj.path}"
    if source != "ENVIRONMENT":
        return ""
    named = parameter.envvar or []
    names = [named] if isinstance(named, str) else list(named)
    names.append(f"{context.auto_envvar_prefix}_{parameter.name}".upper())
    return next((name for name in names if os.environ.get(name)), "")


def _hint(error: Any, path: str) -> str:
    if getattr(error, "option_name", "") == "--config":
        return f"it stands first: llorch --config PATH {path.partition(' ')[2]} ..."
    if path == "llorch infer" and "extra argument" in error.message:
        return 'llorch infer --prompt "TEXT"'
    word = re.match(r"No such command '([^']*)'", error.message)
    if path == "llorch" and word and word[1] in KNOWN_ELSEWHERE:
        return KNOWN_ELSEWHERE[word[1]]
    return f"{path} --help"
