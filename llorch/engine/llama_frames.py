"""From the bytes of llama.cpp's `/completion` stream to engine events. Pure: no I/O.

Theory of operation. The stream is server-sent events of one `data:` line each:

    progress   {"tokens_predicted": 0, "prompt_progress": {"total", "cache", "processed"}}
    token      {"content": " Paris", "tokens": [7042], "tokens_predicted": 1}
    last       {"stop": true, "stop_type": "eos|limit|word|none", "timings": {...}}
    failure    {"error": {"code", "message", "type"}}

A token frame tells one id. While a character is incomplete llama.cpp sends nothing, so a frame
whose `tokens_predicted` jumps by more than one has ids that it does not tell: a `Gap`, to be worked
out by whoever can ask the engine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llorch.core.types import Finished, PromptRead, StopReason, TextMade
from llorch.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, LlorchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# `json.loads` first guesses an encoding and looks for white space: twice the code for each token.
_decode = json.JSONDecoder().raw_decode

_STOP_REASONS = {"eos": StopReason.EOS, "limit": StopReason.LENGTH, "word": StopReason.STOP}


@dataclass(frozen=True, slots=True)
class Gap:
    """Text of `count` tokens of which only the last id is known."""

    text: str
    count: int
    last_id: int
    index: int


class FrameSplitter:
    """Cuts a byte stream into the JSON values of its `data:` lines."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self._rest = b""

    def push(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Take bytes as they arrive, give the frames that are complete. Comments are passed over.

        Raises EngineFailed when a frame is no JSON.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith((b"data: {", b"error: {")):
                yield _parsed(line)


def _parsed(line: bytes) -> dict[str, Any]:
    name, _, value = line.partition(b": ")
    try:
        frame: dict[str, Any] = _decode(value.decode())[0]
    except ValueError as error:
        raise EngineFailed("the engine sent a frame that is no JSON") from error
    return {"error": frame} if name == b"error" else frame


class Reading:
    """What has been understood of one stream so far."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self.tokens_out = 0
        self._prompt_tokens = 0
        self._timings: Mapping[str, Any] = {}

    def take(self, frame: Mapping[str, Any]) -> PromptRead | TextMade | Gap | Finished:
        """Translate one frame. Raises ContextLengthExceeded, InvalidRequest or EngineFailed."""
        if "error" in frame:
            raise refusal(frame["error"])
        self._timings = frame.get("timings", self._timings)
        self._prompt_tokens = frame.get("tokens_evaluated", self._prompt_tokens)
        if frame.get("stop"):
            return self._last(frame)
        if "prompt_progress" in frame:
            progress = frame["prompt_progress"]
            return PromptRead(progress["processed"], progress["total"])
        return self._token(frame["content"], frame["tokens"], frame["tokens_predicted"])

    def _token(self, text: str, ids: Sequence[int], predicted: int) -> TextMade | Gap:
        index, self.tokens_out = self.tokens_out, predicted
        if predicted - index == len(ids):
            return TextMade(text, tuple(ids), index)
        return Gap(text, predicted - index, ids[-1] if ids else -1, index)

    def _last(self, frame: Mapping[str, Any]) -> Finished:
        self.tokens_out = frame["tokens_predicted"]
        reason = _STOP_REASONS.get(frame["stop_type"])
        if reason is None:  # "none": there was nothing to read, and the model has no start token
            raise InvalidRequest("the prompt is empty", hint="send at least one word")
        return self.finished(reason, None)

    def finished(self, reason: StopReason, stop_sequence: str | None) -> Finished:
        """The last event, with the numbers of the latest frame that told them."""
        return Finished(
            stop_reason=reason,
            tokens_out=self.tokens_out,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._timings.get("cache_n", 0),
            prefill_ms=self._timings.get("prompt_ms", 0.0),
            decode_ms=self._timings.get("predicted_ms", 0.0),
            stop_sequence=stop_sequence,
        )


def refusal(error: Mapping[str, Any]) -> LlorchError:
    """The llorch error for an `error` object of llama.cpp."""
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthExceeded.of(error["n_prompt_tokens"], error["n_ctx"])
    message = _reason(str(error.get("message") or "no reason given"))
    if error.get("type") == "invalid_request_error":
        return InvalidRequest(f"the engine refused the request: {message}")
    return EngineFailed(f"the engine failed: {message}")


def _reason(message: str) -> str:
    """One line. A chat template's own words stand after its source, which nobody wants to see."""
    _, _, of_template = message.rpartition("Jinja Exception: ")
    return of_template.strip().split("\n", 1)[0]
