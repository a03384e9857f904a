"""The bench's load server: that it times, refuses and judges as it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from pydantic import SecretStr
from websocket import WebSocket, create_connection

from chatrelaybot.daemon import Daemon
from chatrelaybot.playground.limits import Limits, Rate
from chatrelaybot.settings import Settings
from tests.bench.world import Asked, Record, Script, World
from tests.bench.world.script import text_of

_LATENCY = 0.02
_PATIENCE = 10.0
_SHORT = Script(parts=3, parts_per_second=100.0)


class Bot:
    """The least that answers: one thing after the other, each when the test says so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._session = requests.Session()
        self._session.trust_env = False
        self._link: WebSocket = create_connection(self.call("apps.connections.open")["url"])
        assert json.loads(self._link.recv())["type"] == "hello"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.shutdown()  # type: ignore[no-untyped-call]
        self._session.close()

    def send(self, method: str, **args: Any) -> requests.Response:
        url = self._world.environment["SLACK_API_URL"]
        return self._session.post(f"{url}{method}", json=args, timeout=_PATIENCE)

    def call(self, method: str, **args: Any) -> Any:
        return self.send(method, **args).json()

    def take(self) -> Any:
        """Return the next event, acked."""
        envelope = json.loads(self._link.recv())
        self._link.send(json.dumps({"envelope_id": envelope["envelope_id"]}))
        return envelope["payload"]["event"]

    def read(self, event: Any) -> str:
        """Return the backend's answer."""
        url = self._world.environment["BACKEND_URL"]
        body = self._session.post(url, json={"query": event["text"]}, timeout=_PATIENCE).text
        data = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
        return "".join(json.loads(one).get("text_chunk", "") for one in data)

    def post(self, event: Any, text: str) -> Any:
        """Post into the thread of an event; return where the message is."""
        where = {"channel": event["channel"], "thread_ts": event["ts"]}
        posted = self.call("chat.postMessage", **where, blocks=_blocks(text))
        return {"channel": event["channel"], "ts": posted["ts"]}


def _blocks(text: str) -> list[dict[str, str]]:
    return [{"type": "markdown", "text": text}]


@pytest.fixture(name="whole_world", scope="module")
def _whole_world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(name="world")
def _world(whole_world: World) -> World:
    """The world with what it began with, but for what others have written in it."""
    whole_world.change(latency=_LATENCY)
    return whole_world


@pytest.fixture(name="bot")
def _bot(world: World) -> Iterator[Bot]:
    with Bot(world) as bot:
        yield bot


def _the(world: World, asked: Asked) -> Record:
    [record] = world.records(asked)
    return record


def test_an_answer_of_the_daemon_is_recorded_from_its_event_to_its_last_text(
    world: World, tmp_path: Path
) -> None:
    place = world.environment
    daemon = Daemon(
        Settings(
            slack_bot_token=SecretStr(place["SLACK_BOT_TOKEN"]),
            slack_app_token=SecretStr(place["SLACK_APP_TOKEN"]),
            slack_api_url=place["SLACK_API_URL"],
            backend_url=place["BACKEND_URL"],
            database_url=f"sqlite:///{tmp_path}/inbox.sqlite3",
            drain_seconds=1.0,
            http_port=None,
        )
    )
    try:
        daemon.start()
        world.wait_for_link(_PATIENCE)
        asked = world.ask(2, script=_SHORT)
        assert world.wait_until_answered(asked, _PATIENCE)
    finally:
        daemon.stop()

    record = _the(world, Asked(asked.numbers[1:], asked.at))
    assert world.flaws(asked) == []
    assert len(record.sends) == len(record.acks) == len(record.requests) == 1
    assert record.placeholder is not None
    assert record.last_part is not None
    assert record.final is not None
    assert record.placeholder - record.written >= _LATENCY
    assert record.final - record.last_part >= _LATENCY
    assert [version.is_whole for version in record.shown[0].versions][-1]


def test_a_call_takes_effect_after_the_latency(world: World, bot: Bot) -> None:
    asked = world.ask(script=_SHORT)
    bot.post(bot.take(), "_Thinking…_")

    [call] = _the(world, asked).calls
    assert call.visible is not None
    assert call.visible - call.received >= _LATENCY
    assert call.chars == len("_Thinking…_")
    assert _the(world, asked).first_text is None


def test_a_call_beyond_the_limits_is_refused_and_does_nothing(world: World, bot: Bot) -> None:
    world.change(latency=0.0, limits=Limits.none().having("chat.update", Rate(6, 1)))
    asked = world.ask(script=_SHORT)
    place = bot.post(bot.take(), "…")
    assert bot.send("chat.update", **place, blocks=_blocks("first")).ok

    refused = bot.send("chat.update", **place, blocks=_blocks("second"))

    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "10"
    assert refused.json() == {"ok": False, "error": "ratelimited"}
    record = _the(world, asked)
    assert record.calls[-1].error == "ratelimited"
    assert record.calls[-1].visible is None
    assert record.shown[0].text == "first"


def test_an_answer_is_whole_when_it_is_shown_once_and_as_it_is(world: World, bot: Bot) -> None:
    asked = world.ask(script=_SHORT)
    event = bot.take()
    place = bot.post(event, "…")
    bot.call("reactions.add", channel=event["channel"], timestamp=event["ts"], name="hourglass")
    assert bot.call("chat.update", **place, blocks=_blocks(bot.read(event)))["ok"]
    assert not world.wait_until_answered(asked, 0.0)
    bot.call("reactions.remove", channel=event["channel"], timestamp=event["ts"], name="hourglass")

    assert world.wait_until_answered(asked, _PATIENCE)
    assert world.flaws(asked) == []
    assert _the(world, asked).final == _the(world, asked).shown[0].versions[-1].at


def test_lost_wrong_and_doubled_answers_are_flaws(world: World, bot: Bot) -> None:
    asked = world.ask(4, script=_SHORT)
    lost, wrong, doubled, waiting = (bot.take() for _ in asked.numbers)
    bot.call("chat.delete", **bot.post(lost, bot.read(lost)))
    bot.post(wrong, bot.read(wrong)[:-1])
    for text in [bot.read(doubled)] * 2:
        bot.post(doubled, text)
    bot.call("reactions.add", channel=waiting["channel"], timestamp=waiting["ts"], name="hourglass")
    bot.post(waiting, bot.read(waiting))

    found = world.flaws(asked)

    assert [flaw.partition(" (")[0] for flaw in found] == [
        "1 of 4 answers have no reply",
        "1 of 4 answers show another text than the backend's",
        "1 of 4 answers have several replies",
        "1 of 4 answers still have the reaction of waiting",
    ]
    assert not world.wait_until_answered(asked, 0.0)


def test_an_answer_too_long_for_a_message_may_stand_in_several(world: World, bot: Bot) -> None:
    asked = world.ask(script=Script(parts=120, parts_per_second=1e6, part_chars=100))
    event = bot.take()
    text = bot.read(event)
    head, gap, tail = text.rpartition("\n\n")
    assert gap
    bot.post(event, head)
    assert world.flaws(asked) != []

    bot.post(event, tail)

    assert world.flaws(asked) == []


def test_what_was_posted_is_found_again_by_its_metadata(world: World, bot: Bot) -> None:
    world.ask(script=_SHORT)
    event = bot.take()
    where = {"channel": event["channel"], "thread_ts": event["ts"]}
    metadata = {"event_type": "reply", "event_payload": {"part": 0}}
    posted = bot.call("chat.postMessage", **where, text="…", metadata=metadata)

    found = bot.call("conversations.replies", channel=event["channel"], ts=event["ts"])

    assert [(one["ts"], one["metadata"]) for one in found["messages"]] == [(posted["ts"], metadata)]


def test_a_far_web_api_costs_a_round_trip_for_each_way_of_a_handshake() -> None:
    with World(latency=0.0, round_trip=0.04) as world:
        place = world.environment
        with requests.Session() as session:
            session.trust_env = False
            session.verify = place["REQUESTS_CA_BUNDLE"]
            url = f"{place['SLACK_API_URL']}auth.test"
            answers = [session.post(url, timeout=_PATIENCE) for _ in range(4)]

    first, *later = (answer.elapsed.total_seconds() for answer in answers)
    # TCP, TLS, and the call itself; then the call alone.
    assert first >= 3 * 0.04
    assert 0.04 <= min(later) < 2 * 0.04


class TestScript:
    def test_answers_can_end_together(self) -> None:
        script = Script(first_after=0.5, ends_at=5.0, parts=10)

        early, late = (
            script.timing(asking=100.0, request=at, position=0.0, parts=10) for at in (100.0, 102.0)
        )

        assert (early.first, late.first) == (100.5, 102.5)
        assert early.due(9) == late.due(9) == pytest.approx(105.0)

    def test_first_parts_can_be_spread_and_begin_together(self) -> None:
        script = Script(starts_at=1.0, stagger=0.2, parts_per_second=50.0)

        timings = [
            script.timing(asking=100.0, request=100.1, position=position, parts=20)
            for position in (0.0, 0.5)
        ]

        assert [timing.first for timing in timings] == pytest.approx([101.0, 101.1])
        assert timings[0].interval == pytest.approx(0.02)

    def test_lengths_can_be_spread(self) -> None:
        script = Script(parts=10, more_parts=3)

        assert [script.parts_of(k / 4) for k in range(4)] == [10, 11, 12, 13]

    def test_a_text_is_its_parts_and_as_long_as_it_should_be(self) -> None:
        assert text_of(7, 3, 0) == "q7p0 q7p1 q7p2"
        assert len(text_of(7, 100, 1000)) == 100_000
