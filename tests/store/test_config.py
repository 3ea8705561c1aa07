from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llorch.errors import UsageError
from llorch.store.config import load_config

if TYPE_CHECKING:
    from pathlib import Path


def test_without_a_file_every_section_is_empty() -> None:
    config = load_config()
    assert config.path is None
    assert config.section("infer") == {}


def test_settings_get_underscores_and_sections_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "llorch.toml").write_text(
        '[infer]\nmax-tokens = 7\n[serve-worker]\nmodel = "x"\n'
        "[pool.worker.stop-all]\ngrace-s = 2\n"
    )
    config = load_config()
    assert config.section("infer") == {"max_tokens": 7}
    assert config.section("serve-worker") == {"model": "x"}
    assert config.section("pool") == {"worker": {"stop-all": {"grace_s": 2}}}


def test_the_nearest_file_wins(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [home / "config/llorch.toml", tmp_path / "llorch.toml", tmp_path / "v", tmp_path / "e"]
    for number, place in enumerate(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"[infer]\nseed = {number}\n")
    monkeypatch.setenv("LLORCH_CONFIG", str(places[2]))
    assert load_config(places[3]).section("infer") == {"seed": 3}
    assert load_config().section("infer") == {"seed": 2}
    monkeypatch.delenv("LLORCH_CONFIG")
    assert load_config().section("infer") == {"seed": 1}
    places[1].unlink()
    assert load_config().section("infer") == {"seed": 0}


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("[infer]\nseed = = 2\n", 2, "infer"),
        ("[infer]\nseed = 'x", 2, ""),
        ("[infer]\nseed = 1\n\n[infre]\nseed = 2\n", 4, "infre"),
        ("[pool.worker]\n[serve-worker.a]\n[orchestrator.x]\n", 3, "orchestrator"),
        ("model = 'x'\n[infer]\n", 1, "outside a section"),
        ("infer = 3\n", 1, "outside a section"),
        ("[infer]\n# \udce9\n", 2, "UTF-8"),
    ],
)
def test_a_fault_is_told_with_file_and_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = tmp_path / "llorch.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_misspelt_section_is_set_right(tmp_path: Path) -> None:
    (tmp_path / "llorch.toml").write_text("[serve_worker]\nslots = 2\n")
    with pytest.raises(UsageError) as caught:
        load_config()
    assert caught.value.hint == "did you mean [serve-worker]?"


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="absent") as caught:
        load_config(tmp_path / "absent")
    assert "--config" in caught.value.hint
    monkeypatch.setenv("LLORCH_CONFIG", str(tmp_path / "absent"))
    with pytest.raises(UsageError) as caught:
        load_config()
    assert "LLORCH_CONFIG" in caught.value.hint
