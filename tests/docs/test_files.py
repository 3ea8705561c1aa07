"""Files, links, pictures, systems and models that the pages name exist."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import llorch_refuse
import pytest

from llorch.store.builtin import BUILT_IN
from tests.docs.pages import (
    FENCE,
    PAGES,
    README,
    ROOT,
    coded,
    section,
)

PLACE = re.compile(r"(?:llorch|packaging|tests|bench|docs)(?:/[\w.*-]+)+/?")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_folder_that_is_named_exists(page):
    text = (ROOT / page).read_text()
    named = {code for code in coded(FENCE.sub("", text)) if PLACE.fullmatch(code)}
    named |= set(re.findall(r"(?:bench|packaging)/\w+\.(?:py|sh)", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as they are made where it is shown."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    for target in LINK.findall(text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = ROOT / path if path else ROOT / page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other.read_text()), target


def test_pictures_are_drawings_that_have_words_for_those_who_do_not_see_them():
    pictures = sorted((ROOT / "docs").glob("*.svg"))
    assert pictures
    for path in pictures:
        root = ET.fromstring(path.read_text())
        names = {child.tag.rpartition("}")[2] for child in root}
        assert {"title", "desc"} <= names
        assert "prefers-color-scheme: dark" in path.read_text()


def test_the_two_commands_stand_as_they_are_run():
    assert (
        './build_pyz.sh && python3 dist/llorch.pyz infer --prompt "The capital of France is"\n'
        "./check.sh\n"
    ) in README


def test_the_changelog_is_in_order():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    numbers = [tuple(map(int, v.split("."))) for v in versions[1:]]
    assert numbers == sorted(numbers, reverse=True)
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(kinds) <= allowed


def test_the_catalog_is_the_one_that_ships():
    for entry in BUILT_IN:
        assert re.search(
            rf"^{re.escape(entry.id)} .* {re.escape(entry.name)}$", README, re.MULTILINE
        )


def test_the_supported_systems_are_those_of_the_boot_code():
    text = section(README, "What one file contains")
    for _, minor in llorch_refuse.PYTHONS:
        assert f"3.{minor}" in text
    assert ".".join(map(str, llorch_refuse.GLIBC)) in text
    assert llorch_refuse.MACHINES == {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}
    for name in ("Linux x86-64", "Linux aarch64", "macOS"):
        assert name in text
