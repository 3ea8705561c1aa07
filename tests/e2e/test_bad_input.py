"""What bad input gets: one line that says what, what to try, the right code, nothing left over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import ask
from tests.e2e.conftest import Fleet
from tests.e2e.daemon import MODEL, a_task, is_free
from tests.e2e.home import Home
from tests.e2e.index import DEAD_NETWORK

LONG = "word " * 9000
ASK = ("infer", "--prompt", "x")
SERVE = ("serve-worker", "--bind", "127.0.0.1:0", "--model")


@dataclass(frozen=True)
class Command:
    """A command line that must fail. {files}, {taken}, {free}, {worker} and {orchestrator} stand
    for a folder of bad files, a port in use, one that nobody listens on, and daemons."""

    arguments: tuple[str, ...]
    code: int
    says: tuple[str, ...]


COMMANDS = {
    "unknown model": Command((*ASK, "--model", "smolm2"), 1, ("did you mean smollm2-135m?",)),
    "unknown model, worker": Command((*SERVE, "tinylama"), 1, ("did you mean tinyllama?",)),
    "unknown model, spawn": Command(
        ("pool", "worker", "spawn", "cpu", "--model", "phi"), 1, ("did you mean phi3?",)
    ),
    "unknown model, download": Command(
        ("pool", "models", "download", "nope"), 1, ("no model 'nope'", "known are smollm2-135m")
    ),
    "unreachable hub": Command(
        (*ASK, "--model", "hf:org/repo:x.gguf"), 1, ("the hub was not reached", "HF_ENDPOINT")
    ),
    "no hub reference": Command((*ASK, "--model", "hf:x"), 2, ("'x' is no repository",)),
    "URL": Command((*ASK, "--model", "https://127.0.0.1:1/x.gguf"), 2, ("pool models register",)),
    "unknown worker": Command(("pool", "worker", "stop", "cpu-9"), 1, ("no worker 'cpu-9'",)),
    "absent file": Command((*ASK, "--model", "./none.gguf"), 1, ("there is no file",)),
    "folder": Command((*SERVE, "{files}/"), 1, ("is a folder", ".gguf file in it")),
    "empty file": Command((*ASK, "--model", "{files}/empty.gguf"), 1, ("the model file is empty",)),
    "cut file": Command((*ASK, "--model", "{files}/cut.gguf"), 1, ("cut off", "download")),
    "cut header": Command((*SERVE, "{files}/header.gguf"), 1, ("cut off", "download")),
    "noise": Command((*ASK, "--model", "{files}/noise.gguf"), 1, ("not a GGUF model",)),
    "web page": Command((*ASK, "--model", "{files}/page.gguf"), 1, ("a web page, not a model",)),
    "safetensors": Command((*SERVE, "{files}/tensors.gguf"), 1, ("safetensors",)),
    "old ggml": Command((*SERVE, "{files}/old.gguf"), 1, ("old ggml file",)),
    "port in use, worker": Command(
        ("serve-worker", "--model", MODEL, "--bind", "127.0.0.1:{taken}"), 1, ("in use", "{taken}")
    ),
    "port in use, orchestrator": Command(
        ("serve-orchestrator", "--bind", "127.0.0.1:{taken}"), 1, ("in use", "{taken}")
    ),
    "port in use, spawn": Command(
        ("pool", "worker", "spawn", "cpu", "--model", MODEL, "--port", "{taken}"),
        1,
        ("in use", "{taken}"),
    ),
    "foreign address": Command(("serve-orchestrator", "--bind", "192.0.2.1:0"), 1, ("192.0.2.1",)),
    "no address": Command(("serve-orchestrator", "--bind", "a:b:c"), 2, ("'a:b:c' is no address",)),
    "open to all": Command(("serve-worker", "--model", MODEL, "--bind", "0.0.0.0:0"), 1, ("key",)),
    "no orchestrator": Command(
        (*ASK, "--orchestrator", "127.0.0.1:{free}"), 3, ("127.0.0.1:{free}", "serve-orchestrator")
    ),
    "no worker": Command((*ASK, "--worker", "localhost:{free}"), 3, ("serve-worker",)),
    "no host": Command((*ASK, "--worker", "no-such-host.invalid:1"), 3, ("no-such-host.invalid",)),
    "model that is not served": Command(
        (*ASK, "--worker", "{worker}", "--model", "other"), 1, ("'other'", "smollm2-135m")
    ),
    "model that no worker has": Command(
        (*ASK, "--orchestrator", "{orchestrator}", "--model", "other"), 1, ("'other'",)
    ),
    "not a worker": Command((*ASK, "--worker", "{orchestrator}"), 2, ("does not speak",)),
    "cuda": Command((*SERVE, MODEL, "--backend", "cuda"), 1, ("cuda was asked for", "--backend")),
    "metal": Command((*ASK, "--backend", "metal"), 1, ("metal was asked for",)),
    "device": Command((*SERVE, MODEL, "--device", "7"), 1, ("device 7",)),
    "engine": Command((*ASK, "--engine", "nonsense"), 2, ("'nonsense' is not one of",)),
    "context beyond the model's": Command((*ASK, "--ctx", "99999"), 2, ("99999", "8192 tokens")),
    "slots beyond the memory": Command((*SERVE, MODEL, "--slots", "1000000"), 1, ("memory", "--")),
    "spawn beyond the memory": Command(
        ("pool", "worker", "spawn", "cpu", "--model", MODEL, "--slots", "1000000"), 1, ("memory",)
    ),
    "no prompt": Command(("infer",), 2, ("there is no prompt",)),
    "absurd number": Command((*ASK, "--max-tokens", "-1"), 2, ("-1",)),
    "huge number": Command((*ASK, "--max-tokens", "99999999999"), 2, ("range",)),
    "not a number": Command((*ASK, "--temperature", "warm"), 2, ("'warm'",)),
    "unreadable settings": Command(("--config", "{files}/page.gguf", *ASK), 2, ("page.gguf",)),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, real_model: Path) -> Path:
    """Files that are named as models and are none."""
    folder = tmp_path_factory.mktemp("files")
    with real_model.open("rb") as model:
        start = model.read(4 * 1024 * 1024)
    header = b'{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    contents = {
        "empty": b"",
        "cut": start,
        "header": start[:1000],
        "noise": bytes(range(256)) * 16,
        "page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        "tensors": len(header).to_bytes(8, "little") + header + bytes(4),
        "old": b"lmgg" + bytes(64),
    }
    for name, content in contents.items():
        (folder / f"{name}.gguf").write_bytes(content)
    return folder


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """A port in use, and one that nobody listens on though it is held."""
    with socket.socket() as taken, socket.socket() as silent:
        for holder in (taken, silent):
            holder.bind(("127.0.0.1", 0))
        taken.listen()
        yield {"taken": taken.getsockname()[1], "free": silent.getsockname()[1]}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_cannot_work_says_why_and_what_to_try(
    name: str, home: Home, fleet: Fleet, files: Path, ports: dict[str, int]
) -> None:
    command = COMMANDS[name]
    known: dict[str, Any] = {"files": files, "worker": fleet.worker.address, **ports}
    known["orchestrator"] = fleet.orchestrator.address
    arguments = (argument.format(**known) for argument in command.arguments)
    failed = home.run(*arguments, variables=DEAD_NETWORK)
    assert (failed.returncode, failed.stdout) == (command.code, ""), failed.stderr
    assert "Error: " in failed.stderr
    assert "Try: " in failed.stderr
    assert "Traceback" not in failed.stderr
    for words in command.says:
        choices = words.format(**known).split("|")
        assert any(choice in failed.stderr for choice in choices), failed.stderr
    home.is_still()
    assert not list(home.folder.rglob("*.tmp"))


@dataclass(frozen=True)
class Request:
    """A body that must be refused: the error names exactly `fields`, its message has `words`."""

    body: Any
    status: int
    code: str
    fields: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


REQUESTS = {
    "not JSON": Request(b'{"prompt": ', 400, "INVALID_REQUEST", words=("JSON",)),
    "not UTF-8": Request(b'{"prompt": "\xff"}', 400, "INVALID_REQUEST"),
    "a list": Request([1, 2], 400, "INVALID_REQUEST", words=("object",)),
    "nothing": Request(b"", 400, "INVALID_REQUEST"),
    "no model, no prompt": Request({}, 400, "INVALID_REQUEST", ("model", "prompt")),
    "wrong types": Request(
        a_task(prompt=7, max_tokens="many", temperature="hot", stop={"a": 1}, stream="yes"),
        400,
        "INVALID_REQUEST",
        ("prompt", "max_tokens", "temperature", "stop", "stream"),
    ),
    "absurd numbers": Request(
        a_task(max_tokens=-1, temperature=1e308, top_p=0, top_k=-5, min_p=2, deadline_ms=10**30),
        400,
        "INVALID_REQUEST",
        ("max_tokens", "temperature", "top_p", "top_k", "min_p", "deadline_ms"),
    ),
    "numbers that JSON has not": Request(
        b'{"model":"smollm2-135m","prompt":"x","temperature":NaN}', 400, "INVALID_REQUEST"
    ),
    "prompt and messages": Request(
        a_task(messages=[{"role": "user", "content": "x"}]), 400, "INVALID_REQUEST", ("prompt",)
    ),
    "unknown role": Request(
        {"model": MODEL, "messages": [{"role": "king", "content": "x"}]},
        400,
        "INVALID_REQUEST",
        ("messages[0].role",),
    ),
    "empty prompt": Request(a_task(prompt=""), 400, "INVALID_REQUEST", ("prompt",)),
    "unknown model": Request(a_task() | {"model": "gpt-4"}, 404, "model_not_found"),
    "over-long prompt": Request(
        a_task(prompt=LONG), 400, "context_length_exceeded", words=("tokens", "8192")
    ),
    "too many bytes": Request(b" " * (8 * 1024 * 1024 + 1), 413, "BODY_TOO_LARGE"),
}


@pytest.mark.parametrize("place", ["worker", "orchestrator"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_cannot_work_is_refused_with_every_reason(
    name: str, place: str, fleet: Fleet
) -> None:
    request = REQUESTS[name]
    daemon, path = (
        (fleet.worker, "/execute") if place == "worker" else (fleet.orchestrator, "/v2/tasks")
    )
    answer = daemon.post(path, request.body)
    assert (answer.status, answer.error["code"]) == (request.status, request.code), answer.body
    assert {"message", "type", "retriable"} <= set(answer.error)
    faults = [fault["field"] for fault in answer.error.get("details", [])]
    assert sorted(faults) == sorted(request.fields)
    assert all(words in answer.error["message"] for words in request.words), answer.error
    assert "word word" not in answer.body.decode()  # a prompt is never sent back
    assert "x-correlation-id" in answer.headers
    assert fleet.worker.health()["slots_free"] == 4


def test_an_over_long_prompt_is_told_with_both_numbers(fleet: Fleet, home: Home) -> None:
    for daemon, path in ((fleet.worker, "/execute"), (fleet.orchestrator, "/v2/tasks")):
        error = daemon.post(path, a_task(prompt=LONG)).error
        assert error["n_prompt_tokens"] > 9000
        assert error["n_ctx"] == 8192
        assert str(error["n_prompt_tokens"]) in error["message"]
    failed = home.run("infer", "--prompt", "-", "--ctx", "512", stdin=LONG[:5000].encode())
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the context holds 512" in failed.stderr
    assert "larger --ctx" in failed.stderr
    home.is_still()


@pytest.mark.parametrize(
    "method,path,status",
    [("GET", "/nothing", 404), ("DELETE", "/health", 405), ("GET", "/v2/tasks/none", 404)],
)
def test_an_address_that_is_not_served_is_answered_with_words(
    method: str, path: str, status: int, fleet: Fleet
) -> None:
    answer = ask(method, fleet.orchestrator.url + path)
    assert answer.status == status
    assert answer.error["message"]


def test_a_worker_waits_for_an_orchestrator_that_is_not_there(home: Home) -> None:
    """It serves its own clients meanwhile, and ends in good order."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{silent.getsockname()[1]}"
        echo = ("serve-worker", "--engine", "echo", "--orchestrator", nowhere)
        with home.daemon(*echo) as worker:
            task = {"model": "echo", "prompt": "one two", "max_tokens": 3}
            assert worker.stream("/execute", task).rest().end["tokens_out"] == 3
            worker.signal(signal.SIGTERM)
            assert worker.ended() == 0
            assert is_free(worker.port)


def test_a_full_disk_is_told_before_the_download(empty_home: Home) -> None:
    """On a file system of two megabytes, which only this process and its children see."""
    place = Path(empty_home.environment["LLORCH_HOME"])
    place.mkdir()
    isolated = ["unshare", "--mount"] + ["--user", "--map-root-user"] * (os.geteuid() != 0)
    script = f'mount -t tmpfs -o size=2m none {place} && "$@" && exit 9; code=$?; '
    script += f"find {place} -size +100k; exit $code"
    command = [*empty_home.command, "infer", "--prompt", "x"]
    failed = subprocess.run(
        [*isolated, "sh", "-c", script, "sh", *command],
        env=empty_home.environment,
        cwd=empty_home.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (1, ""), failed.stderr
    assert "are needed in" in failed.stderr
    assert "2.1 MB are free" in failed.stderr
    assert "Try: free some space" in failed.stderr
    assert "Traceback" not in failed.stderr
