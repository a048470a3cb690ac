"""The documentation's pages as HTML, and the search in them."""

import re

import pytest

from provisioner.core.errors import NotFound
from provisioner.faces.page.documents import document, rendered, search
from provisioner.faces.page.topics import PAGES, picture, topics


@pytest.mark.parametrize("topic", topics())
def test_page_has_its_title_and_every_link_leads_somewhere(topic: str) -> None:
    page = document(topic)
    assert page.title == (PAGES / f"{topic}.md").read_text().splitlines()[0].removeprefix("# ").replace("`", "")
    for href in re.findall(r'<a href="([^"]*)"', page.html):
        if href.startswith("https://"):
            continue
        other, _, anchor = href.removeprefix("/docs/").partition("#")
        target = document(other) if other else page
        assert not anchor or anchor in {section.anchor for section in target.sections}, href
    for name in re.findall(r'<img src="/docs/pictures/([^"]*)"', page.html):
        assert picture(name).is_file()


@pytest.mark.parametrize("topic", topics())
def test_page_needs_no_inline_style_or_script(topic: str) -> None:
    assert not re.search(r"<(script|style|iframe|object|form)|<[^>]* (style|on\w+)=", document(topic).html)


def test_hostile_markdown_is_shown_as_text() -> None:
    text = (
        "# <b>T</b>\n\n<script>x()</script> [a](javascript:x()) [b](data:text/html,x) ![c](javascript:x())\n\n"
        '<img src=x onerror="x()">\n\n<svg onload=x()>\n\n[d](../../secret.md) [e](//evil.example) [f](/logout)\n'
    )
    html = rendered("hostile", text).html
    assert "<script" not in html
    assert "<svg" not in html
    assert not re.search(r'(href|src)="(?!/docs/)', html)
    assert not re.search(r"<[^>]* on\w+=", html)


def test_links_of_a_page_lead_to_pages() -> None:
    html = rendered("x", "# T\n\n[a](lists.md#output) [b](#part) [c](https://example.com/) [d](../../README.md)").html
    assert '<a href="/docs/lists#output">a</a>' in html
    assert '<a href="#part">b</a>' in html
    assert '<a href="https://example.com/" rel="noreferrer noopener">c</a>' in html
    assert "<a>d</a>" in html
    assert rendered("x", "[a](nothing.md)").html == "<p><a>a</a></p>\n"


def test_headings_have_the_ids_of_github() -> None:
    page = rendered("x", "# A `b`\n\n## What's new, in 2?\n\none\n\n## Other\n\n### What's new, in 2?\n\ntwo\n")
    assert [(each.level, each.anchor, each.text) for each in page.sections] == [
        (1, "a-b", ""),
        (2, "whats-new-in-2", "one"),
        (2, "other", ""),
        (3, "whats-new-in-2-1", "two"),
    ]
    assert '<h3 id="whats-new-in-2-1">' in page.html


def test_cells_are_aligned_by_classes() -> None:
    assert '<td class="align-right">1</td>' in rendered("x", "|a|\n|-:|\n|1|").html


def test_search_finds_sections_with_all_words() -> None:
    hits = search("Survivors KEEP")
    assert hits
    for hit in hits:
        whole = f"{hit.document.title} {hit.section.heading} {hit.section.text}".lower()
        assert "survivors" in whole
        assert "keep" in whole
    assert {word.lower() for hit in hits for word in hit.excerpt[1::2]} <= {"survivors", "keep"}
    assert search("no-such-word-anywhere") == search(" ") == []


def test_search_shows_sections_with_the_words_in_their_heading_first() -> None:
    assert search("reservations")[0].document.topic == "reservations"


def test_characters_of_regular_expressions_are_searched_as_they_are() -> None:
    assert search("(.*)+[") == []
    assert any("*/60" in hit.section.text for hit in search("*/60"))


def test_unknown_page_is_not_found_with_a_suggestion() -> None:
    with pytest.raises(NotFound, match=r"no page 'list'; did you mean lists\?"):
        document("list")
    for name in ("../access.md", "none.png", ""):
        with pytest.raises(NotFound):
            picture(name)
