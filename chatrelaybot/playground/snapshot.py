"""The workspace in words, for whoever waited in vain. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from chatrelaybot.playground.courier import Delivery
from chatrelaybot.playground.messages import StoredMessage
from chatrelaybot.playground.socket_mode import LinkState
from chatrelaybot.playground.web_api import Call

#: How many of the newest of each kind are told.
_COUNT = 20
#: Characters of a message that are told.
_WIDTH = 100


def describe(
    channels: Mapping[str, Sequence[StoredMessage]],
    calls: Sequence[Call],
    deliveries: Sequence[Delivery],
    links: Sequence[LinkState],
) -> str:
    """Tell the newest of everything."""
    return "\n".join(
        [
            *_section("links", [_link(link) for link in links]),
            *_section("events without an ack", [_event(d) for d in deliveries if not d.acks]),
            *_section("calls", [_call(call) for call in calls]),
            *(
                line
                for channel, messages in channels.items()
                for line in _section(f"messages in {channel}", [_message(m) for m in messages])
            ),
        ]
    )


def _section(title: str, lines: Sequence[str]) -> Iterable[str]:
    yield f"{title}: {len(lines)}"
    if len(lines) > _COUNT:
        yield f"  … the last {_COUNT}:"
    yield from (f"  {line}" for line in lines[-_COUNT:])


def _link(link: LinkState) -> str:
    return f"{link.number} {'open' if link.is_open else 'closed'}"


def _event(delivery: Delivery) -> str:
    event = delivery.event
    words = (event.get("type"), event.get("subtype"), event.get("channel"), event.get("ts"))
    told = " ".join(str(word) for word in words if word)
    return f"{delivery.event_id} {told} sent {len(delivery.sends)} times"


def _call(call: Call) -> str:
    outcome = "running" if call.done_at is None else call.error or call.status or "cut"
    where = " ".join(str(call.args[name]) for name in ("channel", "ts") if name in call.args)
    return f"{call.at:.3f} {call.method} {where} {outcome}"


def _message(message: StoredMessage) -> str:
    marks = f" in {message.thread_ts}" if message.thread_ts else ""
    marks += " deleted" if message.deleted else ""
    marks += "".join(f" :{name}:" for name in message.reactions)
    text = textwrap.shorten(message.shown, _WIDTH, placeholder=" …")
    return f"{message.ts}{marks} {message.user} ({len(message.versions)} versions) {text!r}"
