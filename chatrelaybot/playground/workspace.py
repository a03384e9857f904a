"""The workspace as one object: what people do, what there is to see, and what goes wrong.

    with Workspace() as slack:
        channel = slack.add_channel()
        ts = slack.say(channel, f"{slack.mention} hello")
        slack.wait_for(lambda: slack.replies(channel, ts))

All of it may be used from any thread; see `board` for how that is kept safe.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from aiohttp import web

from chatrelaybot.playground.access import BOT_SCOPES, Access
from chatrelaybot.playground.board import Board
from chatrelaybot.playground.courier import Courier
from chatrelaybot.playground.faults import Faults
from chatrelaybot.playground.limits import Limits, RateGate
from chatrelaybot.playground.links import Cut, Shape
from chatrelaybot.playground.people import Announcements, People
from chatrelaybot.playground.reading import Reading
from chatrelaybot.playground.server import Server
from chatrelaybot.playground.socket_mode import Opening, Reason, SocketMode
from chatrelaybot.playground.store import Identity, Store
from chatrelaybot.playground.view import View
from chatrelaybot.playground.web_api import Method, WebApi
from chatrelaybot.playground.writing import Writing

#: What the app is told of. Without message.channels it hears of mentions only.
SUBSCRIPTIONS = frozenset({"app_mention", "message.im", "message.mpim"})
#: The bot and its app. Ids look like Slack's, and no two of different kinds are alike.
_IDS = {
    "user_id": "U000000000P",
    "bot_id": "B000000000P",
    "team_id": "T000000000P",
    "app_id": "A000000000P",
}


@dataclass(kw_only=True, eq=False)
class Workspace(View):
    """A Slack workspace with one app, this bot, on a port of the loopback interface.

    The fields are the constructor's arguments. Durations are seconds.
    """

    port: int = 0  #: where it listens; 0: a free port, which `start` puts here
    limits: Limits = field(default_factory=Limits)
    latency: float = 0.0  #: what each Web API call takes, half before and half after its effect
    clock_ahead: float = 0.0  #: how far its clock is ahead of this machine's
    bot_name: str = "chatrelaybot"
    scopes: Collection[str] = BOT_SCOPES  #: what the bot token was granted
    subscriptions: Collection[str] = SUBSCRIPTIONS  #: the events that the app is told of
    emoji: Collection[str] | None = None  #: names to react with; None: all well-formed ones
    ack_seconds: float = 3.0  #: after how long without an ack an event is sent again
    redelivery: Sequence[float] = (0.0, 60.0, 300.0)  #: the waits before each further try
    resume_seconds: float = 1.0  #: until a link that came up gets what waited for one
    ping_seconds: float = 10.0  #: how often Slack pings each link
    idle_seconds: float = 75.0  #: after how long an idle HTTP connection is closed
    routes: Sequence[web.RouteDef] = ()  #: what else the HTTP server answers

    def __post_init__(self) -> None:
        self.identity = Identity(name=self.bot_name, **_IDS)
        self._server = Server(port=self.port, idle_seconds=self.idle_seconds)
        self._board = Board(call_soon=self._server.call_soon)
        self._store = Store(board=self._board, identity=self.identity)
        self._access = Access(scopes=self.scopes)
        self._gate = RateGate(self.limits)
        #: Faults of the Web API.
        self.faults = Faults(board=self._board, call_soon=self._server.call_soon)
        self._courier = self._new_courier()
        self._links = SocketMode(
            board=self._board,
            identity=self.identity,
            courier=self._courier,
            link_url=lambda: f"ws://127.0.0.1:{self.port}/link",
            ping_seconds=self.ping_seconds,
        )
        announcements = Announcements(
            store=self._store, courier=self._courier, subscriptions=self.subscriptions
        )
        self._web_api = self._new_web_api(announcements)
        self._bring_in_people(announcements)
        self.subscribe = self._board.subscribe

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen; raises OSError where the port is taken."""
        self._server.start(
            [
                web.route("*", "/api/{method}", self._web_api.answer),
                web.get("/link", self._links.connect),
                *self.routes,
            ]
        )
        self.port = self._server.port

    def close(self) -> None:
        """Cut all connections, and stop."""
        if self._server.is_running:
            self.faults.clear()
            self._server.run(self._links.close())
            self._server.close()

    # Who is who.

    @property
    def api_url(self) -> str:
        """The base of the Web API."""
        return f"http://127.0.0.1:{self.port}/api/"

    @property
    def bot_token(self) -> str:
        return self._access.bot_token

    @property
    def app_token(self) -> str:
        return self._access.app_token

    @property
    def mention(self) -> str:
        """What stands where a person mentions the bot."""
        return self.identity.mention

    @property
    def bot_user_id(self) -> str:
        return self.identity.user_id

    @property
    def bot_id(self) -> str:
        return self.identity.bot_id

    @property
    def team_id(self) -> str:
        return self.identity.team_id

    @property
    def app_id(self) -> str:
        return self.identity.app_id

    # What goes wrong.

    def cut_link(self, how: Cut = "close_frame", *, number: int | None = None) -> None:
        """Lose one link, or every one.

        close_frame: Slack says good-bye. fin: the connection ends without a word. reset: it ends
        with RST. silence: nothing is read, answered or sent any more. no_pong: events still
        come, pings are not answered.
        """
        self._server.call_soon(self._links.cut, how, number)

    def warn_disconnect(
        self,
        reason: Reason = "warning",
        *,
        close_after: float | None = None,
        number: int | None = None,
    ) -> None:
        """Send `disconnect` on one link, or on every one; close it `close_after` seconds later."""
        self._server.call_soon(self._links.disconnect, reason, close_after, number)

    def refuse_links(self, times: int = 1, *, status: int = 409) -> None:
        """Refuse the next handshakes."""
        self.plan_links(times, status=status)

    def plan_links(
        self,
        times: int = 1,
        *,
        delay: float = 0.0,
        status: int | None = None,
        says_hello: bool = True,
        disconnect: Reason | None = None,
        cut: Cut | None = None,
    ) -> None:
        """Say how the next links begin; `Opening` explains the arguments."""
        opening = Opening(
            delay=delay, status=status, says_hello=says_hello, disconnect=disconnect, cut=cut
        )
        self._links.plan(opening, times)

    def shape_envelopes(
        self, times: int = 1, *, fragments: int = 1, stall_seconds: float = 0.0
    ) -> None:
        """Write the next envelopes in several frames, or stop in the middle of the first one."""
        self._links.shape(Shape(fragments, stall_seconds), times)

    def go_down(self) -> None:
        """Cut all connections and refuse new ones, as in an outage."""
        self._server.stop_listening()

    def come_up(self) -> None:
        """End the outage."""
        self._server.listen_again()

    def revoke_token(
        self,
        *,
        which: Literal["bot", "app"] = "bot",
        error: str = "token_revoked",
    ) -> None:
        """Refuse a token from now on; `error` may also be account_inactive or token_expired."""
        with self._board:
            self._access.revoke(self.bot_token if which == "bot" else self.app_token, error)

    def set_limits(self, limits: Limits) -> None:
        """Put other rate limits in force."""
        with self._board:
            self._gate.change(limits)

    def set_scopes(self, scopes: Collection[str], *, which: Literal["bot", "app"] = "bot") -> None:
        """Grant a token these scopes and no others."""
        with self._board:
            if which == "bot":
                self._access.scopes = frozenset(scopes)
            else:
                self._access.app_scopes = frozenset(scopes)

    def _new_courier(self) -> Courier:
        return Courier(
            board=self._board,
            identity=self.identity,
            call_soon=self._server.call_soon,
            ack_seconds=self.ack_seconds,
            redelivery=self.redelivery,
            resume_seconds=self.resume_seconds,
        )

    def _new_web_api(self, announcements: Announcements) -> WebApi:
        store, access = self._store, self._access
        writing = Writing(store=store, access=access, announcer=announcements, emoji=self.emoji)
        reading = Reading(store=store, access=access, url="https://playground.slack.com/")
        connect = Method(self._links.open_ticket, scope="connections:write", is_for_app_token=True)
        return WebApi(
            board=self._board,
            access=access,
            gate=self._gate,
            faults=self.faults,
            methods={
                **reading.methods(),
                **writing.methods(),
                "apps.connections.open": connect,
            },
            latency=self.latency,
            clock_ahead=self.clock_ahead,
        )

    def _bring_in_people(self, announcements: Announcements) -> None:
        people = People(
            board=self._board,
            store=self._store,
            courier=self._courier,
            announcements=announcements,
        )
        self.add_user, self.open_dm = people.add_user, people.open_dm
        self.add_channel, self.add_mpim = people.add_channel, people.add_mpim
        self.say, self.burst, self.send_event = people.say, people.burst, people.send_event
        self.edit, self.delete = people.edit, people.delete
        self.archive = people.archive
        self.kick_bot, self.invite_bot = people.kick_bot, people.invite_bot
