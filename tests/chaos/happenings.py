"""The things of a plan made to happen. Each method is called by the one thread of its kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from chatrelaybot.playground.exchange import question_id
from chatrelaybot.playground.workspace import Workspace
from tests.chaos.backend import answer_to, question
from tests.chaos.fleet import Slot
from tests.chaos.inboxes import Inbox
from tests.chaos.journal import Journal
from tests.chaos.places import Place
from tests.chaos.plan import POST_SECONDS, Asking, Cut, Outage, Plan, Redelivery, Strike, Trouble
from tests.chaos.verdict import Asked

#: How long the answer to a post is held back, for a kill to come in between; seconds.
_HELD_SECONDS = 1.0
#: Of these, how many pass until the kill at most.
_HELD_SHARE = 0.7
#: How long Slack keeps a link that it has warned of; seconds.
_WARNED_SECONDS = 0.5


class Happenings:
    """What happens in a storm. `asked` grows while it goes on."""

    def __init__(
        self,
        plan: Plan,
        *,
        workspace: Workspace,
        inbox: Inbox,
        places: list[Place],
        journal: Journal,
        leaving: threading.Event,
    ) -> None:
        self._plan = plan
        self._workspace = workspace
        self._inbox = inbox
        self._places = places
        self._journal = journal
        self._leaving = leaving
        self.asked: dict[int, Asked] = {}

    def ask(self, asking: Asking) -> None:
        """Let somebody ask a question."""
        workspace, place = self._workspace, self._places[asking.conversation]
        words = question(self._plan.seed, asking.number)
        is_direct = place.thread_ts is None
        at = time.monotonic()
        ts = workspace.say(
            place.channel,
            words if is_direct else f"{workspace.mention} {words}",
            thread_ts=place.thread_ts,
            twin=asking.is_twin and not is_direct,
        )
        self.asked[asking.number] = Asked(
            number=asking.number,
            id=question_id(team_id=workspace.team_id, channel=place.channel, ts=ts),
            conversation=asking.conversation,
            channel=place.channel,
            thread_ts=place.thread_ts,
            ts=ts,
            at=at,
            text=answer_to(words).text,
        )

    def redeliver(self, redelivery: Redelivery) -> None:
        """Send the event of a question once more, if it was sent at all."""
        asked = self.asked.get(redelivery.number)
        if asked is None:  # This machine is so busy that it was not asked yet.
            return
        for delivery in self._workspace.deliveries_of(asked.channel, asked.ts)[:1]:
            if delivery.sends:
                self._workspace.send_event(delivery.event, event_id=delivery.event_id)
                self._journal.note("redelivered", f"question {asked.number}")

    def trouble(self, trouble: Trouble) -> None:
        """Let Slack fail."""
        self._workspace.faults.add(trouble.method, **trouble.fault)
        told = ", ".join(f"{name}={value}" for name, value in trouble.fault.items())
        self._journal.note("slack", f"{trouble.method}: {told}")

    def cut(self, cut: Cut) -> None:
        """Let the links fail."""
        match cut.how:
            case "warning" | "refresh_requested" as reason:
                self._workspace.warn_disconnect(reason, close_after=_WARNED_SECONDS)
            case how:
                self._workspace.cut_link(how)
        self._journal.note("link", cut.how)

    def outage(self, outage: Outage) -> None:
        """Let the database be away."""
        self._journal.note("database", f"away for {outage.seconds:.1f} s")
        self._inbox.go_away(outage.seconds, self._leaving)
        self._journal.note("database back")

    def strike(self, strike: Strike, slot: Slot) -> None:
        """Let something befall a process, and see that it is at work again."""
        blows: dict[str, Callable[[Strike, Slot], None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "deploy": self._deploy,
        }
        blows[strike.blow](strike, slot)

    def _kill(self, strike: Strike, slot: Slot) -> None:
        posts = self._wait_for_a_post() if strike.is_in_post else None
        slot.kill()
        self._journal.note("kill", f"process {slot.name}")
        if posts:
            self._journal.note("post under way at a kill", f"{posts} of whichever process")
        self._leaving.wait(strike.seconds)
        slot.start()

    def _wait_for_a_post(self) -> int:
        """Hold back the answers to posts until some have come; return how many have.

        Whose posts they are is not known, so with more processes more of them are waited for.
        """
        wanted = self._plan.process_count
        fault = self._workspace.faults.add(
            "chat.postMessage", answer_delay=_HELD_SECONDS, times=3 * wanted
        )
        self._wait_for(lambda: fault.count > 0, POST_SECONDS - _HELD_SECONDS)
        self._wait_for(lambda: fault.count > wanted, _HELD_SECONDS * _HELD_SHARE)
        self._workspace.faults.remove(fault)
        return fault.count

    def _wait_for(self, is_so: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_so() and time.monotonic() < end:
            self._leaving.wait(0.01)

    def _freeze(self, strike: Strike, slot: Slot) -> None:
        slot.freeze()
        self._journal.note("freeze", f"process {slot.name} for {strike.seconds:.1f} s")
        try:
            self._leaving.wait(strike.seconds)
        finally:
            slot.thaw()
            self._journal.note("thaw", f"process {slot.name}")
        if strike.kill_after is not None:
            self._leaving.wait(strike.kill_after)
            slot.kill()
            self._journal.note("kill", f"process {slot.name}, just thawed")
            slot.start()

    def _deploy(self, strike: Strike, slot: Slot) -> None:
        words = ", its successor is there" if strike.is_overlapping else ""
        self._journal.note("deploy", f"process {slot.name}{words}")
        if not slot.replace(is_overlapping=strike.is_overlapping):
            self._journal.note("did not stop", f"process {slot.name}")
