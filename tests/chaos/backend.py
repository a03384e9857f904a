"""A slow backend: what it answers is a function of the question."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass
from typing import Any

from tests.answering import AnsweringBackend, delta, query
from tests.scripted_backend import CHUNKED, END, Exchange, head

#: Every so many questions one has an answer of several messages.
_LONG_EVERY, _LONG_FIRST = 20, 7
#: Characters of an answer.
_SHORT, _LONG = (80, 1_500), (12_500, 30_000)
#: Seconds that an answer takes, and the pieces that it comes in.
_SECONDS, _PIECES = (0.3, 6.0), (3, 12)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the backend says, and how."""

    pieces: tuple[str, ...]
    pauses: tuple[float, ...]  #: seconds before each piece

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def question(seed: int, number: int) -> str:
    """Return the words of a question; the answer depends on nothing else."""
    return f"question {number} of storm {seed}"


def answer_to(words: str) -> Answer:
    """Draw the answer; every paragraph of it names the question and differs from all others."""
    chance = random.Random(words)
    number = int(words.split()[1])
    is_long = number % _LONG_EVERY == _LONG_FIRST
    size = chance.randint(*(_LONG if is_long else _SHORT))
    text = _text(chance, words, size, has_code=not is_long)
    cuts = sorted(chance.sample(range(1, len(text)), chance.randint(*_PIECES) - 1))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    shares = [chance.random() for _ in pieces]
    seconds = chance.uniform(*_SECONDS)
    return Answer(tuple(pieces), tuple(seconds * share / sum(shares) for share in shares))


def _text(chance: random.Random, words: str, size: int, *, has_code: bool) -> str:
    """Return Markdown; without code, no fence has to be mended where a part is cut off."""
    blocks = [f"## About {words}"]
    while sum(map(len, blocks)) < size:
        blocks.append(_block(chance, f"{words}, paragraph {len(blocks)}", has_code=has_code))
    return "\n\n".join(blocks)


def _block(chance: random.Random, name: str, *, has_code: bool) -> str:
    kind = chance.choice(["prose", "prose", "list", "quote", "code" if has_code else "prose"])
    sentences = [f"{_sentence(chance)} & <{number}>" for number in range(chance.randint(1, 4))]
    match kind:
        case "list":
            return "\n".join([f"**{name}:**", "", *(f"- {line}" for line in sentences)])
        case "quote":
            return "\n".join(f"> {line}" for line in [name, *sentences])
        case "code":
            return "\n".join(["```", name, *sentences, "```"])
        case _:
            return f"_{name}:_ {' '.join(sentences)}"


def _sentence(chance: random.Random) -> str:
    return " ".join(f"w{chance.randrange(10_000)}" for _ in range(chance.randint(4, 16))) + "."


class Backend(AnsweringBackend):
    """Streams the answers, each as slowly as it was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = threading.Event()
        self.fall_back(self._play_out)

    def __exit__(self, *ended: Any) -> None:
        self._closing.set()
        super().__exit__(*ended)

    def _play_out(self, exchange: Exchange) -> None:
        answer = answer_to(query(exchange.request))
        exchange.send(head(CHUNKED))
        for piece, pause in zip(answer.pieces, answer.pauses, strict=True):
            self._closing.wait(pause)
            exchange.send_chunk(delta(piece))
        exchange.send_chunk(END)
        exchange.end_chunks()
