"""`llorch infer` against a daemon that says what the test wrote."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading

import pytest

from tests.cli.conftest import LLORCH
from tests.cli.fake_daemon import answer_of
from tests.cli.terminal import in_terminal

FULL = {"error": {"code": "ADMISSION_REJECT", "message": "the queue is full", "hint": "later"}}


@pytest.fixture
def ask(cli, daemon):
    """Run infer on the fake worker; stdin None is /dev/null."""

    def run(*arguments, stdin=None, **variables):
        ask_it = ("infer", "--worker", daemon.address, *arguments)
        return cli(*ask_it, stdin=stdin, **variables)

    return run


def test_text_goes_to_stdout_and_statistics_to_stderr(ask):
    ran = ask("--prompt", "Hi")
    assert ran.returncode == 0
    assert ran.stdout == "Hello world\n"
    assert "2 tokens, 12.5 tokens/s, first token after " in ran.stderr
    assert "stop reason: length" in ran.stderr


def test_no_line_break_is_added_to_text_that_ends_with_one(ask, daemon):
    daemon.events = answer_of("Hello\n")
    assert ask("--prompt", "Hi").stdout == "Hello\n"


def test_an_answer_without_text_writes_nothing_to_stdout(ask, daemon):
    daemon.events = answer_of()
    assert ask("--prompt", "Hi").stdout == ""


def test_quiet_leaves_stderr_empty(ask):
    ran = ask("--prompt", "Hi", "--quiet")
    assert (ran.stdout, ran.stderr) == ("Hello world\n", "")


def test_text_is_written_as_it_comes(cli, daemon, running):
    gate = threading.Event()
    first, *rest = answer_of("one", "two")[2:]
    daemon.events = [first, gate, *rest]
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x")
    running.append(process)
    assert process.stdout.read(3) == b"one"
    gate.set()
    assert process.communicate(timeout=30)[0] == b"two\n"


def test_json_prints_each_event_as_one_line(ask):
    lines = [json.loads(line) for line in ask("--prompt", "Hi", "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["queued", "started", "token", "token", "end"]
    assert lines[2] == {"event": "token", "id": "2", "t": "Hello", "i": 0}


def test_a_prompt_is_sent_as_it_stands_with_what_was_asked(ask, daemon):
    ask(
        "--prompt",
        "Hi",
        "--max-tokens",
        "7",
        "--temperature",
        "0",
        "--seed",
        "5",
        "--stop",
        "a",
        "--stop",
        "b",
        "--model",
        "m",
    )
    body = daemon.task()
    assert body.pop("task_id")
    assert body == {
        "model": "m",
        "prompt": "Hi",
        "max_tokens": 7,
        "temperature": 0.0,
        "seed": 5,
        "stop": ["a", "b"],
        "stream": True,
    }


def test_system_and_chat_send_turns(ask, daemon):
    ask("--prompt", "Hi", "--system", "Be brief.")
    assert daemon.task()["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    daemon.requests.clear()
    ask("--prompt", "Hi", "--chat")
    assert daemon.task()["messages"] == [{"role": "user", "content": "Hi"}]
    assert "prompt" not in daemon.task()


def test_stdin_and_argument_are_joined(ask, daemon):
    ask("--prompt", "Sum:", stdin="text\n")
    assert daemon.task()["prompt"] == "Sum:\n\ntext"


def test_an_inherited_idle_pipe_does_not_hang_the_command(cli, daemon, running):
    reading, writing = os.pipe()
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", stdin=reading)
    running.append(process)
    out, err = process.communicate(timeout=30)
    os.close(reading)
    os.close(writing)
    assert out == b"Hello world\n"
    assert b"note: nothing on stdin" in err


def _with_redirection(cli, redirection, *arguments):
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "_", *LLORCH, *arguments],
        capture_output=True,
        text=True,
        env=cli.environment,
        cwd=cli.home,
        timeout=60,
        check=False,
    )


def test_closed_stdin_does_no_harm(cli, daemon):
    ran = _with_redirection(cli, "<&-", "infer", "--worker", daemon.address, "--prompt", "x")
    assert (ran.returncode, ran.stdout) == (0, "Hello world\n")


def test_closed_stdout_is_told(cli, daemon):
    ran = _with_redirection(cli, ">&-", "infer", "--worker", daemon.address, "--prompt", "x")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: stdout is closed")


@pytest.mark.parametrize(
    "status,code,exit_code",
    [
        (400, "INVALID_REQUEST", 2),
        (400, "context_length_exceeded", 1),
        (401, "UNAUTHORISED", 4),
        (403, "FORBIDDEN", 4),
        (404, "model_not_found", 1),
        (429, "ADMISSION_REJECT", 5),
        (503, "WORKER_BUSY", 5),
        (503, "MODEL_LOADING", 5),
        (503, "OF_A_LATER_VERSION", 5),
        (504, "DEADLINE_EXCEEDED", 6),
        (500, "ENGINE_FAILED", 1),
    ],
)
def test_a_refusal_has_the_exit_code_of_its_kind(ask, daemon, status, code, exit_code):
    daemon.refusal = (status, {"error": {"code": code, "message": "why", "hint": "what"}})
    ran = ask("--prompt", "Hi")
    assert ran.returncode == exit_code
    assert ran.stdout == ""
    assert ran.stderr.startswith("Error: why\n")


def test_all_faults_are_listed_one_per_line(ask, daemon):
    details = [
        {"field": "max_tokens", "constraint": "1..9", "message": "max_tokens must be 1 to 9"},
        {"field": "placement.worker", "constraint": "text", "message": "must be text"},
    ]
    error = {"code": "INVALID_REQUEST", "message": "invalid request", "details": details}
    daemon.refusal = (400, {"error": error})
    assert ask("--prompt", "Hi").stderr.splitlines() == [
        "Error: invalid request",
        "  max_tokens must be 1 to 9",
        "  placement.worker: must be text",
    ]


def test_an_error_in_the_middle_keeps_the_text_and_ends_its_line(ask, daemon):
    failure = ("error", {"code": "WORKER_LOST", "message": "the worker died"})
    daemon.events = [*answer_of("Hel")[:-1], failure]
    ran = ask("--prompt", "Hi")
    assert (ran.returncode, ran.stdout) == (1, "Hel\n")
    assert ran.stderr == "Error: the worker died\n"


def test_a_stream_without_its_last_event_is_an_error(ask, daemon):
    daemon.events = answer_of("Hel")[:-1]
    ran = ask("--prompt", "Hi")
    assert (ran.returncode, ran.stdout) == (1, "Hel\n")
    assert "stopped without its last event" in ran.stderr


@pytest.mark.parametrize("reason,exit_code", [("deadline", 6), ("cancelled", 1), ("eos", 0)])
def test_how_the_answer_ended_decides_the_exit_code(ask, daemon, reason, exit_code):
    daemon.events = answer_of("a", stop_reason=reason)
    ran = ask("--prompt", "Hi")
    assert (ran.returncode, ran.stdout) == (exit_code, "a\n")


def test_a_daemon_that_is_something_else_is_named(ask, daemon):
    daemon.refusal = (200, b"<html>")
    ran = ask("--prompt", "Hi")
    assert ran.returncode == 3
    assert "not as llorch does" in ran.stderr


def test_nobody_there_exits_3_and_says_how_to_start_one(cli):
    ran = cli("infer", "--worker", "127.0.0.1:1", "--prompt", "x", "--model", "m")
    assert ran.returncode == 3
    assert "nothing answers at 127.0.0.1:1" in ran.stderr
    assert "llorch serve-worker --model smollm2-135m --bind 127.0.0.1:1" in ran.stderr


def _interrupt(process):
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("kind,path", [("worker", "/cancel"), ("orchestrator", "/v2/tasks/")])
def test_ctrl_c_cancels_the_task_waits_for_its_end_and_exits_130(cli, daemon, running, kind, path):
    end = ("end", {"tokens_out": 1, "stop_reason": "cancelled"})
    daemon.events = [*answer_of("one")[:-1], daemon.cancelled, end]
    process = cli.start("infer", f"--{kind}", daemon.address, "--prompt", "x", "--model", "m")
    running.append(process)
    assert process.stdout.read(3) == b"one"
    _interrupt(process)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == (b"", b"")
    asked = [(p, b) for _, p, b in daemon.requests if p.startswith(path) and "cancel" in p]
    task_id = next(b["task_id"] for _, _, b in daemon.requests if "stream" in b)
    expected = (path, {"task_id": task_id}) if kind == "worker" else (f"{path}{task_id}/cancel", {})
    assert asked == [expected]


def test_ctrl_c_with_json_still_prints_how_the_task_ended(cli, daemon, running):
    end = ("end", {"tokens_out": 1, "stop_reason": "cancelled"})
    daemon.events = [*answer_of("one")[:-1], daemon.cancelled, end]
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", "--json")
    running.append(process)
    while json.loads(process.stdout.readline())["event"] != "token":
        pass
    _interrupt(process)
    (line,) = process.communicate(timeout=30)[0].splitlines()
    assert json.loads(line)["stop_reason"] == "cancelled"
    assert process.returncode == 130


def test_a_second_ctrl_c_does_not_wait_for_the_end(cli, daemon, running):
    never = threading.Event()
    daemon.events = [*answer_of("one")[:-1], never]
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", "--model", "m")
    running.append(process)
    assert process.stdout.read(3) == b"one"
    _interrupt(process)
    assert daemon.cancelled.wait(30)
    _interrupt(process)
    assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == 130
    never.set()


def test_a_reader_that_leaves_cancels_the_task_and_exits_141(cli, daemon, running):
    gate = threading.Event()
    tokens = answer_of("one", "two")[2:-1]
    daemon.events = [tokens[0], gate, tokens[1], daemon.cancelled]
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", "--model", "m")
    running.append(process)
    assert process.stdout.read(3) == b"one"
    process.stdout.close()
    gate.set()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    assert daemon.cancelled.is_set()


def test_a_slow_reader_loses_nothing_and_holds_nobody_up(cli, daemon, running):
    words = [f"{number} " * 2000 for number in range(1000)]  # about 8 MB, more than any buffer
    daemon.events = answer_of(*words)
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", "--model", "m")
    running.append(process)
    assert daemon.sent.wait(30)  # all was taken while nothing was read here
    assert process.communicate(timeout=60)[0].decode() == "".join(words) + "\n"


def test_a_pipe_in_non_blocking_mode_loses_nothing(cli, daemon, running):
    words = [f"{number} " * 2000 for number in range(100)]
    daemon.events = answer_of(*words)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    process = cli.start("infer", "--worker", daemon.address, "--prompt", "x", stdout=writing)
    running.append(process)
    os.close(writing)
    assert daemon.sent.wait(30)
    with open(reading, "rb") as pipe:
        assert pipe.read().decode() == "".join(words) + "\n"
    assert process.wait(30) == 0


def test_characters_arrive_whole_in_any_locale(cli, daemon, ask):
    daemon.events = answer_of("Grüße ", "日本\u2028", "🙂")
    for variables in ({}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}):
        assert ask("--prompt", "x", **variables).stdout == "Grüße 日本\u2028🙂\n"


def test_a_worker_is_asked_for_its_model(ask, daemon):
    daemon.health = (503, {"status": "loading", "model": "its-own"})
    ask("--prompt", "x")
    assert daemon.task()["model"] == "its-own"


@pytest.mark.parametrize(
    "names,chosen",
    [(["a"], "a"), (["a", "smollm2-135m"], "smollm2-135m"), (["a", "b"], None), ([], None)],
)
def test_an_orchestrator_is_asked_for_its_only_or_the_default_model(cli, daemon, names, chosen):
    daemon.models = {"models": [{"id": name} for name in names]}
    ran = cli("infer", "--orchestrator", daemon.address, "--prompt", "x")
    if chosen:
        assert ran.returncode == 0
        assert daemon.task()["model"] == chosen
    else:
        assert ran.returncode == 2
        assert all(name in ran.stderr for name in names)


def test_the_orchestrator_of_the_environment_is_used_and_a_flag_wins(cli, daemon):
    ran = cli("infer", "--prompt", "x", LLORCH_ORCHESTRATOR=f"http://{daemon.address}/")
    assert ran.returncode == 0
    assert ("POST", "/v2/tasks") in [(m, p) for m, p, _ in daemon.requests]
    ran = cli("infer", "--prompt", "x", "--worker", daemon.address, LLORCH_ORCHESTRATOR="x:1")
    assert ran.returncode == 0


@pytest.mark.parametrize(
    "flags", [["--worker", "a:1", "--orchestrator", "b:1"], ["--worker", "a:1", "--engine", "echo"]]
)
def test_flags_that_contradict_are_a_usage_error(cli, flags):
    assert cli("infer", "--prompt", "x", *flags).returncode == 2


def test_the_api_key_of_the_environment_is_sent_and_never_shown(ask, daemon):
    daemon.refusal = (401, {"error": {"code": "UNAUTHORISED", "message": "unknown key"}})
    ran = ask("--prompt", "x", LLORCH_API_KEY="secret-key")
    assert daemon.headers[-1]["authorization"] == "Bearer secret-key"
    assert "secret-key" not in ran.stdout + ran.stderr


def test_a_proxy_of_the_environment_is_not_used_for_loopback(ask):
    assert ask("--prompt", "x", HTTP_PROXY="http://127.0.0.1:1").returncode == 0


def test_the_statistics_do_without_what_an_older_daemon_leaves_out(ask, daemon):
    daemon.events = [("token", {"t": "a"}), ("end", {"tokens_out": 1, "decode_ms": 500})]
    assert "1 token, 2.0 tokens/s" in ask("--prompt", "x").stderr


def test_on_a_terminal_the_wait_and_the_reading_are_shown_and_wiped(cli, daemon):
    daemon.events = [
        ("queued", {"queue_position": 3}),
        ("progress", {"prompt_done": 64, "prompt_total": 640}),
        *answer_of("Hello"),
    ]
    shown = in_terminal(cli, "infer", "--worker", daemon.address, "--prompt", "x")
    assert "waiting, number 3 in the queue\r\x1b[Kreading the prompt: 64 of 640 tokens" in shown
    assert "\r\x1b[KHello\r\n" in shown


def test_closed_stderr_does_no_harm(cli, daemon):
    ran = _with_redirection(cli, "2>&-", "infer", "--worker", daemon.address, "--prompt", "x")
    assert (ran.returncode, ran.stdout) == (0, "Hello world\n")


def test_an_argument_that_is_no_text_is_refused(cli, daemon):
    ask = [*LLORCH, "infer", "--worker", daemon.address, "--prompt", b"a\xff"]
    ran = subprocess.run(
        ask, capture_output=True, env=cli.environment, cwd=cli.home, timeout=60, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"Error: the prompt is not UTF-8 text")


def test_a_full_disk_at_stdout_cancels_the_task_and_is_told_in_one_line(cli, daemon):
    daemon.events = [*answer_of("one")[:-1], daemon.cancelled]
    ran = _with_redirection(
        cli, ">/dev/full", "infer", "--worker", daemon.address, "--prompt", "x", "--model", "m"
    )
    assert (ran.returncode, ran.stderr) == (
        1,
        "Error: No space left on device\nTry: free some space there\n",
    )
    assert daemon.cancelled.is_set()


@pytest.mark.parametrize("asked,other", [("worker", "orchestrator"), ("orchestrator", "worker")])
def test_a_daemon_of_the_other_kind_is_told_and_its_option_named(cli, daemon, asked, other):
    daemon.refusal = (404, {"error": {"code": "NOT_FOUND", "message": "there is nothing"}})
    ran = cli("infer", f"--{asked}", daemon.address, "--prompt", "x", "--model", "m")
    assert ran.returncode == 2
    assert f"{daemon.address} does not speak as an llorch {asked} does" in ran.stderr
    assert f"--{other} {daemon.address}" in ran.stderr


@pytest.mark.parametrize("stops", [[""], [str(number) for number in range(17)]])
def test_a_stop_that_would_be_refused_is_refused_at_once(cli, stops):
    ran = cli("infer", "--prompt", "x", *(word for stop in stops for word in ("--stop", stop)))
    assert ran.returncode == 2
    assert ran.stderr.startswith("Error: Invalid value for '--stop': ")
