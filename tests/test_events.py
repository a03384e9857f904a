from __future__ import annotations

from typing import Any

import pytest

from chatrelaybot.events import (
    Control,
    Identity,
    Question,
    Reading,
    ReplyIn,
    parse,
    why_ignored,
)

IDENTITY = Identity(user_id="UBOT", bot_id="BBOT", team_id="T1", name="relay")
READING = Reading(identity=IDENTITY)


def envelope(event: dict[str, Any], **payload: Any) -> dict[str, Any]:
    return {
        "type": "events_api",
        "envelope_id": "e-1",
        "payload": {"team_id": "T1", "event_id": "Ev1", "event": event, **payload},
        "retry_attempt": 0,
    }


def mention(text: str = "<@UBOT> what is up?", **changes: Any) -> dict[str, Any]:
    event = {"type": "app_mention", "user": "U1", "text": text, "ts": "17.1", "channel": "C1"}
    return envelope({**event, **changes})


def direct(text: str = "what is up?", **changes: Any) -> dict[str, Any]:
    event = {"type": "message", "channel_type": "im", "user": "U1", "text": text}
    return envelope({**event, "ts": "17.1", "channel": "D1", **changes})


def asked(an_envelope: dict[str, Any], reading: Reading = READING) -> Question:
    question = parse(an_envelope, reading)
    assert isinstance(question, Question), question
    return question


def test_a_mention_is_a_question_answered_in_a_thread_of_its_own() -> None:
    assert asked(mention()) == Question(
        event_id="Ev1",
        team_id="T1",
        channel="C1",
        user_id="U1",
        text="what is up?",
        ts="17.1",
        thread_ts="17.1",
        is_direct=False,
    )


def test_a_mention_in_a_thread_is_answered_in_that_thread() -> None:
    assert asked(mention(thread_ts="16.0")).thread_ts == "16.0"


def test_a_mention_may_be_answered_in_the_channel() -> None:
    reading = Reading(identity=IDENTITY, reply_in=ReplyIn.CHANNEL)

    assert asked(mention(), reading).thread_ts is None
    assert asked(mention(thread_ts="16.0"), reading).thread_ts == "16.0"


def test_a_direct_message_is_answered_in_the_conversation_itself() -> None:
    question = asked(direct())

    assert (question.thread_ts, question.is_direct) == (None, True)
    assert asked(direct(thread_ts="16.0")).thread_ts == "16.0"


def test_a_group_message_is_a_question_only_when_it_mentions_us() -> None:
    assert parse(direct(channel_type="mpim", channel="G1"), READING) is None
    assert parse(direct("<@UBOTX> hi", channel_type="mpim", channel="G1"), READING) is None
    assert asked(direct("<@UBOT> hi", channel_type="mpim", channel="G1")).text == "hi"


@pytest.mark.parametrize("subtype", ["file_share", "thread_broadcast", "me_message"])
def test_subtypes_that_are_somebodys_words_are_questions(subtype: str) -> None:
    assert asked(mention(subtype=subtype)).text == "what is up?"


@pytest.mark.parametrize(
    "changes",
    [
        {"bot_id": "B9"},
        {"user": "UBOT"},
        {"hidden": True},
        {"subtype": "message_changed"},
        {"subtype": "message_deleted"},
        {"subtype": "bot_message"},
        {"subtype": "channel_join"},
        {"subtype": ["odd"]},
        {"subtype": ""},
        {"user": None},
        {"ts": None},
        {"channel": None},
        {"type": "reaction_added"},
    ],
)
@pytest.mark.parametrize("kind", [mention, direct])
def test_all_else_is_no_question(kind: Any, changes: dict[str, Any]) -> None:
    assert parse(kind(**changes), READING) is None


def test_a_message_in_a_channel_is_left_to_its_app_mention() -> None:
    assert parse(direct("<@UBOT> hi", channel_type="channel", channel="C1"), READING) is None


@pytest.mark.parametrize(
    "an_envelope",
    [
        {},
        {"type": "slash_commands", "payload": {}},
        {"type": "events_api"},
        {"type": "events_api", "payload": "text"},
        {"type": "events_api", "payload": {"event": "text"}},
        envelope({"type": "app_mention", "user": "U1", "ts": "1.0", "channel": "C1"}, event_id=7),
    ],
)
def test_odd_envelopes_are_passed_over(an_envelope: dict[str, Any]) -> None:
    assert parse(an_envelope, READING) is None


def test_channels_can_be_limited() -> None:
    reading = Reading(identity=IDENTITY, channels=frozenset({"C7"}))

    assert parse(mention(), reading) is None
    assert asked(mention(channel="C7"), reading).channel == "C7"


def test_control_messages_are_told_apart() -> None:
    assert parse({"type": "hello"}, READING) == Control("hello")
    assert parse({"type": "disconnect", "reason": "warning"}, READING) == Control(
        "disconnect", "warning"
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<@UBOT> hi", "hi"),
        ("  <@UBOT>  <@UBOT|relay> hi <@UBOT> \n", "hi"),
        ("hi <@UBOT>", "hi"),
        ("ask <@UBOT> about it", "ask relay about it"),
        ("<@UBOT> ask <@U2>", "ask <@U2>"),
        ("<@UBOT> 1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
        ("<@UBOT> &amp;lt;b&amp;gt;", "&lt;b&gt;"),
        ("<@UBOT>", ""),
        ("<@UBOT> \n ", ""),
        ("<@UBOTX> hi", "<@UBOTX> hi"),
        ("<@UBOT> *bold*\n\nnext", "*bold*\n\nnext"),
    ],
)
def test_the_text_is_what_the_person_meant_to_ask(written: str, read: str) -> None:
    assert asked(mention(written)).text == read


def test_both_events_of_one_message_are_one_question() -> None:
    twin = direct("<@UBOT> what is up?", channel_type="mpim", channel="C1")
    twin["payload"]["event_id"] = "Ev2"

    assert asked(twin).id == asked(mention()).id


def test_messages_at_other_places_or_times_are_other_questions() -> None:
    questions = [mention(), mention(ts="17.2"), mention(channel="C2")]

    assert len({asked(question).id for question in questions}) == 3


def test_a_thread_is_one_conversation_and_a_channel_is_many() -> None:
    first, follow_up = asked(mention(ts="17.1")), asked(mention(ts="18.0", thread_ts="17.1"))

    assert first.conversation == follow_up.conversation
    assert first.conversation != asked(mention(ts="19.0")).conversation
    assert asked(direct(ts="1.0")).conversation == asked(direct(ts="2.0")).conversation


def test_the_team_may_come_with_the_event() -> None:
    an_envelope = mention(team="T9")
    del an_envelope["payload"]["team_id"]

    assert asked(an_envelope).team_id == "T9"


@pytest.mark.parametrize(
    ("ignored", "reason"),
    [
        (mention(bot_id="B7"), "from_a_bot"),
        (mention(user="UBOT"), "from_a_bot"),
        (direct(subtype="message_changed"), "not_spoken"),
        (direct(hidden=True), "not_spoken"),
        (mention(channel="C2"), "other_channel"),
        (direct(channel_type="channel", channel="C1"), "not_addressed"),
        (
            envelope({"type": "reaction_added", "user": "U1", "channel": "C1", "ts": "1"}),
            "not_addressed",
        ),
        (mention(user=None), "incomplete"),
        (
            {**mention(channel="C1"), "payload": {"event": mention()["payload"]["event"]}},
            "incomplete",
        ),
        ({"type": "slash_commands", "payload": {}}, "not_an_event"),
        ({"type": "events_api"}, "not_an_event"),
    ],
)
def test_it_is_known_in_a_word_why_an_envelope_is_ignored(
    ignored: dict[str, Any], reason: str
) -> None:
    reading = Reading(identity=IDENTITY, channels=frozenset({"C1", "D1"}))

    assert parse(ignored, reading) is None
    assert why_ignored(ignored, reading) == reason
