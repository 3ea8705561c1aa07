"""The one protocol that every engine obeys, and the shape of its transport.

Theory of operation. An engine serves one model. `load()` is called once and may take minutes; the
event loop stays free meanwhile. After it, `generate()` may be entered by as many callers at once as
`facts.slots` says, never more: who waits and who goes is the worker's decision, not the engine's.

Ordering rules of `generate()`, checked by one contract test for all engines:
  1. any number of PromptRead, `done` never falling, at least one where the prompt is long;
  2. any number of TextMade, `index` rising without a gap in the tokens it covers;
  3. exactly one Finished, or an exception from `llorch.errors`; nothing after it.
Leaving the iteration early (`aclose()`, cancellation of the task) stops the work and frees the slot
within one batch of the engine, while a prompt is being read too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llorch.core.types import EngineEvent, GenerateRequest, Message


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What a loaded engine says of itself.

    ctx: tokens per slot. memory_bytes: resident size of the engine, None where unknown.
    """

    engine: str
    backend: str
    device: str
    slots: int
    ctx: int
    threads: int
    batch: int
    version: str
    memory_bytes: int | None = None


class Engine(Protocol):
    """Turns prompts into tokens. See the module's text for the ordering rules."""

    async def load(self) -> EngineFacts:
        """Make the model ready. Raises EngineFailed, EngineUnavailable or ModelFileInvalid."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[EngineEvent, None]:
        """Events of one answer. Raises ContextLengthExceeded before the first event, EngineFailed
        when the engine dies."""

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, special tokens of a prompt's start included."""

    async def render_chat(self, messages: Sequence[Message]) -> str:
        """The prompt that the model's chat template makes of the messages, ready for an answer."""

    async def wait_dead(self) -> str:
        """Return the reason when the engine has died by itself; never returns while it lives."""

    async def close(self) -> None:
        """Free everything; no process of the engine is left."""


class StreamResponse(Protocol):
    """An HTTP answer whose body is read as it arrives."""

    status: int

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Body bytes, transfer coding removed. Ends at the end of the body; raises WorkerLost when
        the connection breaks before it."""

    async def read(self) -> bytes:
        """The whole rest of the body."""

    async def aclose(self) -> None:
        """Close the connection at once."""


class Transport(Protocol):
    """How an engine adapter reaches its engine's HTTP port; given to it by the daemon."""

    async def __call__(
        self, method: str, url: str, *, body: dict[str, Any] | None = None, api_key: str = ""
    ) -> StreamResponse:
        """Send one request, return when the answer's head is here. Raises Unreachable."""
