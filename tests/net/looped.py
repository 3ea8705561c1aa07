"""Runs a test's coroutine on a loop of its own and fails for whatever it leaves behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

LIMIT_SECONDS = 60.0
SETTLE_SECONDS = 5.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end. No task may be left, no exception may go unseen."""
    problems: list[dict[str, Any]] = []
    asyncio.run(_watched(main, problems))
    assert not problems, problems


async def _watched(main: Coroutine[Any, Any, None], problems: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    await asyncio.wait_for(main, LIMIT_SECONDS)
    await until(lambda: not others(), "tasks are left", SETTLE_SECONDS, describe=others)
    gc.collect()
    await asyncio.sleep(0)


def others() -> set[asyncio.Task[Any]]:
    """All tasks but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def until(
    condition: Callable[[], object],
    failure: str,
    seconds: float = 20.0,
    describe: Callable[[], object] = lambda: "",
) -> None:
    """Give the loop to others until a condition holds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"{failure} {describe()}"
        await asyncio.sleep(0.005)
