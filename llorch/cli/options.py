"""Options that several commands share, and the small checks that belong to them."""

import math
from typing import Annotated, Any, Literal

import typer

from llorch.cli.complete import model_ids
from llorch.errors import UsageError

EngineName = Literal["auto", "llamacpp", "echo"]
BackendName = Literal["auto", "cpu", "cuda", "metal"]
SEED_LIMIT = 2**32 - 2
TOKENS_LIMIT = 1_000_000
MODEL_WORDS = "A catalog id, a GGUF path or hf:org/repo[@rev][:file or quant]."


def option(*names: str, **settings: Any) -> Any:
    """A `typer.Option` whose help names no variable: every option has one, the root help says."""
    return typer.Option(*names, **({"show_envvar": "envvar" in settings} | settings))


def finite(value: float | None) -> float | None:
    """Refuse nan and inf, which no request can carry."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be an ordinary number")
    return value


def stop_texts(texts: list[str] | None) -> list[str] | None:
    """Refuse at once what the daemon would refuse."""
    from llorch.wire.tasks import MAX_STOPS

    if len(texts or []) > MAX_STOPS:
        raise typer.BadParameter(f"at most {MAX_STOPS} can be given")
    if not all(texts or []):
        raise typer.BadParameter("must not be empty")
    return texts


Json = Annotated[bool, option("--json", help="Print JSON: a stable form, for programs.")]

Engine = Annotated[
    EngineName, option("--engine", help="The library that computes; echo is the fake for tests.")
]
Backend = Annotated[BackendName, option("--backend", help="The kind of device to compute on.")]
Device = Annotated[
    int | None, option("--device", min=0, help="The number of the device.", metavar="N")
]
Slots = Annotated[int | None, option("--slots", min=1, help="Tasks that run at once.", metavar="N")]
Ctx = Annotated[
    int | None, option("--ctx", min=1, help="Context of each slot in tokens.", metavar="N")
]
Threads = Annotated[
    int | None, option("--threads", min=1, metavar="N", help="Threads to compute with.")
]
Batch = Annotated[
    int | None,
    option(
        "--batch",
        min=1,
        metavar="N",
        help="Prompt tokens read at once: small means quick to cancel.",
    ),
]
Grace = Annotated[
    float,
    option(
        "--grace",
        min=0,
        callback=finite,
        help="Seconds that running tasks get to finish.",
        metavar="SECONDS",
    ),
]
Insecure = Annotated[
    bool, option("--insecure", help="Allow a --bind that other machines can reach.")
]


def model_option(command: str, help: str) -> Any:
    """`--model` of a command (as in LLORCH_<COMMAND>_MODEL); LLORCH_MODEL is for all of them."""
    return option(
        "--model",
        "-m",
        metavar="MODEL",
        help=help,
        autocompletion=model_ids,
        envvar=[f"LLORCH_{command}_MODEL", "LLORCH_MODEL"],
        show_envvar=False,
    )


def address_option(name: str, command: str, metavar: str, help: str) -> Any:
    """`--orchestrator` or `--worker` of a command; LLORCH_<NAME> is for all of them."""
    variables = [f"LLORCH_{command}_{name.upper()}", f"LLORCH_{name.upper()}"]
    return option(f"--{name}", metavar=metavar, help=help, envvar=variables, show_envvar=False)


def host_and_port(text: str, *, default_host: str, default_port: int) -> tuple[str, int]:
    """`HOST:PORT`, `HOST`, `PORT`, `:PORT`, `[IPv6]:PORT`, `IPv6` -> host and port.

    Port 0 stands for any free port. Raises UsageError for anything else.
    """
    text = text.strip()
    if text.isdecimal():
        return default_host, _port(text, text)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _bad_bind(text)
        return host, _port(rest[1:], text) if rest else default_port
    if text.count(":") > 1:  # an IPv6 address without a port
        return _ipv6(text), default_port
    host, colon, port = text.partition(":")
    if colon and not port:
        raise _bad_bind(text)
    return host or default_host, _port(port, text) if colon else default_port


def _ipv6(text: str) -> str:
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(text)
    except AddressValueError:
        raise _bad_bind(text) from None
    return text


def _port(digits: str, text: str) -> int:
    if not digits.isdecimal() or not digits.isascii() or int(digits) > 65535:
        raise _bad_bind(text)
    return int(digits)


def _bad_bind(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is no address to listen on",
        hint="HOST:PORT, a port, or [IPv6]:PORT, for example 127.0.0.1:8080",
    )
