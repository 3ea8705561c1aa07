"""The official OpenAI client, and a Prometheus scraper, against worker and orchestrator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Fleet
from tests.e2e.daemon import Daemon
from tests.e2e.wait import eventually

MODEL = "smollm2-135m"
QUESTION: Any = [{"role": "user", "content": "Name the capital of France."}]
BOTH = pytest.mark.parametrize("which", ["worker", "orchestrator"])


@pytest.fixture
def daemon(fleet: Fleet, which: str) -> Daemon:
    return fleet.worker if which == "worker" else fleet.orchestrator


@pytest.fixture
def client(daemon: Daemon) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@BOTH
def test_a_chat_is_answered_whole(client: Any) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=24, temperature=0, seed=1
    )
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "Paris" in choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@BOTH
def test_a_chat_streams_the_same_text_in_pieces(client: Any) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": QUESTION,
        "max_tokens": 24,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked)
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    pieces = [c.choices[0].delta.content for c in chunks[:-1] if c.choices[0].delta.content]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


@BOTH
def test_a_completion_goes_on_from_the_prompt(client: Any) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0}
    whole = client.completions.create(**asked, max_tokens=8)
    assert whole.choices[0].text.startswith(" Paris")
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("length", 8)
    streamed = client.completions.create(**asked, max_tokens=8, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == whole.choices[0].text
    stopped = client.completions.create(**asked, max_tokens=8, stop=["ris"])
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == (" Pa", "stop")


@BOTH
def test_the_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


@BOTH
def test_errors_are_those_that_the_client_knows(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.BadRequestError) as too_long:
        client.completions.create(model=MODEL, prompt="word " * 9000, max_tokens=1)
    assert too_long.value.code == "context_length_exceeded"
    assert too_long.value.type == "invalid_request_error"
    assert isinstance(too_long.value.body, dict)
    assert too_long.value.body["n_prompt_tokens"] > too_long.value.body["n_ctx"] == 8192
    with pytest.raises(openai.BadRequestError) as absurd:
        client.completions.create(model=MODEL, prompt="x", temperature=99)
    assert absurd.value.param == "temperature"


@BOTH
def test_a_client_that_breaks_off_its_stream_frees_the_slot(client: Any, fleet: Fleet) -> None:
    stream = client.completions.create(model=MODEL, prompt="Once", max_tokens=4000, stream=True)
    next(stream)
    assert fleet.worker.health()["slots_free"] == 3
    stream.close()
    eventually(lambda: fleet.worker.health()["slots_free"] == 4)


@BOTH
def test_metrics_are_what_a_scraper_reads(daemon: Daemon, fleet: Fleet) -> None:
    fleet.orchestrator.post("/v1/completions", {"model": MODEL, "prompt": "Hello", "max_tokens": 2})
    answer = daemon.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    counts = [s for s in families["llorch_tasks"].samples if s.name == "llorch_tasks_total"]
    assert sum(sample.value for sample in counts) >= 1
    assert families["llorch_tasks"].type == "counter"
    assert all(family.documentation for family in families.values())
