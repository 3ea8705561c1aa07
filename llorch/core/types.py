"""The values that everything else speaks of: a request, what an engine is asked, what it says.

All are frozen. Durations carry their unit in the name; counts are tokens unless named otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Priority(str, Enum):
    """Class of a task in the queue: interactive goes before batch."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class StopReason(str, Enum):
    """Why a generation ended."""

    EOS = "eos"
    LENGTH = "length"
    STOP = "stop"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: role (system, user, assistant, tool) and its text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `None` leaves the choice to the engine.

    temperature 0 means greedy; `seed` is 0 to 2**32-2 or None for one made by the worker.
    """

    temperature: float = 0.7
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """A validated request, whichever dialect it came in. Exactly one of prompt and messages is set.

    max_tokens: None means up to the end of the context. deadline_ms: from its arrival.
    """

    model: str
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: int | None = 256
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    priority: Priority = Priority.INTERACTIVE
    session_id: str | None = None
    deadline_ms: int = 300_000
    task_id: str | None = None
    stream: bool = False
    worker: str | None = None
    pool: str | None = None
    avoid: tuple[str, ...] = ()
    backend: str | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What an engine is asked to do: a prompt already templated, as text or as token ids.

    max_tokens: None means up to the end of the context. seed: always set (0 to 2**32-2), so that
    it can be reported. stop: the engine must not emit a stop string or anything after it.
    """

    prompt: str | tuple[int, ...]
    max_tokens: int | None
    sampling: Sampling
    seed: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRead:
    """Progress of a prompt: `done` of `total` tokens are in the context."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class TextMade:
    """New text, never a split character, and the ids of the tokens that it came from.

    index: position of the first of these tokens in the answer. ids is empty where the engine
    cannot tell them; `exact` is False where they were worked out again from the text.
    """

    text: str
    ids: tuple[int, ...]
    index: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every generation that did not fail. Durations in milliseconds."""

    stop_reason: StopReason
    tokens_out: int
    prompt_tokens: int
    cached_tokens: int
    prefill_ms: float
    decode_ms: float
    stop_sequence: str | None = None


EngineEvent = PromptRead | TextMade | Finished
