"""Daemons as processes: signals, exit codes, ports, standard input."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys

from tests.daemon.living import ROOT, Process, a_process, a_task, call, follow
from tests.net.looped import run

WORKER = ("serve-worker", "--engine", "echo", "--echo-tps", "20", "--slots", "1")
FOREVER = {"max_tokens": 100_000}


async def statuses(orchestrator: Process) -> list[str]:
    shown = (await call("GET", orchestrator.url + "/v2/workers")).json()["workers"]
    return [worker["status"] for worker in shown]


def port_of(process: Process) -> int:
    return int(process.url.rpartition(":")[2])


def test_sigterm_lets_a_worker_drain_finish_leave_the_fleet_and_free_its_port(tmp_path):
    async def main() -> None:
        async with (
            a_process("serve-orchestrator", home=tmp_path) as orchestrator,
            a_process(*WORKER, "--orchestrator", orchestrator.url, home=tmp_path) as worker,
        ):
            await worker.says("registered")
            task = a_task(max_tokens=20, stream=True)
            stream = await follow(orchestrator.url + "/v2/tasks", task)
            await stream.sees("token")
            worker.signal(signal.SIGTERM)
            await worker.says("draining")
            while await statuses(orchestrator) == ["busy"]:
                await asyncio.sleep(0.005)
            assert await statuses(orchestrator) == ["draining"]
            assert (await stream.rest()).data("end")[0]["tokens_out"] == 20
            assert await worker.ended() == 0
            assert await statuses(orchestrator) == []
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", port_of(worker)))
            assert worker.errors == ""

    run(main())


def test_the_end_of_the_grace_gives_what_still_runs_an_error(tmp_path):
    async def main() -> None:
        async with a_process(*WORKER, "--grace", "0.2", home=tmp_path) as worker:
            stream = await follow(worker.url + "/execute", a_task(**FOREVER))
            await stream.sees("token")
            worker.signal(signal.SIGINT)
            assert (await stream.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"
            assert await worker.ended() == 0

    run(main())


def test_a_second_signal_ends_a_worker_at_once(tmp_path):
    async def main() -> None:
        async with a_process(*WORKER, home=tmp_path) as worker:
            stream = await follow(worker.url + "/execute", a_task(**FOREVER))
            await stream.sees("token")
            worker.signal(signal.SIGTERM)
            await worker.says("draining")
            worker.signal(signal.SIGTERM)
            assert await worker.ended() == 130
            await stream.leave()

    run(main())


def test_a_worker_ends_with_its_parent_when_asked_to(tmp_path):
    async def main() -> None:
        arguments = (*WORKER, "--exit-with-parent")
        async with a_process(*arguments, home=tmp_path, stdin=subprocess.PIPE) as worker:
            stream = await follow(worker.url + "/execute", a_task(**FOREVER))
            await stream.sees("token")
            assert worker.process is not None
            assert worker.process.stdin is not None
            worker.process.stdin.close()
            assert (await stream.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"
            assert await worker.ended() == 0

    run(main())


def test_a_worker_without_standard_input_has_no_parent_to_wait_for(tmp_path):
    """`<&-` in a shell: the descriptor is not even open."""
    command = f"exec {sys.executable} {ROOT / 'llorch.py'} {' '.join(WORKER)} --exit-with-parent"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --bind 127.0.0.1:0 <&-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_worker_whose_engine_dies_ends_with_code_1_and_the_reason(tmp_path):
    program = (
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from llorch.engine.echo import EchoEngine\n"
        "load = EchoEngine.load\n"
        "async def load_and_die(self):\n"
        "    facts = await load(self)\n"
        "    asyncio.get_running_loop().call_later(0.1, self.die, 'the engine ran out of memory')\n"
        "    return facts\n"
        "EchoEngine.load = load_and_die\n"
        "from llorch.__main__ import start\n"
        "sys.exit(start())\n"
    )
    command = [sys.executable, "-c", program, *WORKER, "--bind", "127.0.0.1:0"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Error: the engine ran out of memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_lets_an_orchestrator_finish_what_runs_and_tell_what_waits(tmp_path):
    async def main() -> None:
        async with (
            a_process(*WORKER, home=tmp_path) as worker,
            a_process("serve-orchestrator", "--worker", worker.url, home=tmp_path) as orchestrator,
        ):
            await orchestrator.says("adopted")
            url = orchestrator.url + "/v2/tasks"
            running = await follow(url, a_task(max_tokens=15, stream=True))
            await running.sees("token")
            waiting = await follow(url, a_task(stream=True))
            await waiting.sees("queued")
            orchestrator.signal(signal.SIGTERM)
            await orchestrator.says("draining")
            assert (await call("GET", orchestrator.url + "/health")).status == 503
            assert (await waiting.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"
            assert (await running.rest()).data("end")[0]["tokens_out"] == 15
            assert await orchestrator.ended() == 0
            assert orchestrator.errors == ""

    run(main())


def test_a_second_signal_ends_an_orchestrator_at_once(tmp_path):
    async def main() -> None:
        async with (
            a_process(*WORKER, home=tmp_path) as worker,
            a_process("serve-orchestrator", "--worker", worker.url, home=tmp_path) as orchestrator,
        ):
            await orchestrator.says("adopted")
            url = orchestrator.url + "/v2/tasks"
            stream = await follow(url, a_task(stream=True, **FOREVER))
            await stream.sees("token")
            orchestrator.signal(signal.SIGTERM)
            await orchestrator.says("draining")
            orchestrator.signal(signal.SIGTERM)
            assert await orchestrator.ended() == 130
            await stream.leave()
            while (await call("GET", worker.url + "/health")).json()["slots_free"] != 1:
                await asyncio.sleep(0.01)  # the worker noticed that nobody reads

    run(main())


def test_daemons_run_without_a_warning_and_say_nothing_of_prompts(tmp_path, monkeypatch):
    """Python's own development mode: leaked sockets, tasks and exceptions are told on stderr."""
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")

    async def main() -> None:
        async with (
            a_process("serve-orchestrator", home=tmp_path) as orchestrator,
            a_process(*WORKER, "--orchestrator", orchestrator.url, home=tmp_path) as worker,
        ):
            await worker.says("registered")
            secret = a_task(prompt="xyzzy-secret", max_tokens=3, stream=True)
            for path in ("/v2/tasks", "/v1/completions"):
                assert (await call("POST", orchestrator.url + path, secret)).status == 200
            leaving = await follow(orchestrator.url + "/v1/completions", secret | FOREVER)
            await leaving.leave()
            for process in (worker, orchestrator):
                process.signal(signal.SIGTERM)
                assert await process.ended() == 0
                told = process.errors + str(process.events)
                for word in ("xyzzy", "Warning", "Traceback", "never retrieved", "was destroyed"):
                    assert word not in told, told

    run(main())
