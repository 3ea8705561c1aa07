"""The llamacpp engine: llama.cpp (xllamacpp) in a process of its own, spoken to over its HTTP port.

Theory of operation. `engine_process` holds the child, `llama_frames` understands its stream,
`token_ids` finds the ids it does not tell, `stop` cuts at stop strings; this file joins them. Every
request is one HTTP request; closing its connection is how work is stopped, within one batch, while
a prompt is read too. Any failure of the connection is explained by how the process ended.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from llorch.core.types import (
    EngineEvent,
    GenerateRequest,
    Message,
    PromptRead,
    Sampling,
    StopReason,
    TextMade,
)
from llorch.engine.engine_process import EngineProcess
from llorch.engine.llama_frames import FrameSplitter, Gap, Reading, refusal
from llorch.engine.process import LoadOrder, refuse_unfit_host
from llorch.engine.process_memory import resident_bytes
from llorch.engine.protocol import EngineFacts, StreamResponse, Transport
from llorch.engine.stop import StopCutter
from llorch.engine.token_ids import fill_gap
from llorch.errors import EngineFailed, InvalidRequest, LlorchError, Unreachable, WorkerLost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from llorch.core.choice import Choice

# How long to wait for the reason of a broken connection before saying only that it broke.
SECONDS_TO_LEARN_OF_A_DEATH = 2.0

_NAMES = {"repetition_penalty": "repeat_penalty"}


class LlamaCppEngine:
    """`protocol.Engine` on llama.cpp: N slots with continuous batching."""

    def __init__(
        self,
        model: Path,
        choice: Choice,
        transport: Transport,
        command: Sequence[str],
        *,
        verbose: bool = False,
    ) -> None:
        """model: a GGUF file. command: starts llorch itself. verbose: show the engine's log."""
        self._order = _order(model, choice, verbose)
        self._choice = choice
        self._transport = transport
        self._process = EngineProcess(command, verbose=verbose)

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None before it was started."""
        return self._process.pid

    async def load(self) -> EngineFacts:
        """Start the engine process and wait for its model.

        Raises EngineUnavailable where this machine cannot run it, EngineFailed where it fails.
        """
        refuse_unfit_host()
        await self._process.start(self._order)
        try:
            properties = await self._ask("GET", "/props")
        except BaseException:
            await self.close()
            raise
        return self._facts(properties["default_generation_settings"]["n_ctx"])

    def _facts(self, ctx: int) -> EngineFacts:
        pid = self._process.pid
        return EngineFacts(
            engine="llamacpp",
            backend=self._choice.backend,
            device=self._choice.device,
            slots=self._choice.slots,
            ctx=ctx,
            threads=self._choice.threads,
            batch=self._choice.batch,
            version=self._process.version,
            memory_bytes=None if pid is None else resident_bytes(pid),
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineEvent, None]:
        """Events of one answer, see `protocol`. Raises ContextLengthExceeded, EngineFailed."""
        response = await self._completion(request)
        try:
            async with aclosing(self._events(response, StopCutter(request.stop))) as events:
                async for event in events:
                    yield event
        except (Unreachable, WorkerLost) as error:
            raise await self._explained() from error
        finally:
            await response.aclose()

    async def _completion(self, request: GenerateRequest) -> StreamResponse:
        response = await self._send("POST", "/completion", _body(request))
        if response.status == 200:
            return response
        try:
            raise await _refused(response)
        except WorkerLost as error:
            raise await self._explained() from error

    async def _events(
        self, response: StreamResponse, cutter: StopCutter
    ) -> AsyncGenerator[EngineEvent, None]:
        splitter, reading = FrameSplitter(), Reading()
        async for data in response:
            for frame in splitter.push(data):
                event = reading.take(frame)
                if isinstance(event, Gap):
                    event = await fill_gap(event, self)
                if isinstance(event, TextMade):
                    for piece in cutter.push(event):
                        yield piece
                    if cutter.found is not None:
                        yield reading.finished(StopReason.STOP, cutter.found)
                        return
                elif isinstance(event, PromptRead):
                    yield event
                else:
                    for piece in cutter.rest():
                        yield piece
                    yield event
                    return
        raise EngineFailed("the engine ended its answer without saying why")

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a prompt, the model's start token included."""
        return await self._tokens_of(text, as_prompt=True)

    async def tokenize_plain(self, text: str) -> list[int]:
        """Token ids of a piece of text: no start token, and no control token is recognised."""
        return await self._tokens_of(text, as_prompt=False)

    async def _tokens_of(self, text: str, *, as_prompt: bool) -> list[int]:
        body = {"content": text, "add_special": as_prompt, "parse_special": as_prompt}
        tokens: list[int] = (await self._ask("POST", "/tokenize", body))["tokens"]
        return tokens

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for."""
        text: str = (await self._ask("POST", "/detokenize", {"tokens": list(ids)}))["content"]
        return text

    async def render_chat(self, messages: Sequence[Message]) -> str:
        """The prompt that the model's own chat template makes. Raises InvalidRequest."""
        body = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
        try:
            prompt: str = (await self._ask("POST", "/apply-template", body))["prompt"]
        except EngineFailed as error:
            if not self._process.running:
                raise
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error.message}",
                hint="check the order of the roles, or send a plain prompt",
            ) from error
        return prompt

    async def wait_dead(self) -> str:
        """Return why the engine process died by itself; never returns while it lives."""
        return await self._process.died()

    async def close(self) -> None:
        """End the engine process; none is left when this returns."""
        await self._process.close()

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One short request and its JSON answer. Raises EngineFailed."""
        response = await self._send(method, path, body)
        try:
            if response.status != 200:
                raise await _refused(response)
            return json.loads(await response.read())
        except (Unreachable, WorkerLost, ValueError) as error:
            raise await self._explained() from error
        finally:
            await response.aclose()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> StreamResponse:
        process = self._process
        try:
            return await self._transport(
                method, process.url + path, body=body, api_key=process.api_key
            )
        except (Unreachable, WorkerLost) as error:
            raise await self._explained() from error

    async def _explained(self) -> EngineFailed:
        """The connection broke: say how the process ended, if it did."""
        try:
            reason = await asyncio.wait_for(self.wait_dead(), SECONDS_TO_LEARN_OF_A_DEATH)
        except asyncio.TimeoutError:
            reason = "the connection to the engine process broke"
        return EngineFailed(reason, hint="start the worker again; its log says more")


async def _refused(response: StreamResponse) -> LlorchError:
    """The error that an answer other than 200 tells."""
    try:
        text = await response.read()
    finally:
        await response.aclose()
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return EngineFailed(f"the engine answered with HTTP status {response.status}")
    return refusal(error)


def _order(model: Path, choice: Choice, verbose: bool) -> LoadOrder:
    return LoadOrder(
        model=str(model.absolute()),
        ctx=choice.ctx,
        slots=choice.slots,
        batch=choice.batch,
        threads=choice.threads,
        gpu_layers=choice.gpu_layers,
        main_gpu=choice.device_index,
        flash_attention=choice.flash_attention,
        prompt_cache_mib=choice.prompt_cache_mib,
        verbose=verbose,
    )


def _body(request: GenerateRequest) -> dict[str, Any]:
    """The `/completion` request. Stop strings stay here: see `stop`."""
    if request.max_tokens is not None and request.max_tokens < 1:
        raise InvalidRequest("max_tokens must be at least 1")
    ids = not isinstance(request.prompt, str)
    return {
        "prompt": list(request.prompt) if ids else request.prompt,
        "n_predict": -1 if request.max_tokens is None else request.max_tokens,
        "seed": request.seed,
        **_sampling(request),
        "stream": True,
        "return_tokens": True,
        "return_progress": True,
        "cache_prompt": True,
        # An answer cut at a stop string never sees the last frame, so each must carry the numbers.
        "timings_per_token": bool(request.stop),
    }


def _sampling(request: GenerateRequest) -> dict[str, float | int]:
    """What the request says of sampling, by llama.cpp's names; what it leaves open is not sent."""
    said = {field.name: getattr(request.sampling, field.name) for field in fields(Sampling)}
    del said["seed"]  # the request has one of its own, which is never open
    return {_NAMES.get(name, name): value for name, value in said.items() if value is not None}
