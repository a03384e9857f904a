"""The layers of the package, as one table, and the rules that hold between its modules."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TOP = Path(__file__).parent.parent
_PACKAGE = "chatrelaybot"

#: Each layer's modules, the lowest layer first. A word stands for the module or package of this
#: name and for modules that begin with it: `editor` is `editor.py` and `editor_queue.py`, too.
_LAYERS = {
    "words": ("errors", "events"),
    "pure": (
        "render",
        "escaping",
        "fences",
        "splitting",
        "healing",
        "inlines",
        "budget",
        "spread",
        "wording",
        "dialects",
    ),
    "doors": (
        "settings",
        "telemetry",
        "database",
        "delivery",
        "schema",
        "migrations",
        "statements",
        "turns",
        "fleet",
        "seen_links",
        "remembered_budget",
        "shared_budget",
        "inbox",
        "wire",
        "trust",
        "refusal",
        "sse",
        "backend",
        "slack",
        "link",
        "install",
        "web",
    ),
    "work": (
        "draft",
        "pacing",
        "strays",
        "company",
        "catch_up",
        "upkeep",
        "census",
        "sender",
        "conclusion",
        "editor",
        "relay",
        "workers",
        "listener",
    ),
    "shell": ("daemon", "doctor", "playground", "cli", "__main__"),
}
#: Outside libraries, and the words whose modules may import them.
_LIBRARIES = {
    "requests": ("backend", "slack", "link", "trust", "doctor"),
    "urllib3": ("backend", "wire", "slack"),
    "sseclient": ("sse",),
    "sqlalchemy": (
        "database",
        "schema",
        "migrations",
        "statements",
        "turns",
        "inbox",
        "fleet",
        "remembered_budget",
        "shared_budget",
        "seen_links",
    ),
    "alembic": ("schema", "migrations"),
    "slack_sdk": ("slack", "link"),
    "websocket": ("link",),
    "pydantic": ("settings",),
    "pydantic_core": ("settings",),
    "pydantic_settings": ("settings",),
    "waitress": ("web",),
    "opentelemetry": ("telemetry",),
    "prometheus_client": ("telemetry",),
    "dotenv": ("settings",),
    "aiohttp": ("playground",),
    "rich": ("playground",),
}
_THREADED = ("workers", "editor", "web", "daemon", "database", "playground")
#: What the two lowest layers leave to others: the world outside, its time, and chance.
_WORLD = (
    "asyncio",
    "concurrent",
    "datetime",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
)
_LONGEST_FILE = 350
_EMPTY_NAMES = ("utils", "util", "helpers", "helper", "common", "manager", "handler", "misc")

_SOURCES = {
    path.relative_to(_TOP).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((_TOP / _PACKAGE).rglob("*.py"))
}


def _word(module: str) -> str | None:
    """The table's word for `chatrelaybot.editor_queue` or `chatrelaybot.dialects.relay`."""
    name = module.split(".")[1] if "." in module else ""
    words = {word for words in _LAYERS.values() for word in words}
    return next((word for word in words if name == word or name.startswith(f"{word}_")), None)


def _layer(word: str) -> int:
    return next(number for number, words in enumerate(_LAYERS.values()) if word in words)


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of each import, those within functions and type checks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            if source == _PACKAGE:  # `from chatrelaybot import wording` names modules
                yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, source


def _objections(word: str, name: str) -> Iterator[str]:
    """What the rules say against a module of `word` importing `name`."""
    library = name.split(".")[0]
    layers = tuple(_LAYERS)
    if library == _PACKAGE:
        other = _word(name)
        if other and _layer(other) > _layer(word):
            yield f"{layers[_layer(word)]} may not import from {layers[_layer(other)]} above it"
        return
    if _layer(word) <= 1 and any(name == each or name.startswith(f"{each}.") for each in _WORLD):
        yield f"the layer {layers[_layer(word)]} touches nothing outside"
    if library == "threading" and word not in _THREADED:
        yield f"threads are for {', '.join(_THREADED)}"
    if library not in sys.stdlib_module_names and word not in _LIBRARIES.get(library, ()):
        yield f"its doors are: {', '.join(_LIBRARIES.get(library, ('none in the table',)))}"


def _violations(path: str, source: str) -> list[str]:
    """What is wrong with a file, one line for each thing."""
    module = _module(path)
    if module == _PACKAGE:
        return []
    if (word := _word(module)) is None:
        return [f"{path}: {module} stands in no layer of the table in {Path(__file__).name}"]
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    found = [
        f"{path}:{line}: import of {name}: {objection}"
        for line, name in _imports(ast.parse(source), package)
        for objection in _objections(word, name)
    ]
    if (length := len(source.splitlines())) > _LONGEST_FILE:
        found.append(f"{path}: {length} lines; more than {_LONGEST_FILE} are more than one idea")
    if set(re.split(r"[./_]", module)) & set(_EMPTY_NAMES):
        found.append(f"{path}: the name says nothing about what is in it")
    return found


@pytest.mark.parametrize("path", _SOURCES)
def test_a_file_keeps_the_rules(path: str) -> None:
    assert _violations(path, _SOURCES[path]) == []


def test_the_package_itself_imports_nothing() -> None:
    """Else every module would depend on what it imports."""
    tree = ast.parse(_SOURCES["chatrelaybot/__init__.py"])

    assert [name for _, name in _imports(tree, _PACKAGE)] == ["__future__"]


# --- the rules themselves -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("render.py", "import socket", "render.py:1: import of socket: the layer pure touches"),
        ("errors.py", "\nfrom time import sleep", "errors.py:2: import of time: the layer words"),
        ("budget.py", "from urllib.request import urlopen", "the layer pure"),
        ("dialects/relay.py", "import requests", "its doors are: backend, slack"),
        ("events.py", "from chatrelaybot.render import message", "words may not import from pure"),
        ("events.py", "from chatrelaybot import render", "words may not import from pure"),
        ("events.py", "from . import render", "words may not import from pure"),
        ("dialects/relay.py", "from ..slack import Slack", "pure may not import from doors"),
        ("dialects/__init__.py", "from ..slack import Slack", "pure may not import from doors"),
        ("slack_errors.py", "from chatrelaybot.relay import Relay", "doors may not import from"),
        ("editor_queue.py", "import chatrelaybot.daemon", "work may not import from shell"),
        ("inbox.py", "def f():\n    import chatrelaybot.cli", "inbox.py:2: import of"),
        ("inbox.py", "import threading", "threads are for"),
        ("relay.py", "import slack_sdk.web", "its doors are: slack, link"),
        ("slack.py", "import sqlalchemy", "its doors are: database"),
        ("cli.py", "import rich", "its doors are: playground"),
        ("cli.py", "import numpy", "its doors are: none in the table"),
        ("novel.py", "", "chatrelaybot.novel stands in no layer"),
        ("editor.py", "\n" * 351, "351 lines"),
        ("editor_helpers.py", "", "says nothing"),
        ("playground/common.py", "", "says nothing"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(path: str, source: str, words: str) -> None:
    (violation,) = _violations(f"chatrelaybot/{path}", source)

    assert violation.startswith(f"chatrelaybot/{path}:")
    assert words in violation


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("render.py", "import re\nfrom urllib.parse import quote"),
        ("editor.py", "import threading\nfrom chatrelaybot.slack import Slack"),
        ("relay.py", "from chatrelaybot.editor import Editor\nfrom chatrelaybot import errors"),
        ("dialects/__init__.py", "from .relay import Relay"),
        ("playground/sample.py", "import threading\nfrom aiohttp import web"),
        ("settings.py", "from pydantic_settings import BaseSettings"),
        ("cli.py", "from chatrelaybot import __version__"),
        ("editor.py", "\n" * 350),
    ],
)
def test_what_the_rules_allow_is_not_named(path: str, source: str) -> None:
    assert _violations(f"chatrelaybot/{path}", source) == []


def test_no_word_stands_for_two_layers() -> None:
    words = [word for words in _LAYERS.values() for word in words]

    assert len(words) == len(set(words))
    assert not [a for a in words for b in words if a.startswith(f"{b}_")]
