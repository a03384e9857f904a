"""Writes a manifest as YAML: maps, lists, printable texts and booleans are all there is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

#: What is surely no number, boolean, or anything else than text without quotes.
_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null|y|n)\Z)[a-z][a-z_]*(?:[.:][a-z_]+)*")


def write(value: Mapping[str, object], *, remarks: Mapping[str, str]) -> str:
    """Return a map as YAML; an item of a list that has a remark is followed by it."""
    return "".join(f"{line}\n" for line in _map(value, remarks))


def _map(value: Mapping[str, object], remarks: Mapping[str, str]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield f"{key}:"
            yield from (f"  {line}" for line in _map(inner, remarks))
        elif isinstance(inner, list):
            yield f"{key}:"
            yield from (f"  {line}" for line in _list(inner, remarks))
        else:
            yield f"{key}: {_scalar(inner)}"


def _list(items: Sequence[object], remarks: Mapping[str, str]) -> Iterator[str]:
    texts = [_scalar(item) for item in items]
    width = max(map(len, texts), default=0)
    for text in texts:
        remark = remarks.get(text)
        yield f"- {text.ljust(width)}  # {remark}" if remark else f"- {text}"


def _scalar(value: object) -> str:
    """Return a text or a boolean; a text of JSON is one of YAML where all of it is printable."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
