"""What both daemons need of their process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from llorch.daemon.process import address_towards, end_tasks, in_thread
from tests.net.looped import run


def test_work_in_a_thread_gives_its_result_or_raises_its_error():
    def fail() -> None:
        raise ValueError("inside")

    async def main() -> None:
        assert await in_thread(lambda: 7) == 7
        with pytest.raises(ValueError, match="inside"):
            await in_thread(fail)

    run(main())


def test_work_that_nobody_waits_for_any_more_does_no_harm():
    async def main() -> None:
        go, done = threading.Event(), threading.Event()

        def work() -> None:
            go.wait()
            done.set()

        waiting = asyncio.ensure_future(in_thread(work))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
        assert await in_thread(lambda: done.wait(10))

    run(main())


def test_ended_tasks_are_really_over_whatever_they_raise():
    async def main() -> None:
        async def fail() -> None:
            raise ValueError

        forever = asyncio.ensure_future(asyncio.Event().wait())
        failed = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        await end_tasks(forever, None, failed)
        assert forever.cancelled()
        assert failed.done()

    run(main())


@pytest.mark.parametrize(
    "host, expected",
    [("127.0.0.1", "127.0.0.1"), ("10.1.2.3", "10.1.2.3"), ("0.0.0.0", "127.0.0.1")],
)
def test_a_worker_names_the_address_at_which_its_orchestrator_finds_it(host, expected):
    assert address_towards("http://127.0.0.1:8080", host) == expected


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_lets_it():
    code = (
        "import resource, sys; from llorch.daemon.process import allow_many_files;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])));"
        "allow_many_files(); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for soft, hard, expected in ((100, 500, 500), (500, 500, 500)):
        command = [sys.executable, "-c", code, str(soft), str(hard)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert int(done.stdout) == expected
