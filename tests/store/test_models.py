from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llorch.errors import Conflict, DownloadFailed, ModelFileInvalid, ModelNotFound, UsageError
from llorch.store import catalog, downloads, models
from llorch.store.entries import HuggingFace, LocalPath, ModelEntry, Url
from llorch.store.models import Verdict
from llorch.store.paths import models_dir
from tests.store.recorder import Recorder
from tests.store.web import Fault, Web, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tests.store.hub import Hub

DATA = b"GGUF" + os.urandom(100_000)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "My Model.gguf"
    path.write_bytes(DATA)
    return path


def test_an_id_is_a_model_of_the_catalog() -> None:
    ref = models.resolve("smollm2-135m")
    assert (ref.name, ref.entry.id, ref.path) == ("smollm2-135m", "smollm2-135m", None)


def test_a_path_is_served_under_the_files_stem(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "file://" + str(gguf).replace(" ", "%20")
    for word in (str(gguf), f"./{gguf.name}", gguf.name, url):
        ref = models.resolve(word)
        assert (ref.name, ref.path) == ("My Model", gguf)
        assert models.fetch(ref, Recorder()) == gguf


def test_a_hub_reference_is_served_under_the_files_stem_or_the_repositorys_name() -> None:
    assert models.resolve("hf:org/repo:sub/x.Q4_0.gguf").name == "x.Q4_0"
    assert models.resolve("hf:org/repo-GGUF").name == "repo-GGUF"
    assert models.resolve("hf:org/repo-GGUF").path is None


@pytest.mark.parametrize("word", ["./absent.gguf", "absent.gguf", "/no/where", "file:///a.gguf"])
def test_an_absent_file_is_told(word: str) -> None:
    with pytest.raises(ModelFileInvalid, match="there is no file") as caught:
        models.resolve(word)
    assert "catalog" in caught.value.hint


def test_an_unknown_word_gets_near_matches() -> None:
    with pytest.raises(ModelNotFound) as caught:
        models.resolve("tinylama")
    assert "tinyllama" in caught.value.hint


def test_a_malformed_hub_reference_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        models.resolve("hf:nothing")


def test_a_registered_file_that_is_gone_is_told(gguf: Path) -> None:
    catalog.register("mine", path=gguf)
    gguf.unlink()
    with pytest.raises(ModelFileInvalid, match="there is no file"):
        models.resolve("mine")
    with pytest.raises(ModelFileInvalid, match="is gone"):
        downloads.ensure(catalog.find("mine"), Recorder())
    assert models.installed() == ()


def test_installed_models_have_size_and_place(gguf: Path, web: Web, hub: Hub) -> None:
    catalog.register("mine", path=gguf)
    catalog.register("far", url=web.serve("/x.gguf", DATA))
    hub.add("org/repo", "y.gguf", DATA)
    models.fetch(models.resolve("far"), Recorder())
    models.fetch(models.resolve("hf:org/repo:y.gguf"), Recorder())
    found = {model.entry.id: model for model in models.installed()}
    assert set(found) == {"mine", "far", "hf:org/repo:y.gguf"}
    assert {model.size_bytes for model in found.values()} == {len(DATA)}
    assert found["far"].path == models_dir() / "far/x.gguf"
    assert not found["mine"].owned
    assert found["far"].owned


def test_a_hub_model_of_the_catalog_is_listed_once(hub: Hub) -> None:
    hub.add("org/repo", "y.gguf", DATA)
    catalog.register("y", repo="org/repo", file="y.gguf")
    models.fetch(models.resolve("y"), Recorder())
    assert [model.entry.id for model in models.installed()] == ["y"]


def test_a_whole_file_is_verified(web: Web) -> None:
    entry = catalog.register("far", url=web.serve("/x.gguf", DATA), sha256=sha256(DATA))
    assert models.verify(entry, Recorder()).verdict is Verdict.MISSING
    path = downloads.ensure(entry, Recorder())
    progress = Recorder()
    result = models.verify(entry, progress)
    assert (result.verdict, result.actual, result.path) == (Verdict.OK, sha256(DATA), path)
    assert progress.stretches == [("checking far", len(DATA))]
    assert progress.done == len(DATA)


def test_a_damaged_file_is_found(web: Web) -> None:
    entry = catalog.register("far", url=web.serve("/x.gguf", DATA), sha256=sha256(DATA))
    path = downloads.ensure(entry, Recorder())
    path.write_bytes(DATA[:-1] + b"x")
    result = models.verify(entry, Recorder())
    assert result.verdict is Verdict.DAMAGED
    assert result.expected == sha256(DATA) != result.actual


def test_a_file_without_a_known_hash_is_not_called_good(gguf: Path) -> None:
    entry = catalog.register("mine", path=gguf)
    result = models.verify(entry, Recorder())
    assert (result.verdict, result.actual) == (Verdict.UNKNOWN, sha256(DATA))


def test_a_damaged_part_of_a_split_hub_model_is_found(hub: Hub) -> None:
    for part in (1, 2):
        hub.add("org/repo", f"x-0000{part}-of-00002.gguf", os.urandom(1000))
    ref = models.resolve("hf:org/repo:x-00001-of-00002.gguf")
    path = models.fetch(ref, Recorder())
    assert models.verify(ref.entry, Recorder()).verdict is Verdict.OK
    second = path.with_name("x-00002-of-00002.gguf")
    second.resolve().write_bytes(os.urandom(1000))
    result = models.verify(ref.entry, Recorder())
    assert (result.verdict, result.path) == (Verdict.DAMAGED, second)


def test_removing_frees_the_space_and_keeps_the_entry(web: Web) -> None:
    entry = catalog.register("far", url=web.serve("/x.gguf", DATA))
    downloads.ensure(entry, Recorder())
    assert models.remove("far") == len(DATA)
    assert catalog.find("far") == entry
    assert models.resolve("far").path is None


def test_removing_what_is_not_here_is_told() -> None:
    with pytest.raises(ModelNotFound, match="not downloaded"):
        models.remove("phi3")
    with pytest.raises(ModelNotFound, match="not downloaded"):
        models.remove("hf:org/repo")


def test_removing_takes_a_begun_download_too(web: Web) -> None:
    entry = catalog.register("far", url=web.serve("/x.gguf", DATA, etag='"v"'))
    web.faults["/x.gguf"] = [Fault(cut_after=5000), Fault(status=404)]
    with pytest.raises(DownloadFailed):
        downloads.ensure(entry, Recorder())
    assert models.remove("far") >= 5000


def test_a_file_of_the_users_own_is_never_deleted(gguf: Path) -> None:
    catalog.register("mine", path=gguf)
    for word in ("mine", str(gguf)):
        with pytest.raises(UsageError, match="your own"):
            models.remove(word)
    assert gguf.read_bytes() == DATA


def test_a_new_model_of_an_old_id_is_not_mistaken_for_it(web: Web) -> None:
    other = os.urandom(1000)
    catalog.register("far", url=web.serve("/x.gguf", DATA))
    models.fetch(models.resolve("far"), Recorder())
    catalog.unregister("far")
    catalog.register("far", url=web.serve("/x.gguf", other))
    assert models.fetch(models.resolve("far"), Recorder()).read_bytes() == other


def test_the_next_source_is_tried_and_the_failure_is_noted(web: Web, hub: Hub) -> None:
    hub.add("org/repo", "y.gguf", DATA)
    sources = (Url(web.url + "/absent"), HuggingFace("org/repo", "y.gguf"))
    progress = Recorder()
    path = downloads.ensure(ModelEntry("m", "M", sources), progress)
    assert path.read_bytes() == DATA
    assert "404" in progress.notes[0]
    assert "trying hf:org/repo:y.gguf" in progress.notes[0]


def test_when_every_source_fails_every_failure_is_named(web: Web, hub: Hub) -> None:
    sources = (
        Url(web.url + "/absent"),
        HuggingFace("org/absent", "y.gguf"),
        LocalPath("/no/where.gguf"),
    )
    with pytest.raises(DownloadFailed) as caught:
        downloads.ensure(ModelEntry("m", "M", sources), Recorder())
    for words in ("/absent answered 404", "does not exist", "/no/where.gguf"):
        assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_repository_with_a_quantisation_needs_no_prefix(tmp_path: Path) -> None:
    assert models.resolve("org/repo-GGUF:Q8_0").entry.id == "hf:org/repo-GGUF:Q8_0"
    (tmp_path / "org").mkdir()
    (tmp_path / "org/repo:Q8_0").write_bytes(b"GGUF")
    assert models.resolve("org/repo:Q8_0").path == tmp_path / "org/repo:Q8_0"


def test_a_bare_url_says_how_to_use_it() -> None:
    with pytest.raises(UsageError, match=r"https://a\.b/x\.gguf$") as caught:
        models.resolve("https://a.b/x.gguf?signature=secret")
    assert "register" in caught.value.hint


def test_a_model_is_not_removed_while_it_is_downloaded(web: Web) -> None:
    entry = catalog.register("far", url=web.serve("/x.gguf", DATA))

    def remove(done: int) -> None:
        with pytest.raises(Conflict, match="right now"):
            models.remove("far")

    progress = Recorder(remove)
    assert downloads.ensure(entry, progress).read_bytes() == DATA
    assert progress.moves
