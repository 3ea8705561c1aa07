"""`llorch pool backends` and `llorch pool status`: what this machine can do and what it holds."""

import shutil
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llorch.cli.lazy import new_app
from llorch.cli.options import Json
from llorch.cli.render import age, print_json, print_table, say, size
from llorch.cli.worker_facts import listed_workers
from llorch.errors import LlorchError

if TYPE_CHECKING:
    from llorch.core.choice import HostFacts

backends_app = new_app()
status_app = new_app()

BACKENDS = ("cpu", "cuda", "metal")


@backends_app.command()
def backends(json: Json = False) -> None:
    """Show what this machine can run."""
    from llorch.engine.probe import probe

    facts = probe()
    found = [_backend_facts(facts, backend) for backend in BACKENDS]
    if json:
        print_json(asdict(facts) | {"backends": found})
        return
    rows = [(b["backend"], "yes" if b["usable"] else "no", b["why"]) for b in found]
    print_table(("BACKEND", "USABLE", "WHY"), rows)
    print()
    for name, value in _machine_rows(facts):
        print(f"{name:<10}{value}")
    for problem in facts.problems:
        say(f"problem: {problem}")


def _backend_facts(facts: "HostFacts", backend: str) -> dict[str, Any]:
    """Whether a worker could use the backend, and why: asked of the very choice a worker makes,
    for a model so small that only the backend decides. fix: what to try where it cannot."""
    from llorch.core.choice import Wishes, choose
    from llorch.core.memory import ModelShape

    tiny = ModelShape(
        weight_bytes=1_000_000,
        context_length=2048,
        blocks=2,
        embedding_length=64,
        feed_forward_length=128,
        heads=2,
        kv_values_per_token=128,
        vocab_size=1000,
    )
    devices = _devices(facts, backend)
    answer: dict[str, Any] = {"backend": backend, "devices": devices}
    try:
        choice = choose(facts, Wishes(backend=backend), tiny)
    except LlorchError as error:
        why = error.message.rpartition(" was asked for, but ")[2]
        return answer | {"usable": False, "why": why, "fix": error.hint if devices else ""}
    why = f"{choice.engine}, {choice.threads} threads, {choice.slots} slots"
    return answer | {"usable": True, "why": why, "fix": "", "reasons": list(choice.reasons)}


def _devices(facts: "HostFacts", backend: str) -> list[str]:
    """Names of the devices of a backend, in the order of --device."""
    if backend == "cpu":
        return [facts.cpu_model]
    if backend == "metal":
        return ["Apple GPU"] if facts.metal else []
    return [gpu.name for gpu in facts.gpus]


def _machine_rows(facts: "HostFacts") -> list[tuple[str, str]]:
    """The machine in words: processor, memory, devices, engines."""
    cores = f"{facts.physical_cores} cores, {facts.usable_cores} usable"
    memory = f"{size(facts.memory_total)}, {size(facts.memory_free)} free"
    rows = [
        ("system", f"{facts.system} {facts.machine}"),
        ("cpu", f"{facts.cpu_model} ({cores})"),
        ("memory", memory),
    ]
    for gpu in facts.gpus:
        room = f"{size(gpu.memory_total)}, {size(gpu.memory_free)} free"
        rows += [(f"cuda:{gpu.index}", f"{gpu.name} ({room}, driver {gpu.driver})")]
    return rows + [
        ("engine", f"{build.engine} {build.version} ({', '.join(build.backends)})")
        for build in facts.builds
    ]


@status_app.command()
def status(json: Json = False) -> None:
    """Show this machine's models, workers, memory, disk."""
    facts: dict[str, Any] = {
        "workers": listed_workers(),
        "models": _models(),
        "memory": _memory(),
        "disk": _disk(),
    }
    if json:
        print_json(facts)
        return
    _print_workers(facts["workers"])
    print()
    _print_models(facts["models"])
    print()
    for name in ("memory", "disk"):
        room = facts[name]
        where = f"  ({room['path']})" if "path" in room else ""
        print(f"{name:<8}{size(room['free_bytes'])} free of {size(room['total_bytes'])}{where}")


def _models() -> list[dict[str, Any]]:
    from llorch.store.models import installed

    return [
        {"id": m.entry.id, "size_bytes": m.size_bytes, "path": str(m.path)} for m in installed()
    ]


def _memory() -> dict[str, Any]:
    from llorch.engine.probe_memory import memory

    total, free = memory()
    return {"total_bytes": total, "free_bytes": free}


def _disk() -> dict[str, Any]:
    """The disk that downloaded models go to."""
    from llorch.store.paths import models_dir

    place = models_dir()
    usage = shutil.disk_usage(place)
    return {"path": str(place), "total_bytes": usage.total, "free_bytes": usage.free}


def _print_workers(found: list[dict[str, Any]]) -> None:
    rows = [
        (w["id"], w["status"], w["model"], w["backend"], age(time.time() - w["started_at"]))
        for w in found
    ]
    if rows:
        print_table(("WORKER", "STATUS", "MODEL", "BACKEND", "AGE"), rows)
    else:
        print("no workers")


def _print_models(found: list[dict[str, Any]]) -> None:
    rows = [(m["id"], size(m["size_bytes"]), m["path"]) for m in found]
    if rows:
        print_table(("MODEL", "SIZE", "PATH"), rows)
    else:
        print("no models on this machine")
