"""`llorch infer`: one answer on stdout, from an orchestrator, a worker, or a worker of its own."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llorch.cli.child import config_arguments, flags
from llorch.cli.lazy import new_app
from llorch.cli.options import (
    SEED_LIMIT,
    TOKENS_LIMIT,
    Backend,
    Ctx,
    Engine,
    Json,
    Threads,
    address_option,
    finite,
    model_option,
    option,
    stop_texts,
)
from llorch.errors import UsageError

if TYPE_CHECKING:
    from llorch.cli.infer_show import Shower
    from llorch.cli.infer_target import Target
    from llorch.cli.output import Output

app = new_app()

EXAMPLES = """\b
Examples:
    llorch infer --prompt "The capital of France is"
    llorch infer --prompt "Name three rivers." --chat
    llorch infer --prompt "Summarise:" --max-tokens 100 < notes.txt
    git diff | llorch infer --prompt - --system "Write a commit message."
    llorch infer --orchestrator http://127.0.0.1:8080 --prompt "Hello world"

A prompt is continued as it stands; --chat or --system makes it a question, put to the model in
its own chat template. Parts of a prompt (several --prompt, stdin) are joined by an empty line.
With --prompt TEXT stdin is added if it is a file, or a pipe whose first byte comes within half a
second; `--prompt -` waits for stdin.

With neither --worker nor --orchestrator the model is fetched if needed and a worker is started for
this one answer; --engine, --backend, --ctx and --threads are for that worker.

Exit codes: 0 answered, 1 failed, 2 usage, 3 unreachable, 4 unauthorised, 5 refused (busy),
6 deadline, 130 interrupted, 141 reader gone.
"""


@app.command(epilog=EXAMPLES)
def infer(
    context: typer.Context,
    prompt: Annotated[
        list[str] | None,
        option(
            "--prompt",
            "-p",
            allow_from_autoenv=False,
            metavar="TEXT",
            help="The prompt, or - for stdin; may be repeated.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        model_option("INFER", "The model (default: the one that is served, else smollm2-135m)."),
    ] = None,
    worker: Annotated[
        str | None,
        address_option("worker", "INFER", "HOST:PORT", "Ask this worker."),
    ] = None,
    orchestrator: Annotated[
        str | None,
        address_option("orchestrator", "INFER", "URL", "Ask this orchestrator."),
    ] = None,
    max_tokens: Annotated[
        int,
        option(
            "--max-tokens",
            "-n",
            min=1,
            max=TOKENS_LIMIT,
            metavar="N",
            help="The longest answer, in tokens.",
        ),
    ] = 50,
    temperature: Annotated[
        float,
        option(
            "--temperature",
            min=0,
            max=2,
            metavar="T",
            callback=finite,
            help="0: always the likeliest.",
        ),
    ] = 0.7,
    seed: Annotated[
        int | None,
        option(
            "--seed",
            min=0,
            metavar="N",
            max=SEED_LIMIT,
            help="Makes the draw of tokens repeatable.",
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        option(
            "--stop",
            allow_from_autoenv=False,
            metavar="TEXT",
            callback=stop_texts,
            help="End before this text; may be repeated.",
        ),
    ] = None,
    system: Annotated[
        str | None,
        option(
            "--system", "-s", metavar="TEXT", help="Instructions for the model; implies --chat."
        ),
    ] = None,
    chat: Annotated[bool, option("--chat", help="Use the model's chat template.")] = False,
    engine: Engine = "auto",
    backend: Backend = "auto",
    ctx: Ctx = None,
    threads: Threads = None,
    quiet: Annotated[bool, option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
    json: Json = False,
) -> None:
    """Stream one answer to stdout; nothing need run before.

    The text goes to stdout as it is made; progress and statistics go to stderr. Never interactive.
    """
    from llorch.cli.infer_answer import answer
    from llorch.cli.infer_prompt import assemble_prompt
    from llorch.cli.output import stdout_output

    output = stdout_output()
    chosen = chosen_target(context, worker, orchestrator)
    text = assemble_prompt(prompt or [], sys.stdin, lambda said: _note(said, quiet))
    wanted = {"engine": engine, "backend": backend, "ctx": ctx, "threads": threads}
    place = (
        _running(chosen, model)
        if chosen
        else _private(model, wanted, config_arguments(context), quiet)
    )
    with place as (target, served_model):
        body = {
            "task_id": uuid.uuid4().hex,
            "model": served_model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            **_asked(text, system, chat),
            **({} if seed is None else {"seed": seed}),
            **({"stop": stop} if stop else {}),
        }
        answer(target, body, _shower(output, as_json=json, quiet=quiet))


def chosen_target(
    context: typer.Context, worker: str | None, orchestrator: str | None
) -> "Target | None":
    """Whom the user told us to ask; None: nobody. A flag wins over a variable or the file.

    Raises UsageError where both are named in the same way, or a private worker's option is given
    along with an address.
    """
    from llorch.cli.infer_target import Target

    given = {"worker": worker, "orchestrator": orchestrator}
    named = {name: address for name, address in given.items() if address}
    if len(named) == 2:
        typed = {name: address for name, address in named.items() if _is_flag(context, name)}
        named = typed or named
    if len(named) == 2:
        raise UsageError("both a worker and an orchestrator are named", hint="name one of them")
    for name in ("engine", "backend", "ctx", "threads"):
        if named and _is_flag(context, name):
            raise UsageError(
                f"--{name} is for a worker of our own, but --{next(iter(named))} is set"
            )
    if "worker" in named:
        return Target.at("worker", named["worker"])
    return Target.at("orchestrator", named["orchestrator"]) if named else None


def _is_flag(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _running(target: "Target", model: str | None) -> Iterator[tuple["Target", str]]:
    """A daemon that runs already, and the model to ask it for."""
    yield target, model or target.choose_model()


@contextmanager
def _private(
    model: str | None, wanted: dict[str, Any], config: list[str], quiet: bool
) -> Iterator[tuple["Target", str]]:
    """A worker for this one answer, its model fetched first, and the name of the model."""
    from llorch.cli.model_file import model_file
    from llorch.cli.private_worker import private_worker
    from llorch.cli.progress import spinner
    from llorch.store.catalog import DEFAULT_MODEL

    fallback = "echo" if wanted["engine"] == "echo" else DEFAULT_MODEL
    name, path = model_file(model or fallback, wanted["engine"], quiet)
    options = flags(wanted | {"model": path, "name": name, "slots": 1})
    with private_worker([*config, "serve-worker", *options]) as worker:
        with spinner(f"starting a worker for {name}", quiet):
            target = worker.wait_ready()
        yield target, name


def _asked(text: str, system: str | None, chat: bool) -> dict[str, Any]:
    """The prompt as it stands, or as the turns of a chat."""
    if not chat and system is None:
        return {"prompt": text}
    turns = [{"role": "system", "content": system}] if system else []
    return {"messages": [*turns, {"role": "user", "content": text}]}


def _shower(output: "Output", *, as_json: bool, quiet: bool) -> "Shower":
    from llorch.cli.infer_show import JsonShower, TextShower

    return JsonShower(output) if as_json else TextShower(output, sys.stderr, quiet=quiet)


def _note(said: str, quiet: bool) -> None:
    if not quiet:
        sys.stderr.write(f"note: {said}\n")
        sys.stderr.flush()
