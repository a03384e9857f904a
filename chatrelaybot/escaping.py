"""Making a text harmless to Slack, so that nothing a backend writes becomes a live token. Pure.

Slack reads `<!channel>`, `<@U…>`, `<#C…>` and `<url|label>` in `markdown` blocks too, and decodes
just three entities, `&lt;`, `&gt;` and `&amp;`:
https://docs.slack.dev/messaging/formatting-message-text/#escaping. Every other `&` stays as it is:
escaped, it would break the query strings of links.
"""

from __future__ import annotations

import re

_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_CHARACTERS = {entity: character for character, entity in _ENTITIES.items()}

# The group takes the markers of a block quote, which stay.
_ESCAPED = re.compile(r"(^[ >]+)|[<>]|&(?=(?:lt|gt|amp);)", re.MULTILINE)
_ENTITY = re.compile(r"&(?:lt|gt|amp);")

# Control characters of no use in a message; Slack may refuse a payload over them.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONE_RETURN = re.compile(r"\r(?!\n)")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

# An end of which only the next characters say what it is: half of a surrogate pair, of a line
# break, of an entity.
_UNDECIDED = re.compile(r"(?:[\ud800-\udbff]|\r|&(?:a(?:mp?)?|[lg]t?)?)\Z")


def escape(text: str) -> str:
    """Return a text that Slack shows as `text`, with its block quotes still quotes."""
    return _ESCAPED.sub(lambda match: match[1] or _ENTITIES[match[0]], text)


def escape_all(text: str) -> str:
    """Return a text that Slack shows as `text` where there is no Markdown, as in `text` fields."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    """Return what `escape` made the text of."""
    return _ENTITY.sub(lambda match: _CHARACTERS[match[0]], text)


class Escaper:
    """Cleans and escapes a text that arrives in pieces, wherever the pieces were cut.

    Control characters except tab and line breaks are dropped, a carriage return of its own becomes
    a line feed, and half a surrogate pair becomes U+FFFD: JSON could not be sent as UTF-8 with it.
    """

    def __init__(self) -> None:
        self._held = ""
        self._is_line_start = True  # nothing but block quote markers on this line so far

    @property
    def has_ink(self) -> bool:
        """Whether something other than white space is held until more arrives."""
        return bool(self._held.strip())

    def feed(self, text: str) -> str:
        """Return what can be said of the text so far, beyond what was returned before."""
        text = self._held + _CONTROLS.sub("", text)
        undecided = _UNDECIDED.search(text)
        end = undecided.start() if undecided else len(text)
        self._held = text[end:]
        return self._escape(_mend(text[:end]))

    def flush(self) -> str:
        """Return what is held: no more text will come."""
        text, self._held = self._held, ""
        return self._escape(_mend(text))

    def _escape(self, text: str) -> str:
        # Behind a character of some other kind, the text does not look like the start of a line.
        before = "" if self._is_line_start else "."
        _, line_break, line = text.rpartition("\n")
        is_quote_so_far = not line.strip(" >")
        self._is_line_start = is_quote_so_far and (self._is_line_start or bool(line_break))
        return escape(before + text)[len(before) :]


def _mend(text: str) -> str:
    text = _LONE_RETURN.sub("\n", text)
    if _SURROGATE.search(text):
        # A pair that was decoded half by half, as from two JSON strings, is one character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
