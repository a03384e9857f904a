"""The verdict in words: a table, and a block for each question with a fault. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from chatrelaybot.playground.web_api import Call
from tests.chaos.evidence import Evidence
from tests.chaos.logs import Line, about, troubles
from tests.chaos.verdict import Fate, Fault, Finding, Verdict, part_of

KINDS = ("kill", "freeze", "deploy", "link", "slack", "database")
#: Kinds of entries that stand in the table only where there are any.
_UNUSUAL = ("ended by itself", "did not stop")
#: Blocks, and lines of each section of a block, that are told at most.
_MOST_BLOCKS, _MOST_ODDITIES, _MOST_LINES = 20, 3, 60
_WIDTH = 60
#: The number of the part in the metadata of a post.
_PART = re.compile(r"part\W+(-?\d+)")


def table(verdict: Verdict, evidence: Evidence) -> str:
    """Return the table."""
    happened = Counter(entry.kind for entry in evidence.entries)
    refused = sum(call.status == 429 for call in evidence.calls)
    handed_over = verdict.questions - verdict.not_handed_over
    calls = evidence.backend_calls / handed_over if handed_over else 0.0
    rows: list[tuple[str, object]] = [
        ("questions", verdict.questions),
        ("answered once", verdict.answered_once),
        *((fault.value, verdict.count(fault)) for fault in Fault),
        ("not handed over", verdict.not_handed_over),
        *((f"fault: {kind}", happened[kind]) for kind in KINDS),
        *((f"process {kind}", happened[kind]) for kind in _UNUSUAL if happened[kind]),
        ("events redelivered", happened["redelivered"]),
        ("orders promised", verdict.ordered_pairs),
        ("posts under way at kills", happened["post under way at a kill"]),
        ("finals overwritten a while", sum(fate.was_overwritten for fate in evidence.fates)),
        ("reactions left behind", sum(fate.has_reaction for fate in evidence.fates)),
        ("messages of no question", len(evidence.strays)),
        ("calls of Slack", len(evidence.calls)),
        ("calls refused (429)", refused),
        ("backend calls a question", f"{calls:.2f}"),
        ("longest until the final", f"{verdict.longest_seconds:.1f} s"),
        ("seconds", f"{evidence.seconds:.0f}"),
    ]
    return "".join(f"{name:<26}{value!s:>9}\n" for name, value in rows)


def blocks(verdict: Verdict, evidence: Evidence, lines: Sequence[Line]) -> Iterator[str]:
    """Yield one block for each question that something is wrong with."""
    found: dict[str, list[Finding]] = {}
    for finding in verdict.findings:
        found.setdefault(finding.fate.asked.id, []).append(finding)
    for findings in list(found.values())[:_MOST_BLOCKS]:
        yield "\n".join(_block(findings, evidence, lines)) + "\n"
    if len(found) > _MOST_BLOCKS:
        yield f"… and {len(found) - _MOST_BLOCKS} more questions\n"


def oddities(evidence: Evidence, lines: Sequence[Line]) -> Iterator[str]:
    """Yield one block for each question that has a reaction of the bot's to its end; no fault."""
    for fate in [fate for fate in evidence.fates if fate.has_reaction][:_MOST_ODDITIES]:
        told = ["── a reaction was left behind", *_known_of(fate, evidence, lines)]
        yield "\n".join(told) + "\n"


def log_summary(lines: Sequence[Line]) -> str:
    """Return what a person should look into in the logs."""
    counts = troubles(lines)
    return "".join(f"{count:5} × {words}\n" for words, count in counts.most_common())


def _block(findings: Sequence[Finding], evidence: Evidence, lines: Sequence[Line]) -> Iterator[str]:
    for finding in findings:
        yield f"── {finding.fault.value}: {finding.words}"
    yield from _known_of(findings[0].fate, evidence, lines)
    for finding in findings:
        if finding.earlier is not None:
            yield "   and the earlier one:"
            yield from _known_of(finding.earlier, evidence, lines)


def _known_of(fate: Fate, evidence: Evidence, lines: Sequence[Line]) -> Iterator[str]:
    asked, start = fate.asked, evidence.started_at
    thread = f", thread {asked.thread_ts}" if asked.thread_ts else ", direct"
    moments = {"asked": asked.at, "sent": fate.sent_at, "acked": fate.acked_at}
    told = [f"{name} {_clock(at, start)}" for name, at in moments.items()]
    yield f"   question {asked.number}  {asked.id}"
    yield f"   conversation {asked.conversation}: channel {asked.channel}{thread}, ts {asked.ts}"
    yield f"   {', '.join(told)}, in the inbox {fate.row}"
    yield from _section("messages", _messages(fate, start))
    yield from _section("calls", _calls(fate, evidence.calls, start))
    yield from _section("meanwhile", _meanwhile(fate, evidence))
    yield from _section("log lines", [str(line) for line in about(lines, asked.id)])


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"   {title}: {len(lines)}"
    if len(lines) > _MOST_LINES:
        yield f"      … the last {_MOST_LINES}:"
    yield from (f"      {line}" for line in lines[-_MOST_LINES:])


def _messages(fate: Fate, start: float) -> list[str]:
    lines = []
    for message in fate.messages:
        end = f", deleted {_clock(message.deleted_at, start)}" if message.deleted else ""
        lines.append(f"{message.ts}  part {part_of(message)}{end}")
        lines += [
            f"   {_clock(version.at, start)}  {len(version.shown):6} characters  "
            f"{version.shown[:_WIDTH]!r}"
            for version in message.versions
        ]
    return lines


def _calls(fate: Fate, calls: Sequence[Call], start: float) -> list[str]:
    written = {message.ts for message in fate.messages}
    return [_call(call, start) for call in calls if _concerns(call, fate, written)]


def _concerns(call: Call, fate: Fate, written: set[str]) -> bool:
    args, asked = call.args, fate.asked
    if args.get("channel") != asked.channel:
        return False
    if call.method == "chat.postMessage":
        return asked.id in str(args.get("metadata"))
    if call.method == "conversations.replies":
        return args.get("ts") == asked.thread_ts and args.get("oldest") == asked.ts
    if call.method == "conversations.history":
        return args.get("oldest") == asked.ts
    return args.get("ts") in written or args.get("timestamp") == asked.ts


def _call(call: Call, start: float) -> str:
    ended = _clock(call.done_at, start)
    outcome = call.error or (call.status if call.done_at is None or call.status else "cut")
    about = _about(call.args)
    return f"{_clock(call.at, start)} – {ended}  {call.method}  {about}  {outcome}"


def _about(args: Mapping[str, object]) -> str:
    named = [str(args[name]) for name in ("ts", "timestamp", "name") if args.get(name)]
    if args.get("metadata"):
        named.append(f"part {''.join(_PART.findall(str(args['metadata'])))}")
    if args.get("blocks"):
        named.append(f"{len(str(args['blocks']))} characters of blocks")
    return " ".join(named).replace("\n", " ")


def _meanwhile(fate: Fate, evidence: Evidence) -> list[str]:
    """Return what befell the processes, the links and the database in the time of a question."""
    moments = [version.at for message in fate.messages for version in message.versions]
    end = max(moments, default=math.inf)
    return [
        f"{_clock(entry.at, evidence.started_at)}  {entry.kind}  {entry.words}"
        for entry in evidence.entries
        if fate.asked.at - 1.0 <= entry.at <= end + 1.0 and entry.kind != "redelivered"
    ]


def _clock(at: float | None, start: float) -> str:
    return "never" if at is None else f"{at - start:.3f}"
