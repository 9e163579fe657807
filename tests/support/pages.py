"""A page as a flat list of its elements, every tag closed."""

from __future__ import annotations

import html.parser
from dataclasses import dataclass, field
from pathlib import Path

VOID = {"meta", "link", "img", "input", "br", "hr"}


@dataclass(eq=False)
class Element:
    """One element of a page: its tag, its attributes, all text inside it."""

    tag: str
    attributes: dict[str, str]
    parents: tuple[Element, ...] = field(repr=False)
    data: list[str] = field(default_factory=list, repr=False)

    @property
    def text(self) -> str:
        return "".join(self.data)

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


@dataclass
class Page(html.parser.HTMLParser):
    """A page as a flat list of its elements."""

    elements: list[Element] = field(default_factory=list, repr=False)
    open_ones: list[Element] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(self.open_ones))
        self.elements.append(element)
        if tag not in VOID:
            self.open_ones.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_ones, f"</{tag}> closes nothing"
        assert self.open_ones[-1].tag == tag, f"</{tag}> closes <{self.open_ones[-1].tag}>"
        self.open_ones.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open_ones:
            element.data.append(data)

    def select(self, tag: str = "", class_: str = "", within: Element | None = None) -> list[Element]:
        return [
            element
            for element in self.elements
            if (not tag or element.tag == tag)
            and (not class_ or class_ in element.classes)
            and (within is None or within in element.parents)
        ]

    @property
    def text(self) -> str:
        return self.elements[0].text

    @property
    def ids(self) -> list[str]:
        return [element.attributes["id"] for element in self.elements if "id" in element.attributes]


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert not page.open_ones, f"{path.name}: <{page.open_ones[-1].tag}> is never closed"
    return page
