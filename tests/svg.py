"""What pictures of the project have in common.

No background, and colours of middling lightness that can be read on white and on near black: a
picture in a page does not know which of the two the page has.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

#: Pixels.
WIDTH = 860
TEXT = "#7a828c"
_FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"


def words(
    left: float,
    top: float,
    text: str,
    *,
    colour: str = TEXT,
    size: int = 13,
    anchor: str = "start",
    is_strong: bool = False,
) -> str:
    """Return a line of text."""
    weight = ' font-weight="600"' if is_strong else ""
    return (
        f'<text x="{left:.1f}" y="{top:.1f}" fill="{colour}" font-size="{size}"{weight} '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def document(height: float, content: Iterable[str]) -> str:
    """Return the whole picture."""
    body = "\n".join(piece for piece in content if piece)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="{_FONT}" role="img">\n{body}\n</svg>\n'
    )
