from __future__ import annotations

import pytest

from llorch.core.fleet import Worker, WorkerReport, WorkerStatus
from llorch.errors import InvalidRequest
from llorch.wire.reports import parse_report, report_fields, worker_object

FULL = WorkerReport(
    worker_id="box-8001",
    url="http://10.0.0.5:8001",
    model="m",
    status=WorkerStatus.LOADING,
    backend="cpu",
    engine="llamacpp",
    device="AMD",
    slots=4,
    slots_elsewhere=1,
    ctx=4096,
    tokens_per_second=12.5,
    memory_bytes=10**9,
    version="0.1.0",
    started=1_795_000_000,
    pool="box",
)
LEAST = {"worker_id": "w", "url": "http://h:1", "model": "m"}


def faults_of(values) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parse_report(values)
    return [fault.field for fault in refused.value.faults]


def test_a_report_survives_the_way_to_the_orchestrator():
    assert parse_report(report_fields(FULL)) == FULL


def test_a_report_needs_who_where_and_what():
    assert parse_report(LEAST) == WorkerReport("w", "http://h:1", "m", WorkerStatus.READY)
    assert faults_of({}) == ["worker_id", "url", "model"]


@pytest.mark.parametrize(
    "url",
    [
        "h:1",
        "https://h:1",
        "http://h",
        "http://h:0",
        "http://:1",
        "http://h:99999",
        "http://h:x",
        "http://h:1/path",
        "http://h:1?q",
        "http://h:1#f",
        "http://user:pw@h:1",
        "http://h:1\r\nX: y",
        "http://[::1",
        5,
        "",
    ],
)
def test_a_url_is_an_http_address_with_a_port_and_nothing_else(url):
    assert faults_of({**LEAST, "url": url}) == ["url"]


@pytest.mark.parametrize(
    "url", ["http://h:1", "http://h:1/", "http://[::1]:8001", "http://1.2.3.4:5"]
)
def test_a_good_url_is_kept_without_its_last_slash(url):
    assert parse_report({**LEAST, "url": url}).url == url.rstrip("/")


@pytest.mark.parametrize(
    "field, value",
    [
        ("worker_id", "a b"),
        ("worker_id", "a/b"),
        ("worker_id", "a\r\nx: y"),
        ("model", ""),
        ("status", "busy"),  # follows from leases, so nobody may claim it
        ("slots", 0),
        ("slots", 100_001),
        ("slots_elsewhere", -1),
        ("ctx", -1),
        ("tokens_per_second", float("nan")),
        ("memory_bytes", 1.5),
        ("backend", 5),
    ],
)
def test_a_faulty_field_is_named(field, value):
    assert faults_of({**LEAST, field: value}) == [field]


def test_a_worker_is_shown_with_its_derived_status_and_its_slots():
    worker = Worker(FULL, reported_at=100.0, leases={"t": 1}, lost=True)
    shown = worker_object(worker, now=101.5)
    assert shown == {
        **report_fields(FULL),
        "status": "failed",
        "slots_free": 2,
        "running": 1,
        "reported_ms_ago": 1500,
    }
