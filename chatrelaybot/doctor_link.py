"""The doctor's look at Socket Mode: one short link, opened as the bot opens its own.

Slack counts it among the app's ten, and may send an envelope over it. None is acked, so that
Slack sends it again, and the link is closed as soon as Slack has said hello.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from chatrelaybot import slack_probe
from chatrelaybot.doctor_findings import Finding, failed, ok, skipped, warning, wrong
from chatrelaybot.doctor_slack import APPS, unreachable
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.link_session import Ended, Hello, Leaving, Link, Notice, Received
from chatrelaybot.link_socket import Dialer
from chatrelaybot.slack_errors import OPEN_LINK, Refusal

APP_TOKEN = "app token"  # noqa: S105 - the name of a check
LINK = "link"
INSTANCES = "instances"

#: Longest waits: for the Web API; for each step of connecting; for the hello. Seconds.
_TIMEOUT = 6.0
_CONNECT_SECONDS = 4.0
_HELLO_SECONDS = 6.0
#: A hello that takes longer than this is worth a word; seconds.
_SLOW_SECONDS = 3.0
_SOCKET_MODE = f"{APPS} → the app → Socket Mode: turn it on"
_TRY_AGAIN = f"try again; if it stays so, {_SOCKET_MODE}"
_NEW_TOKEN = f"{APPS} → the app → Basic Information → App-Level Tokens: make one with "


@dataclass(frozen=True, slots=True)
class Offer:
    """The address of a link, which holds a ticket for it."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Greeting:
    """Slack's hello."""

    connection_count: int | None  #: links of the app, ours included


def open_link(app_token: str, *, api_url: str) -> tuple[Finding, Offer | None]:
    """Ask for the address of a link."""
    try:
        heard = slack_probe.call(OPEN_LINK, token=app_token, api_url=api_url, timeout=_TIMEOUT)
    except ConfigurationError as error:
        return wrong(APP_TOKEN, error), None
    except TransientError as error:
        return failed(APP_TOKEN, f"Slack does not answer ({error})", unreachable()), None
    if heard.refusal is not None:
        return _refused(heard.refusal), None
    return ok(APP_TOKEN, "Slack takes it, with connections:write"), Offer(
        str(heard.data.get("url"))
    )


def greet(offer: Offer) -> tuple[Finding, Greeting | None]:
    """Open the link, wait for the hello, and close it."""
    notices: SimpleQueue[Notice] = SimpleQueue()
    envelopes: SimpleQueue[Received] = SimpleQueue()
    began = time.monotonic()
    try:
        connection = Dialer(timeout=_CONNECT_SECONDS).dial(offer.url)
    except ConfigurationError as error:
        return wrong(LINK, error), None
    except TransientError as error:
        return failed(LINK, str(error), "let this machine reach wss-*.slack.com, port 443"), None
    link = Link(
        url=offer.url,
        connection=connection,
        deliver=envelopes.put,
        notify=notices.put,
        clock=time.monotonic,
        ping_seconds=_HELLO_SECONDS,
    )
    with closing(link):
        link.connect()
        try:
            notice = notices.get(timeout=_HELLO_SECONDS)
        except Empty:
            return failed(LINK, f"no hello within {_HELLO_SECONDS:.0f} s", _TRY_AGAIN), None
    seconds = time.monotonic() - began
    if isinstance(notice, Hello):
        return _greeted(seconds, envelopes.qsize()), Greeting(notice.connection_count)
    return _turned_away(notice), None


def instances(
    greeting: Greeting | None, *, is_shared: bool, alive_count: int | None, runs_here: bool
) -> Finding:
    """Say who else has links to the app; `runs_here`: one of them is the bot of this machine.

    `alive_count` instances use the database; None: it does not tell.
    """
    if greeting is None or greeting.connection_count is None:
        return skipped(INSTANCES, f"needs Slack's hello over a {LINK}")
    count = greeting.connection_count - 1
    if count <= 0:
        return ok(INSTANCES, "no other process has a link to the app")
    others = f"{count} other {'link' if count == 1 else 'links'} to the app"
    if is_shared:
        return _sharing(others, count, alive_count)
    if runs_here and count == 1:
        return ok(INSTANCES, f"{others}: the bot that runs here")
    mend = (
        "Slack spreads questions over all links, and an SQLite file has one owner: if it is not "
        "this bot itself, stop it, or give all instances one PostgreSQL (DATABASE_URL)"
    )
    return warning(INSTANCES, others, mend)


def _sharing(others: str, count: int, alive_count: int | None) -> Finding:
    if alive_count is None:
        return skipped(INSTANCES, f"{others}; needs the database to tell whose")
    if count <= alive_count:
        return ok(INSTANCES, f"{others}: instances on one PostgreSQL share its questions")
    mend = (
        "Slack spreads questions over all links: stop what uses the app token beside them, or "
        "give it the same DATABASE_URL (for a moment, a link that is renewed counts twice)"
    )
    return warning(INSTANCES, f"{others}, but instances on this database: {alive_count}", mend)


def _greeted(seconds: float, envelope_count: int) -> Finding:
    fact = f"Slack said hello after {seconds:.2f} s"
    if envelope_count:
        fact += f"; {envelope_count} event(s) came along, which Slack sends again"
    if seconds > _SLOW_SECONDS:
        return warning(LINK, fact, "look at the network, or at the proxy")
    return ok(LINK, fact)


def _refused(refusal: Refusal) -> Finding:
    if refusal.code == "missing_scope":
        problem, mend = "it lacks connections:write", f"{_NEW_TOKEN}connections:write"
        return wrong(APP_TOKEN, ConfigurationError("SLACK_APP_TOKEN", problem, mend))
    error = refusal.error()
    if isinstance(error, ConfigurationError):
        mend = f"{_NEW_TOKEN}connections:write, of the same app as the bot token"
        return wrong(APP_TOKEN, ConfigurationError("SLACK_APP_TOKEN", error.problem, mend))
    if isinstance(error, TransientError) and error.retry_after:
        return failed(APP_TOKEN, str(error), f"try again in {error.retry_after:.0f} s")
    return failed(APP_TOKEN, f"Slack gives no address of a link ({error})", _SOCKET_MODE)


def _turned_away(notice: Leaving | Ended) -> Finding:
    if notice.reason == "link_disabled":
        return failed(LINK, "Socket Mode is off (link_disabled)", _SOCKET_MODE)
    if notice.reason == "too_many_websockets":
        mend = "an app may have 10 links: stop other processes that use its app token"
        return failed(LINK, "there are too many links (too_many_websockets)", mend)
    return failed(LINK, f"Slack refused the link ({notice.reason})", _TRY_AGAIN)
