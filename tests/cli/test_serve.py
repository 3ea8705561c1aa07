"""The daemons in the foreground: what they say, what they refuse, how they end."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest

from llorch.cli.serve import require_loopback
from llorch.errors import BindFailed

WORKER = ("serve-worker", "--engine", "echo", "--bind", "127.0.0.1:0")
ORCHESTRATOR = ("serve-orchestrator", "--bind", "127.0.0.1:0")


def events_until(process, wanted):
    """The JSON events of a daemon up to the wanted one."""
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == wanted:
            return events
    raise AssertionError(process.stderr.read())


def line_with(stream, text):
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"no line has {text!r}")


def test_a_worker_says_where_it_is_and_how_to_try_it(cli, running):
    process = cli.start(*WORKER, "--name", "m", text=True)
    running.append(process)
    assert "http://127.0.0.1:" in line_with(process.stderr, " ready ")
    command = line_with(process.stderr, "curl")
    assert '"model":"m"' in command
    assert "/execute" in command
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert "draining" in process.stderr.read()


def test_a_worker_tells_its_events_in_json(cli, running):
    process = cli.start(*WORKER, "--json")
    running.append(process)
    events = events_until(process, "ready")
    assert [event["event"] for event in events] == ["bound", "loading", "ready"]
    assert events[-1]["url"] == events[0]["url"]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in {0, 130}


def test_an_orchestrator_starts_and_ends(cli, running):
    process = cli.start(*ORCHESTRATOR, "--json")
    running.append(process)
    assert events_until(process, "ready")[-1]["url"].startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_whole_line_from_client_to_worker_answers(cli, running):
    orchestrator = cli.start(*ORCHESTRATOR, "--json")
    running.append(orchestrator)
    url = events_until(orchestrator, "ready")[-1]["url"]
    worker = cli.start(*WORKER, "--json", "--orchestrator", url)
    running.append(worker)
    events_until(worker, "registered")
    ran = cli("infer", "--orchestrator", url, "--prompt", "one two three", "--max-tokens", "5")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "5 tokens" in ran.stderr


@pytest.mark.parametrize("command", ["serve-worker", "serve-orchestrator"])
def test_a_bind_beyond_loopback_is_refused_with_a_way_out(cli, command):
    engine = ["--engine", "echo"] if command == "serve-worker" else []
    ran = cli(command, *engine, "--bind", "0.0.0.0:0")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: 0.0.0.0 can be reached by other machines")
    assert "--insecure" in ran.stderr


@pytest.mark.parametrize("command", ["serve-worker", "serve-orchestrator"])
def test_a_port_in_use_is_told_in_one_line(cli, command):
    engine = ["--engine", "echo"] if command == "serve-worker" else []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = cli(command, *engine, "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[0].startswith("Error: ")
    assert "Traceback" not in ran.stderr


def test_an_error_is_an_event_too_when_json_was_asked_for(cli):
    ran = cli("serve-worker", "--engine", "echo", "--bind", "0.0.0.0:0", "--json")
    event = json.loads(ran.stdout)
    assert (event["event"], event["code"], event["exit_code"]) == ("error", "BIND_FAILED", 1)
    assert ran.stderr.startswith("Error: ")


@pytest.mark.parametrize(
    "flags,said",
    [
        ([], "no model is given"),
        (["--model", "smollm"], "smollm"),
        (["--model", "./none.gguf"], "none.gguf"),
        (["--model", "smollm2-135m", "--echo-tps", "5"], "--engine echo only"),
        (["--engine", "echo", "--bind", "x:y"], "no address"),
        (["--engine", "echo", "--orchestrator", "ftp://x"], "no address"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_starts(cli, flags, said):
    ran = (
        cli("serve-worker", "--bind", "127.0.0.1:0", *flags)
        if "--bind" not in flags
        else cli("serve-worker", *flags)
    )
    assert ran.returncode in {1, 2}
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_reader_of_events_that_leaves_does_not_end_the_worker(cli, running):
    process = cli.start(*WORKER, "--json")
    running.append(process)
    events_until(process, "ready")
    process.stdout.close()
    process.send_signal(signal.SIGTERM)  # `draining` is written to a pipe without a reader
    assert process.wait(30) == 0


def test_a_log_in_a_file_has_dates(cli):
    with cli.start("serve-orchestrator", "--bind", "127.0.0.1:0") as daemon:
        line = daemon.stderr.readline().decode()
        daemon.terminate()
        daemon.communicate(timeout=60)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ready url=http://127\.0\.0\.1:\d+$", line)


@pytest.mark.parametrize("host", ["127.0.0.1.example.org", "127.example.org", "0.0.0.0", "::"])
def test_a_name_that_begins_like_loopback_is_not_loopback(host):
    with pytest.raises(BindFailed, match="can be reached by other machines"):
        require_loopback(host, insecure=False)
    require_loopback(host, insecure=True)
    for loopback in ("localhost", "127.0.0.1", "127.1.2.3", "::1"):
        require_loopback(loopback, insecure=False)
