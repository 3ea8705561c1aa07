"""`llorch serve-worker`: one worker in the foreground.

The model's name is settled before anything slow happens, so that a wrong one is told at once; its
file is fetched after the port is bound, while /health already says `loading`.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llorch.cli.daemon_log import errors_as_events, event_sink
from llorch.cli.lazy import new_app
from llorch.cli.options import (
    MODEL_WORDS,
    Backend,
    Batch,
    Ctx,
    Device,
    Engine,
    Grace,
    Insecure,
    Json,
    Slots,
    Threads,
    address_option,
    finite,
    host_and_port,
    model_option,
    option,
)
from llorch.cli.serve import curl_line, require_loopback
from llorch.errors import UsageError

if TYPE_CHECKING:
    from llorch.engine.echo import EchoOptions

app = new_app()

EXAMPLES = """\b
Examples:
    llorch serve-worker --model smollm2-135m
    llorch serve-worker -m ./my.gguf --name my --orchestrator localhost:8080
    llorch serve-worker --engine echo --echo-tps 50    (needs no model)
"""


@app.command(epilog=EXAMPLES)
def serve_worker(
    model: Annotated[
        str | None,
        model_option("SERVE_WORKER", MODEL_WORDS),
    ] = None,
    backend: Backend = "auto",
    device: Device = None,
    engine: Engine = "auto",
    slots: Slots = None,
    ctx: Ctx = None,
    threads: Threads = None,
    batch: Batch = None,
    name: Annotated[
        str | None,
        option(
            "--name",
            metavar="NAME",
            help="Serve the model as NAME (default: catalog id or file's stem).",
        ),
    ] = None,
    bind: Annotated[
        str, option("--bind", help="Where to listen; port 0: any free one.", metavar="HOST:PORT")
    ] = "127.0.0.1:8001",
    orchestrator: Annotated[
        str | None,
        address_option("orchestrator", "SERVE_WORKER", "URL", "Register with this orchestrator."),
    ] = None,
    advertise: Annotated[
        str | None,
        option(
            "--advertise",
            metavar="URL",
            help="The URL at which the orchestrator reaches this worker.",
        ),
    ] = None,
    grace: Grace = 30.0,
    insecure: Insecure = False,
    echo_tps: Annotated[
        float | None,
        option(
            "--echo-tps",
            min=0,
            metavar="N",
            callback=finite,
            help="With --engine echo: tokens per second.",
        ),
    ] = None,
    echo_load_seconds: Annotated[
        float | None,
        option(
            "--echo-load-seconds",
            min=0,
            metavar="N",
            callback=finite,
            help="With --engine echo: how long loading takes.",
        ),
    ] = None,
    exit_with_parent: Annotated[bool, option("--exit-with-parent", hidden=True)] = False,
    json: Json = False,
) -> int:
    """Run one worker: a daemon with one model loaded.

    It binds its port, fetches the model if it is not here, loads it, and then answers at /execute
    and /v1. It runs until SIGTERM or Ctrl-C, then takes nothing new and finishes what runs.
    """
    with errors_as_events(json):
        host, port = host_and_port(bind, default_host="127.0.0.1", default_port=8001)
        require_loopback(host, insecure)
        served_name, fetch = _model(model, engine)
        from llorch.daemon.worker import WorkerSettings, run_worker

        settings = WorkerSettings(
            name=name or served_name,
            bind_host=host,
            bind_port=port,
            engine=engine,
            backend=backend,
            device=device,
            slots=slots,
            ctx=ctx,
            threads=threads,
            batch=batch,
            # A private worker answers its parent alone, whatever the settings file says.
            orchestrator=None if exit_with_parent else _url(orchestrator),
            advertise=_url(advertise),
            grace_seconds=grace,
            echo=_echo_options(engine, echo_tps, echo_load_seconds),
            exit_with_parent=exit_with_parent,
        )
        return run_worker(settings, fetch, event_sink(json, _try_line))


def _try_line(facts: dict[str, Any]) -> str:
    return curl_line(str(facts.get("url", "")), "/execute", str(facts.get("model", "")))


def _url(address: str | None) -> str | None:
    from llorch.net.address import normalise_url

    return normalise_url(address) if address else None


def _model(model: str | None, engine: str) -> tuple[str, Callable[[], Path | None]]:
    """The default name of the model, and what fetches its file.

    Raises UsageError, ModelNotFound, ModelFileInvalid.
    """
    if engine == "echo":
        return model or "echo", lambda: None
    if model is None:
        raise UsageError(
            "no model is given", hint="--model smollm2-135m, or see llorch pool models catalog"
        )
    from llorch.cli.progress import LineProgress
    from llorch.store import models

    found = models.resolve(model)
    return found.name, lambda: models.fetch(found, LineProgress(sys.stderr))


def _echo_options(engine: str, tps: float | None, load_seconds: float | None) -> "EchoOptions":
    """The speed of the fake engine. Raises UsageError where another engine was asked for."""
    from llorch.engine.echo import EchoOptions

    if engine != "echo" and (tps is not None or load_seconds is not None):
        raise UsageError("--echo-tps and --echo-load-seconds are for --engine echo only")
    return EchoOptions(tokens_per_second=tps or 0.0, load_seconds=load_seconds or 0.0)
