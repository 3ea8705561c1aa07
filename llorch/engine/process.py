"""The engine process: it loads one model into llama.cpp and serves its HTTP port, nothing else.

Theory of operation. Loading holds Python's global lock for seconds to minutes, and a fault in
native code ends the process it happens in. A worker must answer `/health` through both, so the
engine is a child of the worker: `llorch engine-process`. What passes between the two:

    stdin    one JSON line of `LoadOrder`; then nothing, but it stays open while the worker lives
    stdout   one JSON line: {"url", "api_key", "version"} or {"error": {"code", "message", "hint"}}
    stderr   the log of llama.cpp, and whatever a library prints
    HTTP     llama.cpp's own routes on a random loopback port, closed to all who lack the random key

Nothing secret is on a command line. Whatever a library writes to stdout goes to stderr, so that the
one line stays alone.

No orphan: the end of stdin means that the worker is gone, however it went. While the model loads
nobody can read stdin (the lock again), so on Linux the kernel is asked to kill this process when
its parent ends. On macOS an orphan in mid-load ends when the load does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO

from llorch.engine import host_check
from llorch.errors import EngineFailed, EngineUnavailable, LlorchError

if TYPE_CHECKING:
    from collections.abc import Mapping

# From <linux/prctl.h>.
PR_SET_PDEATHSIG = 1

# How often a compute thread looks for the others before it sleeps (libgomp). By default it looks
# for milliseconds, and holds up the thread it waits for where another program wants the core.
# Seen on one shared machine of 2 cores, in tokens/s: beside one busy process 24 with 1000 and 10 by
# default (at worst 17 and 3). Without it 110 and 103 (medians of 15), which is within what that
# machine varies by itself: read it as no loss, not as a gain.
SPINS_BEFORE_SLEEP = 1000

# llama.cpp's levels: 1 errors, 2 warnings, 3 what happened, 4 and more print prompts.
LOG_WARNINGS, LOG_INFO = 2, 3


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """How to load. ctx: tokens per slot. prompt_cache_mib: memory for prompts of earlier tasks."""

    model: str
    ctx: int
    slots: int
    batch: int
    threads: int
    gpu_layers: int
    main_gpu: int
    flash_attention: bool
    prompt_cache_mib: int
    verbose: bool = False

    def as_line(self) -> bytes:
        """The order as the child reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> LoadOrder:
        """Read it back. Raises EngineFailed when the line is not an order."""
        try:
            given = json.loads(line)
            return cls(**{f.name: given[f.name] for f in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise EngineFailed(
                f"the engine process got no load order ({type(error).__name__})",
                hint="it is started by a worker: use `llorch serve-worker`",
            ) from error


def main() -> int:
    """Serve until stdin ends. Returns the exit code when the model could not be loaded."""
    answer = _take_stdout()
    try:
        order = LoadOrder.from_line(sys.stdin.buffer.readline())
        _die_with_parent()
        serving = _load(order)
    except LlorchError as error:
        _say(answer, {"error": error.as_dict()})
        return error.exit_code
    _say(answer, serving)
    _wait_for_end_of_stdin()
    # Not `return`: the interpreter's tidy end would wait for llama.cpp's threads.
    os._exit(0)


def _take_stdout() -> BinaryIO:
    """Keep the real stdout for the one answer and send everything else to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def _say(answer: BinaryIO, value: Mapping[str, Any]) -> None:
    answer.write(json.dumps(value).encode() + b"\n")
    answer.close()


def _die_with_parent() -> None:
    """Ask Linux to kill us when the parent ends, then look whether it ended before we asked."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    hung_up = select.poll()
    hung_up.register(0, select.POLLHUP)
    if any(happened & select.POLLHUP for _, happened in hung_up.poll(0)):
        os._exit(1)


def _wait_for_end_of_stdin() -> None:
    while os.read(0, 4096):
        continue


def _share_the_cores() -> None:
    """Let compute threads sleep soon while they wait for each other; the user's setting wins."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS_BEFORE_SLEEP))


def refuse_unfit_host() -> None:
    """Raise EngineUnavailable where llama.cpp's library would crash or not load.

    Asked before xllamacpp is imported: on an old CPU the import succeeds and the first call kills.
    """
    reason = host_check.llamacpp_reason(host_check.gather())
    if reason is not None:
        what, _, remedy = reason.partition(": ")
        raise EngineUnavailable(what, hint=remedy)


def _load(order: LoadOrder) -> dict[str, str]:
    """Load the model and return the ready line. Raises EngineUnavailable or EngineFailed."""
    _share_the_cores()  # first: libgomp reads its settings once, and the check below loads it
    refuse_unfit_host()
    try:
        import xllamacpp
    except ImportError as error:
        raise EngineUnavailable(
            f"the llamacpp engine cannot be imported: {error}",
            hint="install the package xllamacpp, or use the pyz that carries it",
        ) from error
    return _serve(xllamacpp, order)


# The server must outlive the function that made it: its port closes when it is collected.
_running: list[Any] = []


def _serve(xllamacpp: Any, order: LoadOrder) -> dict[str, str]:
    api_key = os.urandom(24).hex()
    params = _params(xllamacpp, order, api_key)
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, MemoryError, ValueError) as error:
        # It says only that it failed; the reason is in the log, which the worker reads.
        raise EngineFailed("llama.cpp could not load the model") from error
    finally:
        _take_signals_back()
    _running.append(server)
    return {"url": server.listening_address, "api_key": api_key, "version": xllamacpp.__version__}


def _take_signals_back() -> None:
    """Undo what xllamacpp installs while it loads: SIGTERM must simply end us."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _params(xllamacpp: Any, order: LoadOrder, api_key: str) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = order.model
    _set_work(xllamacpp, params, order)
    _set_memory(params, order)
    _set_server(params, order, api_key)
    return params


def _set_work(xllamacpp: Any, params: Any, order: LoadOrder) -> None:
    params.n_parallel = order.slots
    params.n_batch = params.n_ubatch = order.batch
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order.threads
    params.n_gpu_layers = order.gpu_layers
    params.main_gpu = order.main_gpu
    flash = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = (
        flash.LLAMA_FLASH_ATTN_TYPE_ENABLED
        if order.flash_attention
        else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )


def _set_memory(params: Any, order: LoadOrder) -> None:
    # llama.cpp divides its context among the slots.
    params.n_ctx = order.ctx * order.slots
    # A prompt that does not fit must be refused, never shortened behind the client's back.
    params.ctx_shift = False
    # Its own fitting would change context and layers without a word; llorch has chosen already.
    params.fit_params = False
    params.cache_ram_mib = order.prompt_cache_mib
    params.cache_idle_slots = order.prompt_cache_mib > 0


def _set_server(params: Any, order: LoadOrder, api_key: str) -> None:
    params.api_keys = [api_key]
    # A stream keeps a thread to its end, an idle kept-alive connection for some seconds. All slots
    # at once, as many connections just left, and a few for tokenize and apply-template.
    params.n_threads_http = 2 * order.slots + 4
    params.ui = params.endpoint_slots = params.endpoint_metrics = False
    params.verbosity = LOG_INFO if order.verbose else LOG_WARNINGS


if __name__ == "__main__":
    raise SystemExit(main())
