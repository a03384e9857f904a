"""`make chaos`: real processes that die, freeze and restart, and whether every answer is right."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from tests.chaos import report
from tests.chaos.logs import lines_in
from tests.chaos.plan import Plan, draw
from tests.chaos.storm import run
from tests.chaos.verdict import Fault, judge

_QUESTIONS = 800
#: How long to wait at the end for what a process may still write that was frozen; seconds.
_QUIET_SECONDS = 25.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Play a storm, print what came of it, and return the exit code."""
    options = _options(arguments)
    plan = draw(options.seed, options.questions, options.engine)
    sys.stderr.write(_announcement(plan))
    with ExitStack() as parts:
        parts.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt))
        directory = options.keep or Path(
            parts.enter_context(tempfile.TemporaryDirectory(prefix="chatrelaybot-chaos-"))
        )
        # The processes work in it.
        directory = directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        for old in (*directory.glob("process-*.log"), *directory.glob("inbox.sqlite3*")):
            old.unlink()
        evidence = run(
            plan,
            directory=directory,
            quiet_seconds=options.quiet,
            is_blind=options.blind,
            tell=_tell if options.verbose else lambda _: None,
        )
        verdict, lines = judge(evidence.fates), lines_in(directory)
    for block in (*report.blocks(verdict, evidence, lines), *report.oddities(evidence, lines)):
        sys.stdout.write(f"{block}\n")
    if summary := report.log_summary(lines):
        sys.stdout.write(f"in the logs, for a person to look into:\n{summary}\n")
    sys.stdout.write(report.table(verdict, evidence))
    if options.blind:
        return 0 if verdict.count(Fault.DOUBLED) else 1
    return 0 if verdict.is_good else 1


def _announcement(plan: Plan) -> str:
    faults = ", ".join(f"{count} {kind}" for kind, count in plan.counts.items())
    return (
        f"{len(plan.askings)} questions in {plan.conversation_count} conversations, "
        f"{plan.process_count} process(es) on {plan.engine}, {plan.seconds:.0f} s and what it "
        f"takes to settle; faults: {faults}\n"
    )


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Leave through all `finally`, so that no process stays behind."""
    raise SystemExit(128 + number)


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="another seed: another storm"
    )
    parser.add_argument(
        "--questions", type=_count, default=_QUESTIONS, metavar="N", help="faults are in proportion"
    )
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument(
        "--quiet", type=float, default=_QUIET_SECONDS, metavar="SECONDS", help="wait at the end"
    )
    parser.add_argument(
        "--blind",
        action="store_true",
        help="the bot cannot find its messages: doubles must be seen",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep the logs and the inbox there"
    )
    parser.add_argument("--verbose", action="store_true", help="tell what happens as it does")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
