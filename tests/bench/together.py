"""Cases that wait for most of their time, several at once.

Under Slack's limits it is their budget that a bot waits for, and hardly the machine. Each case has
a load server and a process of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")

#: Cases at once.
_TOGETHER = 5


def run(
    measure: Callable[[Case, str], Result],
    cases: Iterable[tuple[Case, str]],
    *,
    rounds: int,
) -> dict[tuple[Case, str], Sequence[Result]]:
    """Measure each case with its contender as often as there are rounds; return all results."""
    wanted = list(cases)

    def told(number: int, case: Case, contender: str) -> Result:
        sys.stderr.write(f"  round {number + 1}: {case}, {contender}\n")
        return measure(case, contender)

    with ThreadPoolExecutor(_TOGETHER) as pool:
        # A round after the other, so that what disturbs one moment does not disturb one case.
        going = [
            (case, contender, pool.submit(told, number, case, contender))
            for number in range(rounds)
            for case, contender in wanted
        ]
        results: dict[tuple[Case, str], list[Result]] = {each: [] for each in wanted}
        for case, contender, future in going:
            results[case, contender].append(future.result())
    return dict(results)
