"""`llorch pool`: what can be done with this machine's models and workers."""

from llorch.cli.lazy import Lazy, new_app

COMMANDS = {
    "models": Lazy("llorch.cli.pool_models", "The model catalog and files of this machine."),
    "worker": Lazy("llorch.cli.pool_worker", "Background workers of this machine."),
    "backends": Lazy("llorch.cli.pool_info", "Show what this machine can run.", "backends_app"),
    "status": Lazy(
        "llorch.cli.pool_info", "Show this machine's models, workers, memory, disk.", "status_app"
    ),
}

app = new_app(commands=COMMANDS)


@app.callback()
def pool() -> None:
    """Manage the models and workers of this machine."""
