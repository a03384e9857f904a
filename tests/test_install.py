"""What the bot asks of Slack: scopes, events, and the manifest in YAML and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from chatrelaybot import install, install_yaml
from chatrelaybot.errors import ConfigurationError
from chatrelaybot.install import Needs
from chatrelaybot.playground.access import BOT_SCOPES
from chatrelaybot.playground.workspace import SUBSCRIPTIONS
from tests.program import run


def _map(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


def _names(most: int) -> dict[str, Any]:
    item = {"type": "string", "minLength": 1, "maxLength": 50}
    return {"type": "array", "items": item, "maxItems": most, "uniqueItems": True}


_FLAG = {"type": "boolean"}
#: The fields and limits of https://docs.slack.dev/reference/app-manifest, as far as we use them.
_SCHEMA = _map(
    ["display_information"],
    display_information=_map(
        ["name"],
        name={"type": "string", "minLength": 1, "maxLength": 35},
        description={"type": "string", "minLength": 1, "maxLength": 140},
    ),
    features=_map(
        [],
        app_home=_map(
            [],
            home_tab_enabled=_FLAG,
            messages_tab_enabled=_FLAG,
            messages_tab_read_only_enabled=_FLAG,
        ),
        bot_user=_map(
            ["display_name"],
            display_name={"type": "string", "pattern": "^[a-z0-9._-]{1,80}$"},
            always_online=_FLAG,
        ),
    ),
    oauth_config=_map([], scopes=_map([], bot=_names(255))),
    settings=_map(
        [],
        event_subscriptions=_map([], bot_events=_names(100)),
        interactivity=_map(["is_enabled"], is_enabled=_FLAG),
        org_deploy_enabled=_FLAG,
        socket_mode_enabled=_FLAG,
        token_rotation_enabled=_FLAG,
    ),
)


@pytest.mark.parametrize("has_reaction", [True, False])
@pytest.mark.parametrize("has_channels", [True, False])
@pytest.mark.parametrize("has_direct", [True, False])
def test_a_manifest_keeps_slacks_rules(
    has_reaction: bool, has_channels: bool, has_direct: bool
) -> None:
    needs = Needs(has_reaction=has_reaction, has_channels=has_channels, has_direct=has_direct)

    jsonschema.validate(install.manifest(needs), _SCHEMA)


def test_a_manifest_turns_on_what_the_bot_lives_by_and_nothing_else() -> None:
    manifest: Any = install.manifest(Needs())

    settings, home = manifest["settings"], manifest["features"]["app_home"]
    assert settings["socket_mode_enabled"]
    assert not settings["org_deploy_enabled"]
    assert not settings["token_rotation_enabled"]
    assert not settings["interactivity"]["is_enabled"]
    assert home["messages_tab_enabled"]
    assert not home["messages_tab_read_only_enabled"]


def test_the_local_workspace_grants_just_what_the_manifest_asks_for() -> None:
    needs = Needs()

    assert {scope.name for scope in install.scopes(needs)} == BOT_SCOPES
    assert {event.name for event in install.events(needs)} == SUBSCRIPTIONS


@pytest.mark.parametrize(
    "needs",
    [Needs(), Needs(has_channels=False), Needs(has_direct=False), Needs(has_reaction=False)],
)
def test_every_event_has_the_scope_that_slack_wants_for_it(needs: Needs) -> None:
    granted = {scope.name for scope in install.scopes(needs)}

    assert {event.scope for event in install.events(needs)} <= granted


@pytest.mark.parametrize(
    ("reaction", "channels", "lacking"),
    [
        (None, (), {"reactions:write"}),
        ("eyes", ("C1", "C2"), {"im:history"}),
        (
            "eyes",
            ("D1",),
            {"app_mentions:read", "channels:history", "groups:history", "mpim:history"},
        ),
        ("eyes", ("C1", "D1"), set()),
    ],
)
def test_what_the_settings_do_not_need_is_not_asked_for(
    reaction: str | None, channels: tuple[str, ...], lacking: set[str]
) -> None:
    needs = Needs.of(busy_reaction=reaction, channels=channels)

    assert BOT_SCOPES - {scope.name for scope in install.scopes(needs)} == lacking


@pytest.mark.parametrize("name", ["ChatRelayBot", 'A "B" \\ C: # ✓', "no", "Ünï 🎉", "-", "'x'"])
def test_yaml_says_the_same_as_json(name: str) -> None:
    manifest = install.manifest(Needs(), name=name)

    text = install_yaml.write(manifest, remarks=install.remarks(Needs()))

    assert yaml.safe_load(text) == json.loads(json.dumps(manifest))


def test_yaml_says_what_each_scope_and_event_is_for() -> None:
    text = install_yaml.write(install.manifest(Needs()), remarks=install.remarks(Needs()))

    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("- ")]
    assert len(lines) == len(BOT_SCOPES) + len(SUBSCRIPTIONS)
    assert all("  # " in line for line in lines)


@pytest.mark.parametrize(
    ("name", "bot_name"),
    [("Häns Bot", "h-ns-bot"), ("  Ask me ", "ask-me"), ("東京", "chatrelaybot")],
)
def test_the_bots_own_name_has_only_characters_that_slack_takes(name: str, bot_name: str) -> None:
    manifest: Any = install.manifest(Needs(), name=name)

    assert manifest["display_information"]["name"] == name.strip()
    assert manifest["features"]["bot_user"]["display_name"] == bot_name


@pytest.mark.parametrize("name", ["", "  ", "x" * 36, "a\nb", "a\u2028b", "\ud800"])
def test_a_name_that_slack_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--name: .*35"):
        install.manifest(Needs(), name=name)


class TestTheCommand:
    def test_needs_no_settings(self, tmp_path: Path) -> None:
        result = run(["manifest"], tmp_path)

        assert (result.code, result.err) == (0, "")
        assert yaml.safe_load(result.out) == install.manifest(Needs())

    def test_writes_json_with_a_name_for_these_settings(self, tmp_path: Path) -> None:
        result = run(
            ["manifest", "--json", "--name", "Ask me"], tmp_path, SLACK_BUSY_REACTION="off"
        )

        needs = Needs(has_reaction=False)
        assert json.loads(result.out) == install.manifest(needs, name="Ask me")

    def test_refuses_a_name_in_one_line(self, tmp_path: Path) -> None:
        result = run(["manifest", "--name", "x" * 36], tmp_path)

        assert (result.code, result.out) == (78, "")
        assert result.err.startswith("chatrelaybot: --name: ")
        assert result.err.count("\n") == 1
