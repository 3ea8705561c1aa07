"""`llorch serve-orchestrator`: the orchestrator in the foreground."""

import shlex
from typing import Annotated, Any

from llorch.cli.daemon_log import errors_as_events, event_sink
from llorch.cli.lazy import new_app
from llorch.cli.options import Grace, Insecure, Json, host_and_port, option
from llorch.errors import BindFailed

orchestrator = new_app()

DEFAULT_BIND = "127.0.0.1:8080"


def require_loopback(host: str, insecure: bool) -> None:
    """Refuse a bind that others can reach. Raises BindFailed.

    There is no check of API keys yet, so whoever reaches the port could use it.
    """
    from llorch.net.address import is_loopback_host

    if insecure or is_loopback_host(host):
        return
    raise BindFailed(
        f"{host} can be reached by other machines, and this llorch asks nobody for a key",
        hint="bind to 127.0.0.1 and reach it through ssh -L, or add --insecure on a network "
        "where everybody may use it",
    )


def curl_line(url: str, path: str, model: str) -> str:
    """A command that shows at once whether the daemon answers."""
    body = f'{{"model":"{model}","prompt":"Hello","max_tokens":30,"stream":true}}'
    head = "curl -N -H 'Content-Type: application/json'"
    return f"{head} -d {shlex.quote(body)} {url.rstrip('/')}{path}"


EXAMPLES = """\b
Examples:
    llorch serve-orchestrator
    llorch serve-orchestrator --bind 127.0.0.1:9000 --worker localhost:8001
"""


@orchestrator.command(epilog=EXAMPLES)
def serve_orchestrator(
    bind: Annotated[
        str, option("--bind", help="Where to listen.", metavar="HOST:PORT")
    ] = DEFAULT_BIND,
    worker: Annotated[
        list[str] | None,
        option("--worker", help="A worker to use from the start; may be repeated.", metavar="URL"),
    ] = None,
    queue_capacity: Annotated[
        int, option("--queue-capacity", min=1, metavar="N", help="Tasks that may wait.")
    ] = 100,
    grace: Grace = 30.0,
    insecure: Insecure = False,
    json: Json = False,
) -> int:
    """Run the orchestrator: the daemon that clients talk to.

    It takes tasks at /v2/tasks and /v1, and hands them to the workers that register with it. It
    runs until SIGTERM or Ctrl-C, then takes nothing new and lets running tasks finish.
    """
    with errors_as_events(json):
        host, port = host_and_port(bind, default_host="127.0.0.1", default_port=8080)
        require_loopback(host, insecure)
        from llorch.daemon.orchestrator import OrchestratorSettings, run_orchestrator
        from llorch.net.address import normalise_url

        settings = OrchestratorSettings(
            bind_host=host,
            bind_port=port,
            workers=tuple(normalise_url(address) for address in worker or []),
            queue_capacity=queue_capacity,
            grace_seconds=grace,
        )
        return run_orchestrator(settings, event_sink(json, _try_line))


def _try_line(facts: dict[str, Any]) -> str:
    return f"llorch serve-worker --model smollm2-135m --orchestrator {facts.get('url', '')}"
