"""Read the HTML that notebooks show for an object: harmless elements, all closed."""

import re
from html.parser import HTMLParser


class Elements(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def read_html(html: str) -> str:
    """Return the text of the HTML of an object; it has only harmless elements, all closed."""
    found = Elements(html)
    assert not found.open
    assert found.tags <= {"div", "details", "summary", "pre"}
    assert found.attributes <= {"class", "style"}
    assert all(c.isprintable() or c == "\n" for c in html)
    # The colours are those of the page, whatever its theme.
    assert not re.search(r"color:(?!inherit)|background:(?!none)", html)
    return found.text
