"""Render the pages of the documentation as HTML, and search them.

Raw HTML in a page is shown as text. A link leads to another page, to a part of a page, or to http: or https:; any other
link is shown without its target.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from provisioner.faces.page.topics import source_of, topics

#: Maximum number of sections that a search shows, and of words that it looks for.
HITS, WORDS = 30, 8
#: Number of characters around the first word that was found.
BEFORE, AFTER = 60, 160


@dataclass(frozen=True)
class Section:
    """A heading of a page, and the text from there to the next heading."""

    level: int
    heading: str
    #: The id of the heading in the HTML; the same as GitHub's.
    anchor: str
    text: str


@dataclass(frozen=True)
class Document:
    topic: str
    title: str
    html: Markup
    #: The first section has the page's title, and the text up to the next heading.
    sections: tuple[Section, ...]

    @property
    def summary(self) -> str:
        """What the page is about: the names of its parts, or its beginning."""
        parts = [section.heading for section in self.sections if section.level == 2]
        return " · ".join(parts) or (self.sections[0].text if self.sections else "")


@dataclass(frozen=True)
class Hit:
    """A section that has all words of a search."""

    document: Document
    section: Section
    #: Pieces of its text; those at odd indices are words that were searched.
    excerpt: tuple[str, ...]


@functools.cache
def document(topic: str) -> Document:
    """Return a page as HTML; raises NotFound."""
    return rendered(topic, source_of(topic))


def rendered(topic: str, text: str) -> Document:
    """Return the page with this Markdown as HTML."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    # A wide table scrolls in a box of its own, also with keys.
    markdown.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = markdown.parse(text)
    sections = tuple(_sections(tokens))
    for each in tokens:
        _adapt(each)
        _lead(each.children or ())
    # The only text that templates do not escape: it is escaped already, because `html` is off.
    html = Markup(markdown.renderer.render(tokens, markdown.options, {}))
    return Document(topic, sections[0].heading if sections else topic, html, sections)


def _sections(tokens: Sequence[Token]) -> Iterator[Section]:
    """Yield the sections, and set the id of each heading's token."""
    used, level, heading, anchor, text = Counter[str](), 0, "", "", list[str]()
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            if level:
                yield Section(level, heading, anchor, " ".join(text))
            level, heading, text = int(token.tag[1:]), _words(tokens[at + 1]), []
            anchor = _slug(heading)
            used[anchor] += 1
            anchor = f"{anchor}-{used[anchor] - 1}" if used[anchor] > 1 else anchor
            token.attrSet("id", anchor)
        elif token.type in ("inline", "fence", "code_block") and tokens[at - 1].type != "heading_open":
            text.append(_words(token))
    if level:
        yield Section(level, heading, anchor, " ".join(text))


def _words(token: Token) -> str:
    """Return the text of a token without its markup, in one line."""
    parts = (
        [token.content]
        if token.children is None
        else [" " if each.type == "softbreak" else each.content for each in token.children]
    )
    return " ".join("".join(parts).split())


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _adapt(token: Token) -> None:
    """Replace inline styles by classes, which the Content-Security-Policy allows."""
    if style := token.attrs.pop("style", ""):
        token.attrSet("class", f"align-{str(style).rpartition(':')[2]}")
    if token.type in ("fence", "code_block"):
        token.info = ""
        token.attrs |= {"class": "code"}


def _lead(tokens: Sequence[Token]) -> None:
    """Turn links and pictures into addresses of the page."""
    for token in tokens:
        if token.type == "image":
            name = PurePosixPath(str(token.attrs["src"])).name
            token.attrSet("src", f"/docs/pictures/{name}")
        elif token.type == "link_open":
            href = _address(str(token.attrs["href"]))
            token.attrs = {"href": href} if href else {}
            if href.startswith("http"):
                token.attrSet("rel", "noreferrer noopener")


def _address(href: str) -> str:
    """Return the address on the page that a link of a document means, or "" if the page does not have it."""
    if href.startswith(("http://", "https://", "#")):
        return href
    found = re.fullmatch(r"([\w-]+)\.md(#[\w-]*)?", href)
    return f"/docs/{found[1]}{found[2] or ''}" if found and found[1] in topics() else ""


def search(words: str) -> list[Hit]:
    """Return the sections with all words, in any order and case; those with the words in their headings come first."""
    wanted = [re.escape(word) for word in dict.fromkeys(words.casefold().split())][:WORDS]
    if not wanted:
        return []
    found: list[tuple[int, Hit]] = []
    for page in map(document, topics()):
        for section in page.sections:
            headings, text = f"{page.title} {section.heading}", section.text
            if all(re.search(word, f"{headings} {text}", re.IGNORECASE) for word in wanted):
                above = sum(bool(re.search(word, headings, re.IGNORECASE)) for word in wanted)
                found.append((above, Hit(page, section, _excerpt(text, "|".join(wanted)))))
    found.sort(key=lambda each: -each[0])
    return [hit for _, hit in found[:HITS]]


def _excerpt(text: str, pattern: str) -> tuple[str, ...]:
    first = re.search(pattern, text, re.IGNORECASE)
    at = max(0, first.start() - BEFORE if first else 0)
    if at:
        at = text.find(" ", at) + 1
    end = at + BEFORE + AFTER
    # Whole words only.
    end = len(text) if end >= len(text) else max(text.rfind(" ", at, end), at)
    piece = ("… " if at else "") + text[at:end] + (" …" if len(text) > end else "")
    return tuple(re.split(f"({pattern})", piece, flags=re.IGNORECASE))
