from __future__ import annotations

import pytest

from llorch.errors import UsageError
from llorch.store.entries import HuggingFace, describe
from llorch.store.hub_reference import (
    choose_file,
    is_hub_reference,
    parse_hub_reference,
    parts_of,
)


@pytest.mark.parametrize(
    "text, source",
    [
        ("hf:org/repo", HuggingFace("org/repo")),
        ("hf://org/repo", HuggingFace("org/repo")),
        ("hf.co/org/repo:q4_0", HuggingFace("org/repo", "q4_0")),
        ("huggingface.co/org/repo", HuggingFace("org/repo")),
        ("https://huggingface.co/org/repo/", HuggingFace("org/repo")),
        ("hf:org/repo:x.gguf", HuggingFace("org/repo", "x.gguf")),
        ("hf:org/repo:sub/x.gguf", HuggingFace("org/repo", "sub/x.gguf")),
        ("hf:org/repo@v1:Q8_0", HuggingFace("org/repo", "Q8_0", "v1")),
        ("hf:org/repo@refs/pr/1", HuggingFace("org/repo", "", "refs/pr/1")),
        ("hf:org/repo@v1::file=x.gguf", HuggingFace("org/repo", "x.gguf", "v1")),
        (
            "https://hf.co/org/repo/blob/main/a/x.gguf?download=true",
            HuggingFace("org/repo", "a/x.gguf"),
        ),
        ("hf:o-1/R.2_x:Q4_K_M", HuggingFace("o-1/R.2_x", "Q4_K_M")),
    ],
)
def test_every_way_of_writing_is_understood(text: str, source: HuggingFace) -> None:
    assert is_hub_reference(text)
    assert parse_hub_reference(text) == source
    assert parse_hub_reference(describe(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:org",
        "hf:org/",
        "hf:../..",
        "hf:org/repo:../x.gguf",
        "hf:org/repo@../../x",
        "hf:org/repo:a/b",
        "hf:a/b/c",
        "hf:org/repo:x.gguf:y",
        "hf:o r/repo",
        "https://hf.co/org/repo/blob/main/%2e%2e/x.gguf",
    ],
)
def test_a_malformed_reference_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hub_reference(text)
    assert "hf:org/repo" in caught.value.hint


def test_other_words_are_no_hub_reference() -> None:
    for word in ("smollm2-135m", "./hf.gguf", "/hf:x", "hfx:a/b"):
        assert not is_hub_reference(word)


FILES = ["README.md", "mmproj-Q4_K_M.gguf", "b-Q8_0.gguf", "b-Q4_K_M.gguf", "a-iq4_nl.gguf"]


@pytest.mark.parametrize(
    "files, wanted, chosen",
    [
        (FILES, "", "b-Q4_K_M.gguf"),
        (FILES, "q8_0", "b-Q8_0.gguf"),
        (FILES, "IQ4_NL", "a-iq4_nl.gguf"),
        (FILES, "Q4", None),
        (FILES, "Q5_K_M", None),
        (["b-Q8_0.gguf", "a-Q6_K.gguf"], "", "a-Q6_K.gguf"),
        (["README.md", "mmproj-x.gguf"], "", None),
        (["m.Q4_K_M.gguf", "n-Q4_K_M_L.gguf"], "Q4_K_M", "m.Q4_K_M.gguf"),
        (
            ["Q8_0/m-00002-of-00002.gguf", "Q8_0/m-00001-of-00002.gguf"],
            "q8_0",
            "Q8_0/m-00001-of-00002.gguf",
        ),
    ],
)
def test_the_file_is_chosen_by_quantisation(
    files: list[str], wanted: str, chosen: str | None
) -> None:
    assert choose_file(files, wanted) == chosen


def test_split_files_are_one_model() -> None:
    assert parts_of("x.gguf") == ("x.gguf",)
    assert parts_of("a/x-00001-of-00002.gguf") == (
        "a/x-00001-of-00002.gguf",
        "a/x-00002-of-00002.gguf",
    )
