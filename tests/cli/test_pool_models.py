"""`llorch pool models` on files of this machine; downloads themselves are the store's tests."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.cli.terminal import in_terminal


@pytest.fixture
def model(tmp_path):
    """A file that looks like a model to the catalog, which does not open it."""
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF" + bytes(1000))
    return path


def test_the_catalog_lists_the_built_in_models(cli):
    ran = cli("pool", "models", "catalog")
    assert ran.returncode == 0
    assert ran.stdout.startswith("ID ")
    for model in ("smollm2-135m", "qwen-0.5b", "tinyllama", "phi3", "mistral"):
        assert f"\n{model} " in ran.stdout


def test_the_catalog_fits_a_terminal_of_80_columns(cli):
    for line in in_terminal(cli, "pool", "models", "catalog").splitlines():
        assert len(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 80


def test_the_catalog_in_json_has_sources(cli):
    entries = json.loads(cli("pool", "models", "catalog", "--json").stdout)
    first = next(entry for entry in entries if entry["id"] == "smollm2-135m")
    assert first["sources"][0]["kind"] == "pypi"
    assert first["downloaded"] is False


def test_a_registered_file_is_listed_used_in_place_and_forgotten(cli, model):
    ran = cli("pool", "models", "register", "mine", "--path", str(model))
    assert (ran.returncode, ran.stdout) == (0, "mine  registered\n")
    (found,) = json.loads(cli("pool", "models", "list", "--json").stdout)
    assert (found["id"], found["path"], found["owned"]) == ("mine", str(model), False)
    assert "mine" in cli("pool", "models", "list").stdout
    assert cli("pool", "models", "download", "mine").stdout == f"mine  {model}\n"
    assert cli("pool", "models", "unregister", "mine").stdout == "mine  unregistered\n"
    assert model.exists()
    assert json.loads(cli("pool", "models", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    "flags",
    [[], ["--path", "x", "--url", "https://e.org/x"], ["--file", "x.gguf"], ["--repo", "x"]],
)
def test_a_registration_needs_exactly_one_good_source(cli, flags):
    ran = cli("pool", "models", "register", "mine", *flags)
    assert ran.returncode in {1, 2}
    assert ran.stderr.startswith("Error: ")
    assert "Traceback" not in ran.stderr


def test_an_id_is_taken_only_once(cli, model):
    cli("pool", "models", "register", "mine", "--path", str(model))
    ran = cli("pool", "models", "register", "mine", "--path", str(model))
    assert ran.returncode == 1
    assert "mine" in ran.stderr


def test_verify_tells_good_from_damaged_by_words_and_exit_code(cli, model):
    good = hashlib.sha256(model.read_bytes()).hexdigest()
    for name, sha256 in (("good", good), ("bad", "0" * 64)):
        flags = ["--path", str(model), "--sha256", sha256]
        assert cli("pool", "models", "register", name, *flags).returncode == 0
    ran = cli("pool", "models", "verify", "good")
    assert (ran.returncode, ran.stdout) == (0, "good  ok\n")
    ran = cli("pool", "models", "verify", "--all")
    assert ran.returncode == 1
    assert "bad  DAMAGED" in ran.stdout
    assert "Error: damaged: bad" in ran.stderr
    ran = cli("pool", "models", "verify", "bad", "--json")
    assert json.loads(ran.stdout)[0]["verdict"] == "damaged"


def test_a_bar_is_drawn_on_a_terminal(cli, model):
    cli("pool", "models", "register", "mine", "--path", str(model))
    shown = in_terminal(cli, "pool", "models", "verify", "mine")
    assert "1.0/1.0 kB" in shown
    assert "━" in shown


def test_verify_of_a_model_that_is_not_here_says_how_to_get_it(cli):
    ran = cli("pool", "models", "verify", "tinyllama")
    assert ran.returncode == 1
    assert "llorch pool models download tinyllama" in ran.stderr


@pytest.mark.parametrize("arguments", [[], ["a", "--all"]])
def test_verify_needs_ids_or_all(cli, arguments):
    assert cli("pool", "models", "verify", *arguments).returncode == 2


def test_remove_asks_on_a_terminal_and_refuses_without_one(cli):
    ran = cli("pool", "models", "remove", "tinyllama")
    assert ran.returncode == 2
    assert "--yes" in ran.stderr
    ran = cli("pool", "models", "remove", "tinyllama", "--yes")
    assert ran.returncode == 1
    assert ran.stderr.startswith("Error: ")


def test_a_file_of_the_users_own_is_never_removed(cli, model):
    cli("pool", "models", "register", "mine", "--path", str(model))
    assert cli("pool", "models", "remove", "mine", "--yes").returncode == 2
    assert model.exists()


@pytest.mark.parametrize("command", ["download", "unregister", "verify"])
def test_an_unknown_model_is_told_with_near_names(cli, command):
    ran = cli("pool", "models", command, "smollm2-135")
    assert ran.returncode == 1
    assert "smollm2-135m" in ran.stderr


def test_nobody_is_asked_to_confirm_a_model_that_does_not_exist(cli):
    refused = cli("pool", "models", "remove", "nosuch")
    assert refused.returncode == 1
    assert "no model 'nosuch'" in refused.stderr
