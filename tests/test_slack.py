"""The calls as Slack sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from chatrelaybot.errors import ConfigurationError, OutcomeUnknown, RateLimited, Undeliverable
from chatrelaybot.events import Identity
from chatrelaybot.render import Message
from chatrelaybot.slack import FoundPart, Slack
from chatrelaybot.telemetry_metrics import Metrics
from chatrelaybot.telemetry_prometheus import Prometheus
from tests.scripted_web_api import DEADLINE, Answer, WebApi

TOKEN = "xoxb-made-up"
MESSAGE = Message(markdown="An **answer** &lt;b&gt;.", text="An answer.")
IDENTITY = {"user_id": "U1", "bot_id": "B1", "team_id": "T1", "user": "relay"}


@pytest.fixture(name="api")
def _api(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApi]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with WebApi() as api:
        yield api


@pytest.fixture(name="slack")
def _slack(api: WebApi) -> Iterator[Slack]:
    slack = Slack(bot_token=TOKEN, api_url=api.url, pool_size=10, timeout=DEADLINE)
    yield slack
    slack.close()


def test_identify_says_who_we_are(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer(IDENTITY))

    assert slack.identify() == Identity(user_id="U1", bot_id="B1", team_id="T1", name="relay")
    assert api.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_token_of_a_person_is_not_one_of_a_bot(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer({**IDENTITY, "bot_id": None}))

    with pytest.raises(ConfigurationError, match="SLACK_BOT_TOKEN: it is not the token of a bot"):
        slack.identify()


@pytest.mark.parametrize("token", ["", "xoxb-1\nX-Other: 1", "xoxb-1 2", "xoxb-…"])
def test_a_token_with_odd_characters_is_refused_without_quoting_it(token: str) -> None:
    with pytest.raises(ConfigurationError, match="SLACK_BOT_TOKEN") as caught:
        Slack(bot_token=token, api_url="http://127.0.0.1:1/api/", pool_size=1)

    assert "xoxb-1" not in str(caught.value)


def test_the_url_of_a_link_is_asked_for_with_the_app_token(api: WebApi, slack: Slack) -> None:
    api.script("apps.connections.open", Answer({"url": "wss://127.0.0.1/link"}))

    assert slack.open_link_url("xapp-1") == "wss://127.0.0.1/link"
    assert api.calls[0].headers["Authorization"] == "Bearer xapp-1"
    assert api.calls[0].body == {}


def test_an_app_token_with_odd_characters_is_named(api: WebApi, slack: Slack) -> None:
    with pytest.raises(ConfigurationError, match="SLACK_APP_TOKEN"):
        slack.open_link_url("xapp 1")

    assert api.calls == []


def test_a_post_carries_blocks_a_fallback_and_the_key_it_is_found_by(
    api: WebApi, slack: Slack
) -> None:
    api.script("chat.postMessage", Answer({"ts": "1700000000.000100"}))

    assert slack.post("C1", "1.0", MESSAGE, question_id="q1", part=2) == "1700000000.000100"
    assert api.calls[0].body == {
        "channel": "C1",
        "thread_ts": "1.0",
        "text": "An answer.",
        "blocks": [{"type": "markdown", "text": "An **answer** &lt;b&gt;."}],
        "unfurl_links": False,
        "unfurl_media": False,
        "metadata": {
            "event_type": "chatrelaybot_reply",
            "event_payload": {"question": "q1", "part": 2},
        },
    }


def test_a_post_outside_a_thread_names_none(api: WebApi, slack: Slack) -> None:
    slack.post("C1", None, MESSAGE, question_id="q1", part=0)

    assert "thread_ts" not in api.calls[0].body


def test_a_post_that_succeeds_without_a_ts_leaves_the_outcome_unknown(
    api: WebApi, slack: Slack
) -> None:
    api.script("chat.postMessage", Answer({}))

    with pytest.raises(OutcomeUnknown):
        slack.post("C1", None, MESSAGE, question_id="q1", part=0)


def test_an_update_replaces_the_text_and_keeps_the_metadata(api: WebApi, slack: Slack) -> None:
    slack.update("C1", "1.1", MESSAGE)

    assert api.calls[0].body == {
        "channel": "C1",
        "ts": "1.1",
        "text": "An answer.",
        "blocks": [{"type": "markdown", "text": "An **answer** &lt;b&gt;."}],
        "parse": "none",
    }


def test_the_small_calls_name_their_message(api: WebApi, slack: Slack) -> None:
    slack.delete("C1", "1.1")
    slack.react("C1", "1.1", "eyes")
    slack.unreact("C1", "1.1", "eyes")

    assert [(call.method, call.body) for call in api.calls] == [
        ("chat.delete", {"channel": "C1", "ts": "1.1"}),
        ("reactions.add", {"channel": "C1", "timestamp": "1.1", "name": "eyes"}),
        ("reactions.remove", {"channel": "C1", "timestamp": "1.1", "name": "eyes"}),
    ]


@pytest.mark.parametrize(
    ("method", "code", "call"),
    [
        ("chat.delete", "message_not_found", lambda slack: slack.delete("C1", "1.1")),
        ("reactions.add", "already_reacted", lambda slack: slack.react("C1", "1.1", "eyes")),
        ("reactions.remove", "no_reaction", lambda slack: slack.unreact("C1", "1.1", "eyes")),
    ],
)
def test_what_is_so_already_is_no_error(
    api: WebApi, method: str, code: str, call: Callable[[Slack], None]
) -> None:
    scrapes = Prometheus(resource={})
    api.script(method, Answer({"error": code}))
    slack = Slack(bot_token=TOKEN, api_url=api.url, pool_size=1, metrics=Metrics([scrapes]))

    with closing(slack):
        call(slack)

    assert [call.method for call in api.calls] == [method]
    # Nor does an operator read of one.
    assert code not in scrapes.scrape()[0].decode()


def test_an_update_of_a_message_that_is_gone_is_an_error(api: WebApi, slack: Slack) -> None:
    api.script("chat.update", Answer({"error": "message_not_found"}))

    with pytest.raises(Undeliverable, match=r"chat\.update: message_not_found"):
        slack.update("C1", "1.1", MESSAGE)


def test_a_refusal_for_now_says_for_how_long(api: WebApi, slack: Slack) -> None:
    refusal = Answer({"error": "ratelimited"}, status=429, headers={"retry-after": "7"})
    api.script("chat.update", refusal)

    with pytest.raises(RateLimited) as caught:
        slack.update("C1", "1.1", MESSAGE)

    assert caught.value.retry_after == 7.0


# Plain blocks


def _sections(api: WebApi, slack: Slack, markdown: str) -> list[str]:
    slack.update("C1", "1.1", Message(markdown=markdown, text="fallback"), as_plain=True)
    blocks = api.calls[-1].body["blocks"]
    assert {block["type"] for block in blocks} == {"section"}
    assert {block["text"]["type"] for block in blocks} == {"mrkdwn"}
    # Otherwise Slack makes links of the names of channels: not even a plain text is safe.
    assert {block["text"]["verbatim"] for block in blocks} == {True}
    return [block["text"]["text"] for block in blocks]


def test_a_plain_message_is_one_section(api: WebApi, slack: Slack) -> None:
    assert _sections(api, slack, "An answer &lt;b&gt;.") == ["An answer &lt;b&gt;."]


@pytest.mark.parametrize(
    "unit",
    ["x", "A line of text.\n", "&lt;", "word &amp; ", "\n\n\nx", "x" * 2_449 + "\n"],
    ids=["letters", "lines", "entities", "words", "paragraphs", "long lines"],
)
def test_the_longest_message_fits_four_sections_and_loses_nothing(
    api: WebApi, slack: Slack, unit: str
) -> None:
    markdown = (unit * 11_500)[:11_500]

    sections = _sections(api, slack, markdown)

    assert len(sections) == 4
    assert max(map(len, sections)) <= 3_000
    assert "".join(sections) == markdown


def test_a_section_ends_with_a_line_where_one_ends_near(api: WebApi, slack: Slack) -> None:
    sections = _sections(api, slack, "A line of 24 characters\n" * 200)

    assert len(sections) == 2
    assert sections[0].endswith("characters\n")


@pytest.mark.parametrize("shift", range(5))
def test_an_entity_is_not_cut(api: WebApi, slack: Slack, shift: int) -> None:
    sections = _sections(api, slack, "x" * shift + "&lt;" * 1_000)

    assert sections[0].endswith(";")
    assert sections[1].startswith("&lt;")


def test_sections_of_nothing_but_space_are_left_out(api: WebApi, slack: Slack) -> None:
    assert _sections(api, slack, "x" * 3_000 + " " * 3_000 + "y") == ["x" * 3_000, "y"]
    assert _sections(api, slack, " ") == ["fallback"]


def test_a_plain_post_is_found_by_the_same_key(api: WebApi, slack: Slack) -> None:
    slack.post("C1", None, MESSAGE, question_id="q1", part=1, as_plain=True)

    body = api.calls[0].body
    assert [block["type"] for block in body["blocks"]] == ["section"]
    assert body["metadata"]["event_payload"] == {"question": "q1", "part": 1}


# Looking for parts


def _posted(
    ts: str,
    part: object = 0,
    *,
    question: str = "q1",
    bot_id: str = "B1",
    event_type: str = "chatrelaybot_reply",
) -> dict[str, object]:
    payload = {"question": question, "part": part}
    metadata = {"event_type": event_type, "event_payload": payload}
    return {"ts": ts, "bot_id": bot_id, "text": "x", "metadata": metadata}


def test_parts_are_found_by_their_key_and_author(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer(IDENTITY))
    messages: list[object] = [
        {"ts": "1.0", "user": "U2", "text": "the question"},
        _posted("1.3", part=0),
        _posted("1.2", part=1),
        _posted("1.4", question="q2"),
        _posted("1.5", bot_id="B2"),
        _posted("1.6", event_type="other"),
        _posted("1.7", part="0"),
        {"ts": "1.8", "bot_id": "B1", "metadata": {"event_type": "chatrelaybot_reply"}},
        {"ts": "1.9", "bot_id": "B1"},
    ]
    api.script("conversations.replies", Answer({"messages": messages}))

    found = slack.find_parts("C1", "1.0", question_id="q1", oldest="1.0")

    assert found == [FoundPart(part=1, ts="1.2"), FoundPart(part=0, ts="1.3")]
    assert api.calls[-1].body == {
        "channel": "C1",
        "ts": "1.0",
        "oldest": "1.0",
        "limit": "200",
        "include_all_metadata": "1",
    }


def test_outside_a_thread_the_channel_is_searched(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer(IDENTITY))
    api.script("conversations.history", Answer({"messages": [_posted("1.2")]}))

    assert slack.find_parts("C1", None, question_id="q1", oldest="1.0") == [FoundPart(0, "1.2")]
    assert "ts" not in api.calls[-1].body


def test_who_we_are_is_asked_once(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer(IDENTITY))

    slack.identify()
    slack.find_parts("C1", None, question_id="q1", oldest="1.0")
    slack.find_parts("C1", None, question_id="q1", oldest="1.0")

    assert [call.method for call in api.calls].count("auth.test") == 1


def test_the_search_goes_on_to_the_last_page(api: WebApi, slack: Slack) -> None:
    api.script("auth.test", Answer(IDENTITY))
    more = {"response_metadata": {"next_cursor": "page 2"}}
    api.script(
        "conversations.replies",
        Answer({"messages": [_posted("1.9", part=1)], **more}),
        Answer({"messages": [_posted("1.2")], "response_metadata": {"next_cursor": ""}}),
    )

    found = slack.find_parts("C1", "1.0", question_id="q1", oldest="1.0")

    assert found == [FoundPart(0, "1.2"), FoundPart(1, "1.9")]
    assert [call.body.get("cursor") for call in api.calls[1:]] == [None, "page 2"]


def test_the_search_has_an_end(api: WebApi, slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    api.script("auth.test", Answer(IDENTITY))
    endless = Answer({"messages": [_posted("1.2")], "response_metadata": {"next_cursor": "x"}})
    api.script("conversations.replies", *[endless] * 9)

    found = slack.find_parts("C1", "1.0", question_id="q1", oldest="1.0")

    assert len(found) == 5
    assert [call.method for call in api.calls].count("conversations.replies") == 5
    assert "gave up searching a long conversation" in caplog.messages
