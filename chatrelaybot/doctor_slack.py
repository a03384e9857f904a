"""The doctor's look at the bot token: whose it is, what it may do, and what time it is at Slack."""

from __future__ import annotations

from collections.abc import Iterable

from chatrelaybot import install, slack_probe
from chatrelaybot.doctor_findings import Finding, failed, ok, skipped, warning, wrong
from chatrelaybot.errors import ConfigurationError, TransientError
from chatrelaybot.slack_errors import Refusal
from chatrelaybot.slack_probe import Heard

BOT_TOKEN = "bot token"  # noqa: S105 - the name of a check
SCOPES = "scopes"
CLOCK = "clock"

APPS = "api.slack.com/apps"
_METHOD = "auth.test"
#: Longest wait for an answer; seconds.
_TIMEOUT = 6.0
#: A clock that is so far off makes catching up miss questions, and TLS and leases err; seconds.
_FAR_OFF = 60.0
_OFF = 5.0


def introduce(token: str, *, api_url: str, user_id: str | None) -> tuple[Finding, Heard | None]:
    """Ask Slack whose the token is; `user_id` is what SLACK_BOT_USER_ID says."""
    try:
        heard = slack_probe.call(_METHOD, token=token, api_url=api_url, timeout=_TIMEOUT)
    except ConfigurationError as error:
        return wrong(BOT_TOKEN, error), None
    except TransientError as error:
        return failed(BOT_TOKEN, f"Slack does not answer ({error})", unreachable()), None
    if heard.refusal is not None:
        return _refused(heard.refusal), heard
    return _introduced(heard, user_id), heard


def unreachable() -> str:
    """Say what to do about a Slack that does not answer."""
    return "look at the network, at HTTPS_PROXY, and at SLACK_API_URL where it is set"


def is_introduced(heard: Heard | None) -> bool:
    """Tell whether Slack takes the token."""
    return heard is not None and heard.refusal is None


def scopes(heard: Heard | None, needs: install.Needs) -> Finding:
    """Compare what was granted with what is needed."""
    if heard is None or heard.refusal is not None:
        return skipped(SCOPES, f"needs a {BOT_TOKEN} that Slack takes")
    if heard.scopes is None:
        return skipped(SCOPES, "Slack did not tell the scopes, as a proxy may do")
    needed = install.scopes(needs)
    missing = [scope for scope in needed if scope.name not in heard.scopes]
    superfluous = heard.scopes - {scope.name for scope in needed}
    if missing:
        losses = "; ".join(f"no {scope.name}: {scope.loss}" for scope in missing)
        is_vital = any(scope.is_vital for scope in missing)
        return (failed if is_vital else warning)(
            SCOPES,
            losses,
            f"{APPS} → the app → OAuth & Permissions → Scopes: add "
            f"{_listed(scope.name for scope in missing)}, and reinstall the app",
        )
    return ok(
        SCOPES,
        f"all {len(needed)} that are needed",
        f"not needed, and may be taken away: {_listed(superfluous)}" if superfluous else "",
    )


def clock(heard: Heard | None) -> Finding:
    """Compare this machine's clock with Slack's."""
    if heard is None:
        return skipped(CLOCK, "needs an answer of Slack's")
    if heard.clock_ahead is None:
        return skipped(CLOCK, "Slack did not tell its time, as a proxy may do")
    seconds = abs(heard.clock_ahead)
    if seconds <= _OFF:
        return ok(CLOCK, f"within {_OFF:.0f} s of Slack's")
    direction = "ahead of" if heard.clock_ahead > 0 else "behind"
    fact = f"this machine is {seconds:.0f} s {direction} Slack"
    mend = "let the machine set its clock by NTP (timedatectl set-ntp true)"
    return (failed if seconds > _FAR_OFF else warning)(CLOCK, fact, mend)


def _introduced(heard: Heard, user_id: str | None) -> Finding:
    data = heard.data
    if not data.get("bot_id"):
        return wrong(
            BOT_TOKEN,
            ConfigurationError(
                "SLACK_BOT_TOKEN",
                "it is not the token of a bot",
                f"{APPS} → the app → OAuth & Permissions: copy the Bot User OAuth Token",
            ),
        )
    fact = f"@{data.get('user')} in {data.get('team')} ({data.get('team_id')})"
    if user_id and user_id != data.get("user_id"):
        fact += f", whose id is {data.get('user_id')} and not {user_id}"
        return warning(BOT_TOKEN, fact, "leave SLACK_BOT_USER_ID empty: Slack tells it")
    return ok(BOT_TOKEN, f"{fact}, in {heard.seconds:.2f} s")


def _refused(refusal: Refusal) -> Finding:
    error = refusal.error()
    if isinstance(error, ConfigurationError):
        return wrong(BOT_TOKEN, error)
    if isinstance(error, TransientError) and error.retry_after:
        return failed(BOT_TOKEN, str(error), f"try again in {error.retry_after:.0f} s")
    return failed(BOT_TOKEN, f"Slack's answer is of no use ({error})", unreachable())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
