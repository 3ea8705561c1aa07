from __future__ import annotations

import json
from pathlib import Path

import pytest

from llorch.errors import Conflict, ModelFileInvalid, ModelNotFound, StoreFailed, UsageError
from llorch.store import catalog
from llorch.store.entries import HuggingFace, LocalPath, Url, entry_from_dict, entry_to_dict
from llorch.store.paths import data_dir
from tests.store.processes import finish, start


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF and more")
    return path


def test_the_built_in_models_are_there() -> None:
    ids = [entry.id for entry in catalog.entries()]
    assert ids == ["smollm2-135m", "qwen-0.5b", "tinyllama", "phi3", "mistral"]
    assert catalog.find(catalog.DEFAULT_MODEL).sha256


def test_a_registered_file_is_found_again(gguf: Path) -> None:
    entry = catalog.register("mine", path=gguf, name="Mine", licence="MIT")
    assert catalog.find("mine") == entry
    assert entry.sources == (LocalPath(str(gguf)),)
    assert entry.size_bytes == 13


def test_a_relative_path_is_kept_absolute(gguf: Path) -> None:
    entry = catalog.register("mine", path=Path(gguf.name))
    assert entry.sources == (LocalPath(str(gguf)),)


def test_a_repository_and_a_url_can_be_registered() -> None:
    catalog.register("a", repo="org/name", file="x.gguf", revision="v1")
    catalog.register("b", url="https://example.org/x.gguf", sha256="A" * 64)
    assert catalog.find("a").sources == (HuggingFace("org/name", "x.gguf", "v1"),)
    assert catalog.find("b").sources == (Url("https://example.org/x.gguf"),)
    assert catalog.find("b").sha256 == "a" * 64


def test_every_entry_survives_being_written_and_read() -> None:
    for entry in catalog.entries():
        assert entry_from_dict(json.loads(json.dumps(entry_to_dict(entry)))) == entry


@pytest.mark.parametrize("model_id", ["", "A", "-a", "a b", "a/b", "x" * 65, "ä", "../x", "a\n"])
def test_a_bad_id_is_refused_with_the_rule(model_id: str, gguf: Path) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.register(model_id, path=gguf)
    assert "a-z" in caught.value.hint


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"url": "https://a/x", "repo": "o/n"},
        {"url": "ftp://a/x"},
        {"url": "https:///x"},
        {"url": "https://user:hunter2@host/x.gguf"},
        {"repo": "no-slash"},
        {"repo": "../.."},
        {"repo": "o/n", "file": "../x.gguf"},
        {"repo": "o/n", "file": "x.bin/y"},
        {"repo": "o/n", "revision": "../.."},
        {"url": "https://a/x", "file": "y"},
        {"url": "https://a/x", "sha256": "123"},
    ],
)
def test_a_bad_source_is_refused_and_nothing_is_kept(wanted: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.register("mine", **wanted)  # type: ignore[arg-type]
    assert caught.value.hint
    assert "hunter2" not in caught.value.message
    with pytest.raises(ModelNotFound):
        catalog.find("mine")


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileInvalid):
        catalog.register("mine", path=tmp_path / "absent.gguf")
    with pytest.raises(ModelFileInvalid):
        catalog.register("mine", path=tmp_path)


def test_a_file_that_is_no_gguf_model_is_refused_and_told_what_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<!DOCTYPE html><html>404</html>", encoding="utf-8")
    with pytest.raises(ModelFileInvalid, match=r"page\.gguf: the file is a web page"):
        catalog.register("mine", path=page)


@pytest.mark.parametrize("model_id,way_out", [("mine", "unregister mine"), ("phi3", "another id")])
def test_a_taken_id_is_refused(model_id: str, way_out: str, gguf: Path) -> None:
    catalog.register("mine", path=gguf)
    with pytest.raises(Conflict) as caught:
        catalog.register(model_id, path=gguf)
    assert caught.value.hint.endswith(way_out)


def test_an_unknown_id_gets_near_matches() -> None:
    with pytest.raises(ModelNotFound) as caught:
        catalog.find("smolm2-135")
    assert caught.value.hint == "did you mean smollm2-135m?"
    with pytest.raises(ModelNotFound, match="zzz") as caught:
        catalog.find("zzz")
    assert "tinyllama" in caught.value.hint


def test_unregistering_forgets_the_entry_and_keeps_the_file(gguf: Path) -> None:
    catalog.register("mine", path=gguf)
    assert catalog.unregister("mine").id == "mine"
    assert gguf.exists()
    with pytest.raises(ModelNotFound):
        catalog.find("mine")


def test_a_built_in_model_cannot_be_unregistered() -> None:
    with pytest.raises(UsageError, match="came with llorch"):
        catalog.unregister("phi3")


def test_an_id_that_its_user_took_first_stays_the_users(gguf: Path) -> None:
    catalog.register("mine", path=gguf)
    path = data_dir() / "catalog.json"
    path.write_text(path.read_text().replace('"mine"', '"phi3"'))
    assert catalog.find("phi3").sources == (LocalPath(str(gguf)),)
    assert [entry.id for entry in catalog.entries()].count("phi3") == 1


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"version": 9, "models": []}',
        '{"version": 1, "models": 3}',
        '{"version": 1, "models": [{"id": "a"}]}',
        '{"version": 1, "models": [{"id": "../..", "name": "a", "sources": []}]}',
        '{"version": 1, "models": [{"id": 1, "name": "a", "sources": []}]}',
        '{"version": 1, "models": [{"id": "a", "name": "a", "sources": [{"kind": "moon"}]}]}',
    ],
)
def test_a_damaged_or_newer_catalog_is_never_overwritten(content: str, gguf: Path) -> None:
    path = data_dir() / "catalog.json"
    path.write_text(content)
    for act in (catalog.entries, lambda: catalog.register("mine", path=gguf)):
        with pytest.raises(StoreFailed) as caught:
            act()
        assert str(path) in caught.value.message
    assert path.read_text() == content


def test_eight_processes_that_register_at_once_lose_nothing(gguf: Path) -> None:
    code = (
        "from pathlib import Path; from llorch.store import catalog\n"
        "for n in range(5): catalog.register(f'm{sys.argv[1]}-{n}', path=Path(sys.argv[2]))"
    )
    children = [start(code, str(number), str(gguf)) for number in range(8)]
    for child in children:
        finish(child)
    ids = {entry.id for entry in catalog.entries()}
    assert {f"m{number}-{n}" for number in range(8) for n in range(5)} <= ids
