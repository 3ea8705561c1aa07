"""From a model and a user's wishes to the engine that serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llorch.core.choice import Choice, Wishes, choose
from llorch.engine.echo import EchoEngine, EchoOptions
from llorch.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llorch.engine.protocol import Engine, Transport


def choose_for(model: Path | None, wishes: Wishes) -> Choice:
    """Read the model's header and this machine's facts, and choose. Blocks for some 50 ms.

    model: None only with the echo engine. Raises ModelFileInvalid, ModelTooBig, EngineUnavailable,
    UsageError.
    """
    from llorch.engine.model_file import model_bytes, read_gguf
    from llorch.engine.probe import probe

    if model is None or wishes.engine == "echo":
        return choose(probe(), wishes, None)
    header = read_gguf(model)
    return choose(probe(), wishes, header.shape(), file_bytes=model_bytes(model, header))


def make_engine(
    choice: Choice,
    model: Path | None,
    transport: Transport,
    command: Sequence[str],
    echo_options: EchoOptions | None = None,
    *,
    verbose: bool = False,
) -> Engine:
    """The engine of a choice, not loaded yet.

    command: starts llorch itself, for the engine's process. verbose: the engine's log on stderr.
    """
    if choice.engine == "echo":
        return EchoEngine(echo_options, choice.slots, choice.ctx, choice.batch)
    if model is None:
        raise EngineUnavailable("the llamacpp engine needs a model file", hint="name it: --model")
    from llorch.engine.llamacpp import LlamaCppEngine

    return LlamaCppEngine(model, choice, transport, command, verbose=verbose)
