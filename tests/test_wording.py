from __future__ import annotations

import re

import pytest

from chatrelaybot import wording
from chatrelaybot.errors import FailureKind


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("tell", [wording.no_answer, wording.incomplete])
def test_every_failure_has_honest_words_with_a_reference(kind: FailureKind, tell: object) -> None:
    assert callable(tell)
    words = tell(kind, reference="3f9a2c01")

    assert words.endswith("(reference 3f9a2c01)")
    assert not re.search(r"\d{3}|https?:|None", words.replace("3f9a2c01", "")), words
    assert re.search(r"[Aa]sk|[Tt]ell|put it", words), f"nothing the reader can do: {words}"


def test_an_incomplete_answer_is_called_incomplete() -> None:
    words = wording.incomplete(FailureKind.CUT, reference="3f9a2c01")

    assert words.startswith("This answer is incomplete: the connection")


def test_the_words_for_different_failures_differ() -> None:
    words = {wording.no_answer(kind, reference="x") for kind in FailureKind}

    assert len(words) == len(FailureKind)
