from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from chatrelaybot.dialects import (
    Decoder,
    Delta,
    Event,
    Failure,
    Finish,
    Outcome,
    dialect,
)
from chatrelaybot.errors import ConfigurationError, FailureKind, PermanentError
from chatrelaybot.events import Question

QUESTION = Question(
    event_id="Ev1",
    team_id="T1",
    channel="C1",
    user_id="U1",
    text="why?",
    ts="1700000000.000100",
    thread_ts="1700000000.000001",
)


def _relay(separator: str = "") -> Decoder:
    return dialect("relay", model="", system_prompt="", separator=separator).decoder()


def _openai() -> Decoder:
    return dialect("openai", model="m", system_prompt="", separator="").decoder()


def _event(data: object, name: str = "message") -> Event:
    return Event(name, data if isinstance(data, str) else json.dumps(data), "")


def _outcomes(decoder: Decoder, events: Iterable[Event]) -> list[Outcome]:
    decoded = [decoder.decode_event(event) for event in events]
    return [outcome for outcome in decoded if outcome is not None]


def test_an_unknown_dialect_is_a_matter_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="BACKEND_DIALECT"):
        dialect("smoke signals", model="", system_prompt="", separator="")


class TestRelay:
    def test_the_body_has_six_keys_in_their_order(self) -> None:
        body = dialect("relay", model="", system_prompt="", separator="").body(QUESTION)

        assert list(body.items()) == [
            ("user_id", "U1"),
            ("query", "why?"),
            ("channel_id", "C1"),
            ("team_id", "T1"),
            ("thread_ts", "1700000000.000001"),
            ("ts", "1700000000.000100"),
        ]

    def test_parts_are_text_verbatim_until_the_end(self) -> None:
        events = [
            _event({"text_chunk": " a\n"}, "message_part"),
            _event({"text_chunk": "\n<b> "}, "message_part"),
            _event({"status": "done"}, "stream_end"),
        ]
        assert _outcomes(_relay(), events) == [Delta(" a\n"), Delta("\n<b> "), Finish()]

    def test_the_kind_may_stand_in_the_data(self) -> None:
        events = [
            _event({"event": "message_part", "text_chunk": "a"}),
            _event({"event": "stream_end", "status": "done"}),
            _event({"event": "error", "error": "e"}),
        ]
        assert _outcomes(_relay(), events) == [Delta("a"), Finish(), Failure("e")]

    def test_the_kind_of_the_event_field_comes_first(self) -> None:
        event = _event({"event": "stream_end", "text_chunk": "a"}, "message_part")
        assert _relay().decode_event(event) == Delta("a")

    def test_the_separator_stands_between_parts_only(self) -> None:
        decoder = _relay(separator="|")
        events = [_event({"text_chunk": text}, "message_part") for text in ("", "a", "", "b")]
        texts = [o.text for o in _outcomes(decoder, events) if isinstance(o, Delta)]
        assert "".join(texts) == "|".join(["", "a", "", "b"])

    def test_an_empty_part_is_no_text(self) -> None:
        assert _relay().decode_event(_event({"text_chunk": ""}, "message_part")) is None

    @pytest.mark.parametrize(
        "event",
        [
            _event("", "message_part"),
            _event(" \n", "stream_end"),
            _event("not json", "progress"),
            _event({"text_chunk": "a"}, "Message_Part"),
            _event("ping"),
            _event("[DONE]"),
            _event(["message_part"]),
            _event({"text_chunk": "no kind at all"}),
            _event({"event": "progress"}),
            _event({"event": ["message_part"]}),
        ],
    )
    def test_what_is_unknown_or_empty_is_passed_over(self, event: Event) -> None:
        assert _relay().decode_event(event) is None

    @pytest.mark.parametrize(
        "event",
        [
            _event("secret words", "message_part"),
            _event("[1]", "stream_end"),
            _event('{"error":', "error"),
            _event("[" * 100_000, "message_part"),
            _event({"text": "secret words"}, "message_part"),
            _event({"text_chunk": None}, "message_part"),
            _event({"text_chunk": 7}, "message_part"),
            _event({"event": "message_part"}),
        ],
    )
    def test_a_known_event_with_other_data_is_garbled(self, event: Event) -> None:
        with pytest.raises(PermanentError) as caught:
            _relay().decode_event(event)
        assert caught.value.kind is FailureKind.GARBLED
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("data", "words"),
        [({"error": "no luck"}, "no luck"), ({"error": {"code": 5}}, ""), ({}, "")],
    )
    def test_an_error_is_a_failure(self, data: object, words: str) -> None:
        assert _relay().decode_event(_event(data, "error")) == Failure(words)

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"full_response": "all of it"}, [Delta("all of it"), Finish()]),
            ({"full_response": ""}, [Finish()]),
            ({"full_response": "a", "error": None}, [Delta("a"), Finish()]),
            ({"error": "no luck"}, [Failure("no luck")]),
            ({"error": ""}, [Failure("")]),
            ({"full_response": "a", "error": "no luck"}, [Failure("no luck")]),
        ],
    )
    def test_json_is_an_answer_in_one_piece(self, body: object, expected: list[Outcome]) -> None:
        assert list(_relay().decode_json(body)) == expected

    @pytest.mark.parametrize("body", [None, [], "text", {}, {"full_response": 1}, {"answer": "x"}])
    def test_other_json_is_garbled(self, body: object) -> None:
        with pytest.raises(PermanentError) as caught:
            list(_relay().decode_json(body))
        assert caught.value.kind is FailureKind.GARBLED

    def test_an_end_without_stream_end_is_no_finish(self) -> None:
        decoder = _relay()
        decoder.decode_event(_event({"text_chunk": "a"}, "message_part"))
        assert decoder.end() is None


def _chunk(delta: object = None, finish_reason: object = None, **more: object) -> Event:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _event({"object": "chat.completion.chunk", "choices": [choice], **more})


DONE = _event("[DONE]")


class TestOpenAI:
    def test_the_body_asks_for_a_stream(self) -> None:
        body = dialect("openai", model="m", system_prompt="", separator="").body(QUESTION)

        assert body == {
            "model": "m",
            "stream": True,
            "messages": [{"role": "user", "content": "why?"}],
        }

    def test_the_system_prompt_comes_first(self) -> None:
        body = dialect("openai", model="m", system_prompt="Be brief.", separator="").body(QUESTION)

        assert body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "why?"},
        ]

    def test_deltas_are_text_until_done(self) -> None:
        events = [
            _chunk({"role": "assistant", "content": ""}),
            _chunk({"content": " a"}),
            _chunk({"content": "b\n"}),
            _chunk({}, "stop"),
            DONE,
        ]
        assert _outcomes(_openai(), events) == [Delta(" a"), Delta("b\n"), Finish()]

    @pytest.mark.parametrize(
        "event",
        [
            _chunk({"role": "assistant"}),
            _chunk({"role": "assistant", "content": None}),
            _chunk(None),
            _chunk({"reasoning_content": "hmm"}),
            _chunk({"reasoning": "hmm", "content": ""}),
            _chunk({"tool_calls": [{"index": 0}]}),
            _event({"choices": [], "usage": {"total_tokens": 9}}),
            _event({"usage": {"total_tokens": 9}}),
            _event(""),
        ],
    )
    def test_what_holds_no_text_is_passed_over(self, event: Event) -> None:
        assert _openai().decode_event(event) is None

    def test_text_may_come_with_the_finish_reason(self) -> None:
        events = [_chunk({"content": "a"}, "stop"), DONE]
        assert _outcomes(_openai(), events) == [Delta("a"), Finish()]

    def test_a_refusal_is_an_answer(self) -> None:
        event = _chunk({"content": None, "refusal": "I will not."})
        assert _openai().decode_event(event) == Delta("I will not.")

    def test_done_alone_is_an_end(self) -> None:
        assert _outcomes(_openai(), [_chunk({"content": "a"}), DONE])[-1] == Finish()

    def test_the_limit_of_the_model_is_told(self) -> None:
        events = [_chunk({"content": "a"}), _chunk({}, "length"), _event({"choices": []}), DONE]
        assert _outcomes(_openai(), events)[-1] == Finish(is_truncated=True)

    @pytest.mark.parametrize(
        ("reason", "expected"),
        [
            ("stop", Finish()),
            ("length", Finish(is_truncated=True)),
            ("tool_calls", Finish()),
            ("", None),
            (None, None),
        ],
    )
    def test_an_end_without_done_counts_once_a_finish_reason_has_come(
        self, reason: str | None, expected: Finish | None
    ) -> None:
        decoder = _openai()
        decoder.decode_event(_chunk({"content": "a"}, reason))
        assert decoder.end() == expected

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"error": {"message": "too long", "code": 400}}, "too long"),
            ({"error": "too long"}, "too long"),
            ({"error": {"code": 400}}, ""),
            ({"object": "error", "message": "too long"}, "too long"),
            ({"error": {"message": "too long"}, "choices": []}, "too long"),
        ],
    )
    def test_an_error_is_a_failure(self, data: dict[str, object], words: str) -> None:
        assert _openai().decode_event(_event(data)) == Failure(words)
        assert list(_openai().decode_json(data)) == [Failure(words)]

    @pytest.mark.parametrize(
        "event",
        [
            _event("secret words"),
            _event("[]"),
            _event("7"),
            _event({"choices": {"a": 1}}),
            _event({"choices": ["a"]}),
            _chunk("secret words"),
            _chunk({"content": ["secret words"]}),
        ],
    )
    def test_anything_else_is_garbled(self, event: Event) -> None:
        with pytest.raises(PermanentError) as caught:
            _openai().decode_event(event)
        assert caught.value.kind is FailureKind.GARBLED
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("message", "reason", "expected"),
        [
            ({"content": "all"}, "stop", [Delta("all"), Finish()]),
            ({"content": "al"}, "length", [Delta("al"), Finish(is_truncated=True)]),
            ({"content": None}, "stop", [Finish()]),
        ],
    )
    def test_json_is_an_answer_in_one_piece(
        self, message: object, reason: str, expected: list[Outcome]
    ) -> None:
        body = {"choices": [{"message": message, "finish_reason": reason}]}
        assert list(_openai().decode_json(body)) == expected

    @pytest.mark.parametrize("body", [None, [], {}, {"choices": []}, {"choices": [{"message": 1}]}])
    def test_other_json_is_garbled(self, body: object) -> None:
        with pytest.raises(PermanentError) as caught:
            list(_openai().decode_json(body))
        assert caught.value.kind is FailureKind.GARBLED

    def test_answers_do_not_know_of_each_other(self) -> None:
        dialect_ = dialect("openai", model="m", system_prompt="", separator="")
        first, second = dialect_.decoder(), dialect_.decoder()
        first.decode_event(_chunk({}, "stop"))
        assert second.end() is None
