"""`llorch pool worker`: background workers of this machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llorch.cli.complete import worker_ids
from llorch.cli.lazy import new_app
from llorch.cli.options import (
    Json,
    finite,
    option,
)
from llorch.cli.pool_spawn import EXAMPLES, spawn
from llorch.cli.render import age, print_json, print_table, say
from llorch.cli.worker_facts import listed_workers, worker_facts
from llorch.errors import LlorchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llorch.store.workers import WorkerRecord

app = new_app()

StopGrace = Annotated[
    float,
    option(
        "--grace",
        min=0,
        metavar="SECONDS",
        help="How long they may take before they are killed.",
        callback=finite,
    ),
]


@app.callback()
def worker() -> None:
    """Background workers of this machine."""


app.command(epilog=EXAMPLES)(spawn)


@app.command("list")
def list_workers(json: Json = False) -> None:
    """List the background workers of this machine, dead ones too."""
    found = listed_workers()
    if json:
        print_json(found)
        return
    if not found:
        say("no workers; start one: llorch pool worker spawn cpu --model M")
        return
    headings = ("ID", "STATUS", "MODEL", "BACKEND", "PID", "AGE", "URL")
    print_table(headings, [_row(worker) for worker in found])


def _row(worker: dict[str, Any]) -> tuple[str, ...]:
    began = age(time.time() - worker["started_at"])
    facts = (worker["id"], worker["status"], worker["model"], worker["backend"])
    return (*facts, str(worker["pid"]), began, worker["url"])


@app.command()
def stop(
    worker_ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="As list shows them.", autocompletion=worker_ids),
    ],
    grace: StopGrace = 30.0,
    json: Json = False,
) -> None:
    """Stop workers, by force after the grace.

    They take nothing new and finish what runs.
    """
    from llorch.daemon.spawn import find

    _stop_all(find(worker_ids), grace, json)


@app.command("stop-all")
def stop_all(grace: StopGrace = 30.0, json: Json = False) -> None:
    """Stop every background worker of this machine."""
    from llorch.store import workers

    _stop_all(workers.records(), grace, json)


def _stop_all(records: "Sequence[WorkerRecord]", grace: float, as_json: bool) -> None:
    """Stop workers, all at once; each failure is told, the first one is the command's."""
    from llorch.daemon.spawn import stop_many

    if not records:
        say("no workers are running")
    failures: list[LlorchError] = []
    done: list[dict[str, str]] = []
    for record, outcome in stop_many(records, grace):
        if isinstance(outcome, LlorchError):
            failures.append(outcome)
        said = "failed" if isinstance(outcome, LlorchError) else outcome.value
        done.append({"id": record.id, "outcome": said})
        if not as_json:
            print(f"{record.id}  {said}", flush=True)
    if as_json:
        print_json(done)
    if failures:
        raise failures[0]


@app.command()
def logs(
    worker_id: Annotated[
        str, typer.Argument(metavar="ID", help="As list shows it.", autocompletion=worker_ids)
    ],
    follow: Annotated[
        bool, option("--follow", "-f", help="Go on until the worker ends or Ctrl-C.")
    ] = False,
) -> None:
    """Show the log of a worker."""
    from llorch.cli.follow import log_blocks
    from llorch.cli.output import stdout_output
    from llorch.store import workers

    record = workers.find(worker_id)
    output = stdout_output()
    alive = (lambda: workers.is_alive(record)) if follow else None
    for block in log_blocks(Path(record.log_path), alive):
        output.write_bytes(block)


@app.command()
def cleanup(
    days: Annotated[
        float,
        option("--days", min=0, metavar="N", help="Keep logs of stopped workers this long."),
    ] = 7,
    json: Json = False,
) -> None:
    """Forget dead workers and delete old logs."""
    from llorch.store import workers
    from llorch.store.worker_logs import delete_old_logs

    forgotten = workers.clean_up()
    logs_deleted = delete_old_logs(days * 86400)
    if json:
        print_json(
            {
                "forgotten": [worker_facts(record, "dead") for record in forgotten],
                "logs_deleted": [str(log) for log in logs_deleted],
            }
        )
        return
    for record in forgotten:
        print(f"{record.id}  forgotten")
    for log in logs_deleted:
        print(f"{log.name}  deleted")
    if not forgotten and not logs_deleted:
        say("nothing to clean up")
