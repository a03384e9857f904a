"""What is found in Slack after a time without a link, and what is let be."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from chatrelaybot.catch_up import STEP_SECONDS, CatchUp
from chatrelaybot.database import Database
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.events import Identity, Question, Reading, ReplyIn
from chatrelaybot.inbox import Inbox
from chatrelaybot.link import Links
from chatrelaybot.listener import Listener
from chatrelaybot.playground.limits import Limits, Rate
from chatrelaybot.playground.web_api import Call
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.render import Message
from chatrelaybot.seen_links import SeenLinks
from chatrelaybot.slack import Slack
from chatrelaybot.telemetry_spans import Spans
from tests.elapsing import elapse
from tests.listening import DEADLINE, Line

REPLY = Message(markdown="an answer", text="an answer")


@pytest.fixture(name="workspace")
def _workspace() -> Iterator[Workspace]:
    """A workspace that soon gives up an event which is not acked."""
    with Workspace(
        limits=Limits.none(), ack_seconds=0.1, redelivery=(), resume_seconds=0.01
    ) as workspace:
        yield workspace


@pytest.fixture(name="office")
def _office(workspace: Workspace, tmp_path: Path) -> Iterator[Office]:
    database = Database(url=f"sqlite:///{tmp_path / 'inbox.db'}")
    database.open()
    slack = Slack(
        bot_token=workspace.bot_token, api_url=workspace.api_url, pool_size=1, timeout=DEADLINE
    )
    yield Office(workspace, database, slack)
    slack.close()
    database.close()


@dataclass
class Office:
    """A bot without its link, which is up when the test says so, and a clock that it turns."""

    workspace: Workspace
    database: Database
    slack: Slack
    is_up: bool = True
    time: float = 1_000.0  #: seconds
    later: float = 0.0  #: by how much the wall clock is ahead, seconds
    event_numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.inbox = Inbox(database=self.database, owner="test", retention_hours=2.0)
        self.seen_links = SeenLinks(database=self.database, team_id=self.workspace.team_id)

    def catch_up(self, *, links: object = None, **more: Any) -> CatchUp:
        options = {
            "slack": self.slack,
            "inbox": self.inbox,
            "seen_links": self.seen_links,
            "reading": self.reading(),
            "links": cast(Links, links or self),
            "minutes": 30.0,
            "retention_hours": 2.0,
            "spans": Spans(),
            "clock": lambda: self.time,
            "now": lambda: time.time() + self.later,
        }
        return CatchUp(**{**options, **more})

    def reading(self, **more: Any) -> Reading:
        workspace = self.workspace
        identity = Identity(
            user_id=workspace.bot_user_id,
            bot_id=workspace.bot_id,
            team_id=workspace.team_id,
            name="relay",
        )
        return Reading(identity=identity, **more)

    def answer(self, channel: str, *, thread_ts: str | None = None) -> str:
        """Let a question have been asked and answered; return its ts."""
        ts = self.workspace.say(channel, f"{self.workspace.mention} earlier", thread_ts=thread_ts)
        is_direct = channel[0] in "DG"
        root = thread_ts or (None if is_direct else ts)
        event_id = f"Ev{next(self.event_numbers)}"
        question = Question(
            event_id, self.workspace.team_id, channel, "U1", "earlier", ts, root, is_direct
        )
        self.inbox.enqueue([(question, "")])
        for delivery in self.inbox.lease(1):
            self.slack.post(channel, root, REPLY, question_id=delivery.question.id, part=0)
            self.inbox.finish(delivery, outcome="complete")
        return ts

    def be_away(self, seconds: float = 600.0) -> None:
        """Let the last link have been up that long ago."""
        self.seen_links.note()
        elapse(self.database, seconds)

    @property
    def has_noted(self) -> bool:
        ago = self.seen_links.seen_ago()
        return ago is not None and ago < 15.0

    def run(self, catch_up: CatchUp, *, steps: int = 200) -> int:
        """Step until all is done, or so often; return how often that was."""
        for count in range(1, steps + 1):
            catch_up.step()
            self.time += STEP_SECONDS
            if self.has_noted:
                return count
        return steps

    def texts(self) -> list[str]:
        """Take all that may be answered now, and return what it says, in this order."""
        found = []
        while deliveries := self.inbox.lease(100):
            for delivery in deliveries:
                found.append(delivery.question.text)
                self.inbox.finish(delivery, outcome="complete")
        return found

    def calls(self) -> list[Call]:
        """Return the calls that read conversations."""
        return [call for call in self.workspace.calls if call.method.startswith("conversations.")]


def _records(caplog: pytest.LogCaptureFixture, text: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.getMessage() == text]


# --- what is found ---------------------------------------------------------------------------


def test_what_slack_gave_up_is_found(office: Office, workspace: Workspace) -> None:
    channel, dm = workspace.add_channel(), workspace.open_dm()
    root = office.answer(channel)
    office.answer(dm)
    with Line(workspace) as line:
        workspace.wait_for_link()
        asked = [
            (channel, workspace.say(channel, f"{workspace.mention} in it", thread_ts=root)),
            (channel, workspace.say(channel, f"{workspace.mention} beside it")),
            (dm, workspace.say(dm, "alone")),
        ]
        for place in asked:
            workspace.wait_for(lambda: workspace.deliveries_of(*place)[0].is_given_up)  # noqa: B023 - waits here
        office.be_away()
        workspace.wait_for(lambda: line.links.is_up)

        office.run(office.catch_up(links=line.links))

    assert office.texts() == ["in it", "beside it", "alone"]


def test_a_question_is_the_one_that_its_event_would_have_been(
    office: Office, workspace: Workspace
) -> None:
    channel, dm, group = workspace.add_channel(), workspace.open_dm(), workspace.add_mpim()
    root = office.answer(channel)
    office.answer(dm)
    office.answer(group)
    office.be_away()
    user = workspace.add_user("bob")
    said = [
        workspace.say(channel, f"{workspace.mention} 1 &lt; 2", user=user, raw=True),
        workspace.say(channel, f"so {workspace.mention} what?", user=user, thread_ts=root),
        workspace.say(dm, "me", user=user),
        workspace.say(group, f"{workspace.mention} us", user=user),
    ]
    # That a thread goes on from it is later news.
    workspace.say(dm, "and me", user=user, thread_ts=said[2])

    office.run(office.catch_up())

    found = {d.question.ts: d for d in office.inbox.lease(100)}
    assert len(found) == 5
    questions = [found[ts].question for ts in said]
    places = [(channel, said[0]), (channel, root), (dm, None), (group, None)]
    assert [(each.channel, each.thread_ts) for each in questions] == places
    assert [each.text for each in questions] == ["1 < 2", "so relay what?", "me", "us"]
    assert [each.is_direct for each in questions] == [False, False, True, True]
    assert {(each.user_id, each.team_id) for each in questions} == {(user, workspace.team_id)}
    assert all(delivery.traceparent for delivery in found.values())


def test_with_answers_outside_threads_a_mention_is_answered_there(
    office: Office, workspace: Workspace
) -> None:
    channel = workspace.add_channel()
    office.answer(channel)
    office.be_away()
    workspace.say(channel, f"{workspace.mention} hello")

    office.run(office.catch_up(reading=office.reading(reply_in=ReplyIn.CHANNEL)))

    assert [d.question.thread_ts for d in office.inbox.lease(100)] == [None]


def test_a_thread_that_began_meanwhile_is_read(office: Office, workspace: Workspace) -> None:
    channel, dm = workspace.add_channel(), workspace.open_dm()
    office.answer(channel)
    office.answer(dm)
    office.be_away()
    root = workspace.say(channel, f"{workspace.mention} hello?")
    workspace.say(channel, f"{workspace.mention} anybody?", thread_ts=root)
    workspace.say(channel, "No mention", thread_ts=root)
    (ours,) = workspace.bot_messages(dm)
    workspace.say(dm, "What did you mean?", thread_ts=ours.ts)

    office.run(office.catch_up())

    assert office.texts() == ["hello?", "What did you mean?", "anybody?"]
    # What goes on from a find is read before what is further away.
    read = [(call.args["channel"], "ts" in call.args) for call in office.calls()]
    assert read == [(dm, False), (dm, True), (channel, False), (channel, True), (channel, True)]


def test_questions_are_asked_oldest_first(office: Office, workspace: Workspace) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    office.be_away()
    for number in range(450):  # Three pages.
        workspace.say(dm, f"question {number}")

    office.run(office.catch_up())

    assert office.texts() == [f"question {number}" for number in range(450)]
    assert len(office.calls()) == 3


def test_where_there_is_no_room_for_all_the_latest_are_refused(
    office: Office, workspace: Workspace
) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    office.be_away()
    for number in range(3):
        workspace.say(dm, f"question {number}")
    small = Inbox(database=office.database, owner="test", retention_hours=2.0, queue_limit=2)

    office.run(office.catch_up(inbox=small))

    found = [(each.question.text, each.is_refused) for each in office.inbox.lease(100)]
    assert found == [("question 2", True), ("question 0", False)]


def test_an_endless_conversation_has_an_end(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    office.be_away()
    for number in range(1_100):
        workspace.say(dm, f"question {number}")

    office.run(office.catch_up())

    assert len(office.calls()) == 5
    assert office.inbox.counts().waiting == 1_000
    assert _records(caplog, "long conversation not wholly caught up")


def test_an_edited_question_is_asked_as_it_is_now(office: Office, workspace: Workspace) -> None:
    channel = workspace.add_channel()
    office.answer(channel)
    office.be_away()
    edited = workspace.say(channel, f"{workspace.mention} hwo?")
    deleted = workspace.say(channel, f"{workspace.mention} never mind")
    workspace.edit(channel, edited, f"{workspace.mention} how?")
    workspace.delete(channel, deleted)

    office.run(office.catch_up())

    assert office.texts() == ["how?"]


def test_what_was_found_is_told_without_its_text(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    channel = workspace.add_channel()
    office.answer(channel)
    office.be_away()
    workspace.say(channel, f"{workspace.mention} a secret")

    office.run(office.catch_up())

    (told,) = _records(caplog, "caught up")
    assert (told["questions"], told["places"]) == (1, 2)
    assert told["seconds"] == pytest.approx(STEP_SECONDS)
    assert "secret" not in caplog.text


# --- what is not -----------------------------------------------------------------------------


def test_what_is_not_for_us_is_let_be(office: Office, workspace: Workspace) -> None:
    channel, group = workspace.add_channel(), workspace.add_mpim()
    root = office.answer(channel)
    office.answer(group)
    office.be_away()
    workspace.say(channel, "no mention")
    workspace.say(channel, "no mention", thread_ts=root)
    workspace.say(group, "no mention")
    workspace.say(channel, f"{workspace.mention} joined", subtype="channel_join")
    robot = workspace.add_user("robot", is_bot=True)
    workspace.say(channel, f"{workspace.mention} beep", user=robot)
    office.slack.post(channel, None, REPLY, question_id="q", part=0)
    workspace.say(workspace.add_channel("strange"), f"{workspace.mention} never seen")

    office.run(office.catch_up())

    assert office.texts() == []
    assert {call.args["channel"] for call in office.calls()} == {channel, group}


def test_what_was_answered_is_not_asked_again(office: Office, workspace: Workspace) -> None:
    channel = workspace.add_channel()
    root = office.answer(channel)
    office.answer(channel, thread_ts=root)
    office.be_away()

    office.run(office.catch_up())

    assert office.texts() == []


def test_an_event_that_comes_after_all_is_a_duplicate(office: Office, workspace: Workspace) -> None:
    channel = workspace.add_channel()
    workspace.say(channel, "a talk among people")
    office.answer(channel)
    office.be_away()
    workspace.say(channel, f"{workspace.mention} hello")
    office.run(office.catch_up())
    assert office.inbox.counts().waiting == 1

    with Line(workspace) as line:
        listener = Listener(
            links=line.links,
            inbox=office.inbox,
            reading=office.reading(),
            spans=Spans(),
        )
        line.run(listener.step)
        workspace.wait_for(lambda: workspace.acked_count == 2)

    assert listener.counts.duplicates == 2
    assert office.texts() == ["hello"]


@pytest.mark.parametrize(("later", "texts"), [(28 * 60.0, ["hello"]), (31 * 60.0, [])])
def test_a_question_can_be_too_old(
    office: Office, workspace: Workspace, later: float, texts: list[str]
) -> None:
    channel = workspace.add_channel()
    root = office.answer(channel)
    workspace.say(channel, f"{workspace.mention} hello", thread_ts=root)
    office.be_away(6 * 3600.0)
    office.later = later

    office.run(office.catch_up())

    assert office.texts() == texts


def test_what_the_inbox_may_have_forgotten_is_not_asked(
    office: Office, workspace: Workspace
) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    workspace.say(dm, "hello")
    office.be_away(6 * 3600.0)
    office.later = 61 * 60.0

    office.run(office.catch_up(minutes=600.0, retention_hours=1.0))

    assert len(office.calls()) == 1
    assert office.texts() == []


@pytest.mark.parametrize(("later", "texts"), [(150.0, ["hello"]), (165.0, [])])
def test_what_came_long_before_the_last_link_is_let_be(
    office: Office, workspace: Workspace, later: float, texts: list[str]
) -> None:
    """Whoever was there then has seen it."""
    dm = workspace.open_dm()
    office.answer(dm)
    workspace.say(dm, "hello")
    office.be_away(100.0)
    office.later = later

    office.run(office.catch_up())

    assert len(office.calls()) == 1
    assert office.texts() == texts


def test_the_root_of_a_thread_is_too_old_where_its_replies_are_not(
    office: Office, workspace: Workspace
) -> None:
    """Slack shows it with every thread."""
    channel = workspace.add_channel()
    root = workspace.say(
        channel, f"{workspace.mention} long ago", extra={"ts": "1600000000.000100"}
    )
    office.answer(channel, thread_ts=root)
    workspace.say(channel, f"{workspace.mention} now", thread_ts=root)
    office.be_away()

    office.run(office.catch_up())

    assert office.texts() == ["now"]


def test_only_channels_that_are_allowed_are_read(office: Office, workspace: Workspace) -> None:
    allowed, other = workspace.add_channel("allowed"), workspace.add_channel("other")
    for channel in (allowed, other):
        office.answer(channel)
        workspace.say(channel, f"{workspace.mention} hello")
    office.be_away()

    office.run(office.catch_up(reading=office.reading(channels=frozenset({allowed}))))

    assert {call.args["channel"] for call in office.calls()} == {allowed}
    assert office.texts() == ["hello"]


# --- when ------------------------------------------------------------------------------------


def _prepare(office: Office) -> str:
    """Let there be a question that can be found; return where."""
    channel = office.workspace.add_channel()
    office.answer(channel)
    office.workspace.say(channel, f"{office.workspace.mention} hello")
    return channel


def test_a_fresh_database_has_missed_nothing(office: Office) -> None:
    _prepare(office)

    assert office.run(office.catch_up()) == 1
    assert office.calls() == []


def test_nothing_is_read_or_noted_without_a_link(office: Office) -> None:
    _prepare(office)
    office.be_away()
    office.is_up = False

    office.run(office.catch_up(), steps=5)

    assert not office.has_noted
    assert office.calls() == []


@pytest.mark.parametrize(("seconds", "texts"), [(25.0, []), (35.0, ["hello"])])
def test_a_quick_restart_reads_nothing(office: Office, seconds: float, texts: list[str]) -> None:
    _prepare(office)
    office.be_away(seconds)

    office.run(office.catch_up())

    assert office.texts() == texts
    assert bool(office.calls()) is bool(texts)


@pytest.mark.parametrize(("seconds", "texts"), [(295.0, []), (305.0, ["hello"])])
def test_later_slack_sends_again_what_came_in_a_short_outage(
    office: Office, seconds: float, texts: list[str]
) -> None:
    _prepare(office)
    catch_up = office.catch_up()
    catch_up.step()
    assert office.has_noted
    office.be_away(seconds)
    office.time += seconds

    office.run(catch_up)

    assert office.texts() == texts
    assert bool(office.calls()) is bool(texts)


def test_zero_minutes_turn_it_off(office: Office) -> None:
    _prepare(office)
    office.be_away()

    assert office.run(office.catch_up(minutes=0.0)) == 1
    assert office.calls() == []


def test_the_link_is_noted_once_in_fifteen_seconds(office: Office) -> None:
    catch_up = office.catch_up()
    noted = []
    for _ in range(10):
        elapse(office.database, 5.0)
        catch_up.step()
        office.time += 5.0
        noted.append(cast(float, office.seen_links.seen_ago()) < 2.0)

    assert noted == [True, False, False] * 3 + [True]


def test_it_is_not_done_twice(office: Office, workspace: Workspace) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    office.be_away()
    catch_up = office.catch_up()
    office.run(catch_up)
    assert len(office.calls()) == 1

    workspace.say(dm, "the listener's")
    for _ in range(100):
        catch_up.step()
        office.time += STEP_SECONDS

    assert len(office.calls()) == 1


# --- how fast, and what goes wrong -----------------------------------------------------------


def test_calls_are_few_and_far_between(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    channels = [workspace.add_channel(f"c{number}") for number in range(50)]
    for channel in channels:
        office.answer(channel)
        workspace.say(channel, f"{workspace.mention} in {channel}")
    office.be_away()
    catch_up = office.catch_up()
    made = []
    for _ in range(1_000):
        before = len(office.calls())
        catch_up.step()
        if len(office.calls()) > before:
            made.append(office.time)
        office.time += 0.5

    assert len(office.calls()) == len(made) == 60
    assert min(later - time for time, later in itertools.pairwise(made)) >= STEP_SECONDS
    (told,) = _records(caplog, "conversations left out of catching up")
    assert told["places"] == 40
    # Each has a channel and a thread; those used last come first.
    assert set(office.texts()) == {f"in {channel}" for channel in channels[20:]}


def test_a_refusal_for_now_is_obeyed(office: Office, workspace: Workspace) -> None:
    _prepare(office)
    office.be_away()
    workspace.set_limits(Limits.none().having("conversations.history", Rate(60, 1)))
    workspace.faults.add("conversations.history", retry_after=20)
    catch_up = office.catch_up()
    catch_up.step()
    office.time += 19.9
    catch_up.step()

    assert len(office.calls()) == 1
    assert not office.has_noted

    office.time += 0.2
    workspace.set_limits(Limits.none())
    catch_up.step()
    assert len(office.calls()) == 2

    office.run(catch_up)
    assert len(office.calls()) == 3
    assert office.texts() == ["hello"]


def test_it_goes_on_where_it_was_when_slack_was_away(office: Office, workspace: Workspace) -> None:
    dms = [workspace.open_dm(workspace.add_user(f"user {number}")) for number in range(5)]
    for dm in dms:
        office.answer(dm)
        workspace.say(dm, f"in {dm}")
    office.be_away()
    catch_up = office.catch_up()
    office.run(catch_up, steps=2)
    workspace.go_down()
    for _ in range(20):
        catch_up.step()
        office.time += 10.0
    assert not office.has_noted

    workspace.come_up()
    office.run(catch_up)

    assert sorted(office.texts()) == sorted(f"in {dm}" for dm in dms)
    read = [call.args["channel"] for call in office.calls()]
    assert sorted(read) == sorted(dms)


def test_one_conversation_that_always_fails_holds_up_no_other(
    office: Office, workspace: Workspace
) -> None:
    dms = [workspace.open_dm(workspace.add_user(f"user {number}")) for number in range(3)]
    for dm in dms:
        office.answer(dm)
        workspace.say(dm, f"in {dm}")
    workspace.faults.add(
        "conversations.history",
        when=lambda args: args["channel"] == dms[2],
        times=None,
        status=500,
    )
    office.be_away()
    catch_up = office.catch_up()
    for _ in range(100):
        catch_up.step()
        office.time += 40.0

    assert sorted(office.texts()) == sorted(f"in {dm}" for dm in dms[:2])
    assert office.has_noted
    assert len(office.calls()) == 60


def test_a_channel_that_is_gone_is_passed_over(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    channel, gone = workspace.add_channel("here"), workspace.add_channel("gone")
    office.answer(channel)
    workspace.say(channel, f"{workspace.mention} hello")
    office.answer(gone)
    office.answer(gone)
    workspace.kick_bot(gone)
    office.be_away()

    office.run(office.catch_up())

    assert office.texts() == ["hello"]
    assert [call.args["channel"] for call in office.calls()].count(gone) == 1
    (told,) = _records(caplog, "conversation not caught up")
    assert told["channel"] == gone
    assert "not_in_channel" in told["error"]


def test_a_missing_scope_leaves_the_rest(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    channel, dm = workspace.add_channel(), workspace.open_dm()
    office.answer(channel)
    office.answer(dm)
    workspace.say(dm, "hello")
    workspace.set_scopes({"im:history"})
    office.be_away()

    office.run(office.catch_up())

    assert office.texts() == ["hello"]
    assert "channels:history" in _records(caplog, "conversation not caught up")[0]["error"]


def test_a_thread_that_is_gone_leaves_its_channel(office: Office, workspace: Workspace) -> None:
    channel = _prepare(office)
    workspace.faults.add("conversations.replies", error="thread_not_found")
    root = office.answer(channel)
    workspace.say(channel, f"{workspace.mention} more", thread_ts=root)
    office.be_away()

    office.run(office.catch_up())

    assert office.texts() == ["hello"]
    assert [call.method for call in office.calls()] == [
        "conversations.history",
        "conversations.replies",
        "conversations.replies",
    ]


def test_a_token_that_is_refused_is_for_a_person_to_mend(
    office: Office, workspace: Workspace
) -> None:
    _prepare(office)
    office.be_away()
    workspace.revoke_token()

    with pytest.raises(ConfigurationError, match="SLACK_BOT_TOKEN"):
        office.catch_up().step()


def test_a_link_lost_meanwhile_for_long_has_all_read_again(
    office: Office, workspace: Workspace
) -> None:
    dms = [workspace.open_dm(workspace.add_user(f"user {number}")) for number in range(3)]
    for dm in dms:
        office.answer(dm)
    office.be_away()
    catch_up = office.catch_up()
    office.run(catch_up, steps=2)
    office.is_up = False
    for _ in range(31):
        catch_up.step()
        office.time += 10.0
    for dm in dms:
        workspace.say(dm, f"in {dm}")
    office.is_up = True

    office.run(catch_up)

    assert sorted(office.texts()) == sorted(f"in {dm}" for dm in dms)


def test_a_death_halfway_leaves_the_whole_of_it_to_the_next_one(
    office: Office, workspace: Workspace
) -> None:
    dms = [workspace.open_dm(workspace.add_user(f"user {number}")) for number in range(3)]
    for dm in dms:
        office.answer(dm)
        workspace.say(dm, f"in {dm}")
    office.be_away()
    office.run(office.catch_up(), steps=2)

    office.run(office.catch_up())

    assert sorted(office.texts()) == sorted(f"in {dm}" for dm in dms)


def test_a_database_that_cannot_be_written_is_waited_for(
    office: Office, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """What came meanwhile was not stored, hence not acked."""
    dm = workspace.open_dm()
    office.answer(dm)
    workspace.say(dm, "hello")
    office.be_away()
    catch_up = office.catch_up()
    office.database.close()
    for _ in range(50):
        catch_up.step()
        office.time += 10.0
    assert office.calls() == []

    office.database.open()
    office.run(catch_up)

    assert office.texts() == ["hello"]
    assert len(_records(caplog, "catching up put off")) <= 1


@pytest.mark.parametrize(
    ("later", "texts", "calls"),
    [(0.0, ["hello"], 2), (700.0, [], 1)],
    ids=["before its finds are stored", "before its end is noted"],
)
def test_a_database_lost_while_reading_asks_nothing_twice(
    office: Office, workspace: Workspace, later: float, texts: list[str], calls: int
) -> None:
    dm = workspace.open_dm()
    office.answer(dm)
    workspace.say(dm, "hello")
    office.be_away()
    office.later = later
    held = workspace.faults.add("conversations.history", hold="after")
    catch_up = office.catch_up()
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(catch_up.step)
        workspace.wait_for(lambda: held.count)
        office.database.close()
        held.release()
        step.result(DEADLINE)
    office.database.open()
    office.time += 40.0

    office.run(catch_up)

    assert office.texts() == texts
    assert len(office.calls()) == calls
