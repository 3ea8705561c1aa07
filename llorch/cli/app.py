"""The root of the command line, and the one place where errors become text and exit codes.

Theory of operation. `run` builds the root command (its sub-commands are stand-ins, see lazy), lets
it parse and run, and maps every way of ending to an exit code:
  1. a LlorchError: `Error: ...`, its faults one per line, `Try: ...`; its own exit code
  2. a mistake on the command line: the same form, 2
  3. Ctrl-C: nothing, 130          4. the reader of our output is gone: nothing, 141
  5. anything else is a fault of llorch: one line, 1; the traceback with LLORCH_DEBUG=1
A setting comes from its flag, else its LLORCH_<COMMAND>_<OPTION> variable, else llorch.toml, else
the default: click does this, given the prefix and the file's sections.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from llorch import __version__
from llorch.cli.lazy import Lazy, new_app
from llorch.cli.report import (
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    show_error,
    show_unexpected,
    silence_stdout,
)
from llorch.errors import LlorchError, NoSpace, StoreFailed, UsageError

COMMANDS = {
    "serve-orchestrator": Lazy(
        "llorch.cli.serve", "Run the orchestrator: the daemon that clients talk to.", "orchestrator"
    ),
    "serve-worker": Lazy(
        "llorch.cli.serve_worker", "Run one worker: a daemon with one model loaded."
    ),
    "infer": Lazy("llorch.cli.infer", "Stream one answer to stdout; nothing need run before."),
    "pool": Lazy("llorch.cli.pool", "Manage the models and workers of this machine."),
}

EPILOG = """\
\b
Examples:
    llorch infer --prompt "The capital of France is"
    llorch pool worker spawn cpu --model smollm2-135m
    llorch serve-orchestrator & llorch serve-worker --model smollm2-135m \\
        --orchestrator http://127.0.0.1:8080

Options may also be set by variables LLORCH_<COMMAND>_<OPTION>, for example
LLORCH_INFER_MAX_TOKENS, or in llorch.toml. A flag wins over a variable, a variable over the file.

`llorch` stands for `python3 llorch.pyz` until the file is on PATH; then completion works, too:

\b
    chmod +x llorch.pyz && ln -s "$PWD/llorch.pyz" ~/.local/bin/llorch
    llorch --install-completion
"""

app = new_app(commands=COMMANDS, add_completion=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llorch {__version__}")
        raise typer.Exit


def _read_settings(ctx: typer.Context, path: Path | None) -> Path | None:
    """Read the settings file while the root's own options are parsed: commands are looked up next,
    and their settings are checked then."""
    if not ctx.resilient_parsing:  # a shell that only asks for completions
        from llorch.store.config import load_config

        ctx.obj = load_config(path)
        ctx.default_map = dict(ctx.obj.sections)
    return path


@app.callback(epilog=EPILOG)
def root(
    config: Annotated[
        Path | None,
        typer.Option(
            help="The settings file.",
            envvar="LLORCH_CONFIG",
            metavar="PATH",
            callback=_read_settings,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_show_version,
            allow_from_autoenv=False,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Every machine you own, one LLM service, one file."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit code."""
    if sys.stderr is None:  # closed by the caller: whatever is said there goes nowhere
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open to the end
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        _flush()
    except (KeyboardInterrupt, typer.Abort):  # Abort: Ctrl-C at a question
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return EXIT_PIPE_CLOSED
    except LlorchError as error:
        return show_error(error)
    except OSError as error:
        silence_stdout()
        return show_error(_system_error(error))
    except Exception as error:
        return show_unexpected(error)
    return code


def _run(arguments: list[str]) -> int:
    command: Any = get_command(app)
    for option in command.params[-2:]:  # typer's own two, for completion
        option.allow_from_autoenv = option.show_envvar = False
    if "_LLORCH_COMPLETE" in os.environ:
        command.main(args=arguments, prog_name="llorch")  # answers the shell and exits
    try:
        with command.make_context("llorch", arguments, auto_envvar_prefix="LLORCH") as context:
            command.invoke(context)
    except typer.Exit as ending:
        return ending.exit_code
    except typer.TyperException as error:
        return _show_usage(error)
    return 0


def _show_usage(error: Any) -> int:
    """A mistake on the command line. No arguments at all: the help, as an answer to that."""
    from llorch.cli.usage import usage_error

    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error.format_message()}\n")
        return UsageError.exit_code
    return show_error(usage_error(error))


def _system_error(error: OSError) -> LlorchError:
    """What the system refused where no command foresaw it: most likely a full disk at stdout."""
    kind = NoSpace if error.errno in {errno.ENOSPC, errno.EDQUOT} else StoreFailed
    place = f": {error.filename}" if error.filename else ""
    hint = "free some space there" if kind is NoSpace else ""
    return kind(f"{error.strerror or error}{place}", hint=hint)


def _flush() -> None:
    """Write out what is buffered while a failure can still be reported."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
