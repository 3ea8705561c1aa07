"""What the llamacpp engine does beyond the contract: its process, its port, its reasons."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from llorch.core.types import Message, PromptRead
from llorch.engine import host_check, process
from llorch.engine.engine_process import death_reason
from llorch.engine.llamacpp import LlamaCppEngine
from llorch.errors import EngineFailed, EngineUnavailable, InvalidRequest, WorkerLost
from tests.engine.http_transport import http_transport
from tests.engine.subjects import ask, collect, tiny_choice
from tests.engine.tiny_model import STORY, STORY_TOKENS


def engine_of(
    model: Path, command: list[str], slots: int = 1, ctx: int = 1024, *, verbose: bool = False
) -> LlamaCppEngine:
    choice = tiny_choice(slots, ctx)
    return LlamaCppEngine(model, choice, http_transport, command, verbose=verbose)


def test_a_prompt_stops_being_read_when_it_is_cancelled(
    tiny_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command, ctx=16384)
        await engine.load()
        prompt = "now" + " one" * 16000
        async with aclosing(engine.generate(ask(prompt))) as events:
            assert isinstance(await anext(events), PromptRead)
        # What the slot still has of it tells how far it got.
        async with aclosing(engine.generate(ask(prompt))) as events:
            again = await anext(events)
        assert isinstance(again, PromptRead)
        assert again.done < again.total // 2
        await engine.close()

    asyncio.run(run())


def test_the_story_is_told_to_its_end_with_every_id(
    tiny_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        answer = await collect(engine, ask("tell", max_tokens=None))
        assert answer.text == STORY
        assert answer.finished.stop_reason.value == "eos"
        assert len(answer.ids) == len(STORY_TOKENS)
        assert await engine.detokenize(answer.ids) == STORY
        exact = {piece.text: piece.exact for piece in answer.pieces}
        assert exact == dict.fromkeys(exact, True) | {"👩": False}
        await engine.close()

    asyncio.run(run())


def test_a_prompt_read_before_is_taken_from_the_cache(
    tiny_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        first = await collect(engine, ask("now" + " one" * 300))
        second = await collect(engine, ask("now" + " one" * 300))
        assert first.finished.cached_tokens == 0
        assert second.finished.cached_tokens > 250
        assert second.text == first.text
        await engine.close()

    asyncio.run(run())


def test_a_word_that_looks_like_a_control_token_is_text_in_an_answers_ids(
    tiny_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        assert await engine.tokenize("</s>") == [0, 1]
        assert 1 not in await engine.tokenize_plain("</s>")
        await engine.close()

    asyncio.run(run())


def test_a_chat_template_that_refuses_says_so_in_its_own_words(
    tiny_model: Path, engine_command: list[str]
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        assert await engine.render_chat([Message("user", "hi")]) == "<user>hi<assistant>"
        with pytest.raises(InvalidRequest, match="no aliens"):
            await engine.render_chat([Message("alien", "hi")])
        await engine.close()

    asyncio.run(run())


class BreaksInMidRefusal:
    """An engine that dies while it says why it refuses."""

    status = 500
    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield await self.read()

    async def read(self) -> bytes:
        raise WorkerLost("the connection broke")

    async def aclose(self) -> None:
        self.closed = True


def test_an_engine_that_dies_in_mid_refusal_is_an_engine_that_failed() -> None:
    async def run() -> None:
        answer = BreaksInMidRefusal()

        async def transport(*_: object, **__: object) -> BreaksInMidRefusal:
            return answer

        engine = LlamaCppEngine(Path("none.gguf"), tiny_choice(1), transport, ["none"])
        with pytest.raises(EngineFailed):
            await collect(engine, ask("hi"))
        assert answer.closed

    asyncio.run(run())


@pytest.mark.parametrize("key", ["", "wrong"])
def test_the_port_is_closed_to_those_without_the_key(
    tiny_model: Path, engine_command: list[str], key: str
) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        url = engine._process.url
        assert url.startswith("http://127.0.0.1:")
        for path in ("/completion", "/tokenize", "/apply-template", "/props"):
            answer = await http_transport("POST", url + path, body={"prompt": "x"}, api_key=key)
            assert answer.status in (401, 403)
            await answer.aclose()
        await engine.close()

    asyncio.run(run())


def test_the_key_is_on_no_command_line(tiny_model: Path, engine_command: list[str]) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        await engine.load()
        for name in ("cmdline", "environ"):
            told = Path(f"/proc/{engine.pid}/{name}").read_bytes()
            assert engine._process.api_key.encode() not in told
        await engine.close()

    asyncio.run(run())


def test_a_file_that_llama_cpp_refuses_gets_llama_cpps_reason(
    tiny_model: Path, engine_command: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_model.read_bytes()[:-5000])

    async def run() -> None:
        engine = engine_of(broken, engine_command)
        with pytest.raises(EngineFailed, match="not within the file bounds"):
            await engine.load()
        assert not Path(f"/proc/{engine.pid}").exists()

    asyncio.run(run())


def test_a_process_that_dies_while_loading_is_explained(tiny_model: Path) -> None:
    program = "import os, sys; sys.stderr.write('the last words\\n'); os.kill(os.getpid(), 9)"

    async def run() -> None:
        engine = engine_of(tiny_model, [sys.executable, "-c", program])
        with pytest.raises(EngineFailed, match=r"SIGKILL \(out of memory\?\).*the last words"):
            await engine.load()

    asyncio.run(run())


def test_a_command_that_does_not_exist_is_explained(tiny_model: Path) -> None:
    async def run() -> None:
        engine = engine_of(tiny_model, ["/no/such/python"])
        with pytest.raises(EngineFailed, match="No such file"):
            await engine.load()
        await engine.close()

    asyncio.run(run())


def test_an_unfit_machine_is_refused_before_a_process_is_started(
    tiny_model: Path, engine_command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(
        host_check.gather(), system="linux", machine="x86_64", cpu_flags=frozenset({"sse2"})
    )
    monkeypatch.setattr(host_check, "gather", lambda: facts)

    async def run() -> None:
        engine = engine_of(tiny_model, engine_command)
        with pytest.raises(EngineUnavailable, match="avx2") as caught:
            await engine.load()
        assert caught.value.hint
        assert engine.pid is None

    asyncio.run(run())


def test_libraries_that_print_do_not_disturb_the_ready_line(tiny_model: Path) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from llorch.engine import process\n"
        "load = process._load\n"
        "process._load = lambda order: (os.write(1, b'noise\\n'), load(order))[1]\n"
        "sys.exit(process.main())"
    )

    async def run() -> None:
        engine = engine_of(tiny_model, [sys.executable, "-c", program])
        await engine.load()
        await engine.close()

    asyncio.run(run())


def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {"GOMP_SPINCOUNT": "7"})
    process._share_the_cores()
    assert os.environ == {"GOMP_SPINCOUNT": "7"}
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "active"})
    process._share_the_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.setattr(os, "environ", {})
    process._share_the_cores()
    assert os.environ == {"GOMP_SPINCOUNT": "1000"}


def test_the_engines_log_is_shown_only_when_asked_for(
    tiny_model: Path, engine_command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def run(verbose: bool) -> None:
        engine = engine_of(tiny_model, engine_command, verbose=verbose)
        await engine.load()
        await engine.close()

    asyncio.run(run(False))
    assert capsys.readouterr().err == ""
    asyncio.run(run(True))
    assert "engine: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "returncode,log,reason",
    [
        (-signal.SIGILL, (), "SIGILL (this CPU lacks an instruction"),
        (-signal.SIGSEGV, ("0.01.5 E oh dear",), "it last said: oh dear"),
        (-63, (), "signal 63"),
        (3, ("Traceback", "MemoryError"), "exited with code 3; it last said: MemoryError"),
    ],
)
def test_a_death_has_a_reason(returncode: int, log: tuple[str, ...], reason: str) -> None:
    assert reason in death_reason(returncode, log)


def test_a_load_order_that_is_none_is_refused(engine_command: list[str]) -> None:
    async def run() -> bytes:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*engine_command, stdin=pipe, stdout=pipe)
        said, _ = await child.communicate(b"{}\n")
        return said

    assert json.loads(asyncio.run(run()))["error"]["code"] == "ENGINE_FAILED"
