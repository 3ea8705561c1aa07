from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llorch.errors import ChecksumMismatch, DownloadFailed, NoSpace
from llorch.store import downloads, hub_cache, models, space
from llorch.store.entries import HuggingFace, ModelEntry
from tests.store.hub import COMMIT, Hub, blob_path
from tests.store.processes import kill, start
from tests.store.recorder import Cancelled, Recorder
from tests.store.web import Fault, sha256

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.urandom(2_000_000)
REPO = "org/Model-GGUF"


def entry_of(file: str, revision: str = "main", **known: object) -> ModelEntry:
    source = HuggingFace(REPO, file, revision)
    return ModelEntry("m", "M", (source,), **known)  # type: ignore[arg-type]


def fetch(word: str, progress: Recorder | None = None) -> Path:
    return models.fetch(models.resolve(word), progress or Recorder())


def test_a_file_arrives_in_the_standard_cache(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, "m-Q4_K_M.gguf", DATA)
    progress = Recorder()
    path = fetch(f"hf:{REPO}:m-Q4_K_M.gguf", progress)
    folder = tmp_path / "hf/hub/models--org--Model-GGUF"
    assert path == folder / "snapshots" / COMMIT / "m-Q4_K_M.gguf"
    assert path.resolve() == folder / "blobs" / sha256(DATA)
    assert (folder / "refs/main").read_text() == COMMIT
    assert path.read_bytes() == DATA
    assert progress.stretches == [(f"hf:{REPO}:m-Q4_K_M.gguf", len(DATA))]
    assert progress.done == len(DATA)
    assert [p.name for p in (folder / "blobs").iterdir()] == [sha256(DATA)]


def test_the_librarys_own_reader_finds_it(hub: Hub) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    hub.add(REPO, "m.gguf", DATA)
    path = fetch(f"hf:{REPO}:m.gguf")
    cache = hub_cache.cache_folder()
    assert try_to_load_from_cache(REPO, "m.gguf", cache_dir=cache) == str(path)
    assert [repo.repo_id for repo in scan_cache_dir(cache).repos] == [REPO]


def test_what_is_cached_needs_no_network(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    path = fetch(f"hf:{REPO}:m.gguf")
    asked = len(hub.requests)
    assert fetch(f"hf:{REPO}:m.gguf") == path
    assert models.resolve(f"hf:{REPO}:m.gguf").path == path
    assert len(hub.requests) == asked


def test_a_cut_transfer_is_taken_up_again_in_the_same_run(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    hub.cdn.faults[blob_path(DATA)] = [Fault(cut_after=700_000)]
    assert fetch(f"hf:{REPO}:m.gguf").read_bytes() == DATA
    assert hub.cdn.gets(blob_path(DATA))[1].headers["range"] == "bytes=700000-"


def test_a_killed_download_goes_on_in_a_later_run(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, "m.gguf", DATA)
    hub.cdn.faults[blob_path(DATA)] = [Fault(stall_after=700_000)]
    code = (
        "from llorch.store import models; from llorch.store.progress import Quiet\n"
        "models.fetch(models.resolve(sys.argv[1]), Quiet())"
    )
    child = start(code, f"hf:{REPO}:m.gguf")
    assert hub.cdn.stalled.wait(60)
    begun = tmp_path / f"hf/hub/models--org--Model-GGUF/blobs/{sha256(DATA)}.incomplete"
    from tests.store.processes import until

    until(lambda: begun.exists() and begun.stat().st_size >= 500_000)
    kill(child)
    assert models.resolve(f"hf:{REPO}:m.gguf").path is None
    assert fetch(f"hf:{REPO}:m.gguf").read_bytes() == DATA
    assert hub.cdn.gets(blob_path(DATA))[1].headers["range"].startswith("bytes=")
    assert not begun.exists()


def test_a_cancelled_download_leaves_no_file_under_the_final_name(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)

    def cancel(done: int) -> None:
        if done > 500_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch(f"hf:{REPO}:m.gguf", Recorder(cancel))
    assert models.resolve(f"hf:{REPO}:m.gguf").path is None


def test_corrupted_bytes_are_found_and_fetched_anew(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    hub.cdn.faults[blob_path(DATA)] = [Fault(corrupt=True)]
    with pytest.raises(ChecksumMismatch, match=sha256(DATA)):
        fetch(f"hf:{REPO}:m.gguf")
    assert models.resolve(f"hf:{REPO}:m.gguf").path is None
    assert fetch(f"hf:{REPO}:m.gguf").read_bytes() == DATA


def test_a_file_other_than_the_catalogs_is_refused_before_it_is_fetched(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    with pytest.raises(ChecksumMismatch, match="now another file"):
        downloads.ensure(entry_of("m.gguf", sha256="0" * 64), Recorder())
    assert not hub.cdn.requests


def test_an_etag_that_leaves_the_cache_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, "m.gguf", DATA)
    hub.etag = "../../../escaped"
    with pytest.raises(DownloadFailed, match="no usable ETag"):
        fetch(f"hf:{REPO}:m.gguf")
    assert not hub.cdn.requests


def test_a_gated_model_says_what_it_needs(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "m.gguf", DATA, key="hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DownloadFailed, match="gated") as caught:
        fetch(f"hf:{REPO}:m.gguf")
    assert "licence" in caught.value.hint
    assert "HF_TOKEN" in caught.value.hint
    assert "hf_wrong" not in caught.value.message + caught.value.hint


def test_a_login_opens_a_gated_model_and_never_reaches_the_content_network(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, "m.gguf", DATA, key="hf_secret")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(f"hf:{REPO}:m.gguf").read_bytes() == DATA
    assert all("authorization" not in request.headers for request in hub.cdn.requests)


def test_a_saved_login_is_used(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPO, "m.gguf", DATA, key="hf_secret")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text("hf_secret\n")
    assert fetch(f"hf:{REPO}:m.gguf").read_bytes() == DATA


@pytest.mark.parametrize(
    "word, words",
    [
        ("hf:org/absent:m.gguf", "does not exist, or is private"),
        (f"hf:{REPO}:absent.gguf", "no such file"),
        (f"hf:{REPO}@v9:m.gguf", "no such revision"),
        (f"hf:{REPO}:Q5_K_M", "no Q5_K_M file"),
        ("hf:org/absent", "does not exist"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(hub: Hub, word: str, words: str) -> None:
    hub.add(REPO, "m.gguf", DATA)
    with pytest.raises(DownloadFailed, match=words) as caught:
        fetch(word)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_offline_and_not_cached_is_told_without_a_request(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        fetch(f"hf:{REPO}:m.gguf")
    assert not hub.requests


def test_offline_and_cached_works_for_an_open_choice_too(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, "m-Q8_0.gguf", DATA)
    path = fetch(f"hf:{REPO}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(f"hf:{REPO}") == path


def test_a_hub_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(DownloadFailed, match="not reached") as caught:
        fetch(f"hf:{REPO}:m.gguf")
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_quantisation_is_chosen_from_the_hubs_list(hub: Hub) -> None:
    for name in ("m-Q8_0.gguf", "m-Q4_K_M.gguf", "README.md"):
        hub.add(REPO, name, name.encode() * 1000)
    assert fetch(f"hf:{REPO}").name == "m-Q4_K_M.gguf"
    assert fetch(f"hf.co/{REPO}:q8_0").name == "m-Q8_0.gguf"


def test_all_parts_of_a_split_model_are_fetched(hub: Hub) -> None:
    for part in (1, 2, 3):
        hub.add(REPO, f"big-Q4_K_M-0000{part}-of-00003.gguf", os.urandom(100_000))
    path = fetch(f"hf:{REPO}:Q4_K_M")
    assert path.name == "big-Q4_K_M-00001-of-00003.gguf"
    assert len(list(path.parent.iterdir())) == 3
    [model] = models.installed()
    assert model.size_bytes == 300_000


def test_a_split_model_with_a_part_missing_is_not_here_yet(hub: Hub) -> None:
    for part in (1, 2):
        hub.add(REPO, f"big-0000{part}-of-00002.gguf", os.urandom(100_000))
    path = fetch(f"hf:{REPO}:big-00001-of-00002.gguf")
    (path.parent / "big-00002-of-00002.gguf").unlink()
    assert models.resolve(f"hf:{REPO}:big-00001-of-00002.gguf").path is None


def test_a_commit_can_be_named(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    path = downloads.ensure(entry_of("m.gguf", COMMIT), Recorder())
    assert path.read_bytes() == DATA
    assert downloads.local_parts(entry_of("m.gguf", COMMIT)) == (path,)


def test_too_little_space_for_a_hub_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "m.gguf", DATA)
    monkeypatch.setattr(space, "MARGIN_BYTES", 10**18)
    with pytest.raises(NoSpace, match="are needed"):
        fetch(f"hf:{REPO}:m.gguf")


def test_removing_takes_this_models_files_and_leaves_the_others(hub: Hub, tmp_path: Path) -> None:
    other = os.urandom(1000)
    hub.add(REPO, "m.gguf", DATA)
    hub.add(REPO, "other.gguf", other)
    kept = fetch(f"hf:{REPO}:other.gguf")
    fetch(f"hf:{REPO}:m.gguf")
    assert models.remove(f"hf:{REPO}:m.gguf") == len(DATA)
    assert kept.read_bytes() == other
    blobs = tmp_path / "hf/hub/models--org--Model-GGUF/blobs"
    assert [path.name for path in blobs.iterdir()] == [sha256(other)]
    assert models.remove(f"hf:{REPO}:other.gguf") == 1000
    assert not blobs.parent.exists()


def test_a_blob_that_another_revision_uses_stays(hub: Hub) -> None:
    hub.add(REPO, "m.gguf", DATA)
    path = fetch(f"hf:{REPO}:m.gguf")
    older = path.parent.with_name("f" * 40) / "m.gguf"
    older.parent.mkdir()
    older.symlink_to(path.readlink())
    assert models.remove(f"hf:{REPO}:m.gguf") == 0
    assert older.read_bytes() == DATA
    assert models.remove(f"hf:{REPO}@{'f' * 40}:m.gguf") == len(DATA)


def test_a_cache_that_cannot_be_written_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, "m.gguf", DATA)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    from llorch.errors import StoreFailed

    with pytest.raises(StoreFailed, match=str(tmp_path / "file")):
        fetch(f"hf:{REPO}:m.gguf")
