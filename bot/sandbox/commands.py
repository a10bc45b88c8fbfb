"""Application commands: what the bot registered, globally and for the guild, and who may use which."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

from bot.sandbox.errors import DiscordError, FormErrors, Refusal
from bot.sandbox.events import CommandsChanged
from bot.sandbox.model import Channel, Json
from bot.sandbox.permissions import Permission
from bot.sandbox.world import World

MAX_COMMANDS = 100
_NAME = re.compile(r"[-_'\w]{1,32}")
_GUILD_CONTEXT, _BOT_DM_CONTEXT = 0, 1


class CommandType(IntEnum):
    SLASH = 1
    MESSAGE = 3
    """In the menu of a message."""


class OptionType(IntEnum):
    SUB_COMMAND = 1
    SUB_COMMAND_GROUP = 2
    STRING = 3
    INTEGER = 4
    BOOLEAN = 5
    USER = 6
    CHANNEL = 7
    ROLE = 8
    MENTIONABLE = 9
    NUMBER = 10
    ATTACHMENT = 11


class Commands:
    """Registered commands by scope: None is global, otherwise the guild's id."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._scopes: dict[int | None, dict[int, Json]] = {None: {}, world.guild.id: {}}
        self._named_by_guild: dict[str, list[Json]] = {}

    def listed(self, scope: int | None) -> list[Json]:
        return list(self._commands(scope).values())

    def get(self, scope: int | None, command_id: int) -> Json:
        """Raises DiscordError 10063."""
        command = self._commands(scope).get(command_id)
        if command is None:
            raise DiscordError(Refusal.UNKNOWN_COMMAND)
        return command

    def overwrite(self, scope: int | None, bodies: Any) -> list[Json]:
        """Replace all commands of a scope; those of an equal name keep their id. Raises DiscordError 50035."""
        errors = FormErrors()
        if not isinstance(bodies, list):
            errors.add("", "BASE_TYPE_BAD_TYPE", "Only iterables may be used in a ListType.")
            errors.raise_if_any()
        errors.count("", len(bodies), 0, MAX_COMMANDS)
        for index, body in enumerate(bodies):
            _check_command(errors, f"{index}.", body)
        names = [(body.get("type", 1), body.get("name")) for body in bodies]
        for index, name in enumerate(names):
            if name in names[:index]:
                errors.add(f"{index}.name", "APPLICATION_COMMANDS_DUPLICATE_NAME", "Command names must be unique")
        errors.raise_if_any()
        fresh = [self._stored(scope, body) for body in bodies]
        self._scopes[scope] = {int(command["id"]): command for command in fresh}
        self._world.emit(CommandsChanged())
        return fresh

    def put(self, scope: int | None, body: Json) -> tuple[Json, bool]:
        """Create a command or replace the one of that name; the flag says whether it is new."""
        errors = FormErrors()
        _check_command(errors, "", body)
        errors.raise_if_any()
        is_new = self._named(scope, body) is None
        command = self._stored(scope, body)
        self._commands(scope)[int(command["id"])] = command
        self._world.emit(CommandsChanged())
        return command, is_new

    def patch(self, scope: int | None, command_id: int, body: Json) -> Json:
        command = self.get(scope, command_id)
        errors = FormErrors()
        _check_command(errors, "", command | body)
        errors.raise_if_any()
        command |= body | {"version": str(self._world.snowflake())}
        self._world.emit(CommandsChanged())
        return command

    def delete(self, scope: int | None, command_id: int) -> None:
        self.get(scope, command_id)
        del self._commands(scope)[command_id]
        self._world.emit(CommandsChanged())

    def name_allowed(self, command: str, entries: list[Json]) -> None:
        """What an administrator does in the guild's settings, Integrations: entries of `id`, `type`, `permission`."""
        self._named_by_guild[command] = entries

    def permissions(self, command_id: int) -> Json:
        """What the guild's settings say of a command. Raises DiscordError 10063, or 10066 where they say nothing."""
        command = self.get(None, command_id)
        if command["name"] not in self._named_by_guild:
            raise DiscordError(Refusal.UNKNOWN_COMMAND_PERMISSIONS)
        return {
            "id": command["id"],
            "application_id": command["application_id"],
            "guild_id": str(self._world.guild.id),
            "permissions": self._named_by_guild[command["name"]],
        }

    def usable(self, user_id: int, channel: Channel, kind: CommandType = CommandType.SLASH) -> list[Json]:
        """Commands that Discord would offer this user in this channel; guild commands shadow global ones."""
        granted = self._world.permissions(user_id, channel)
        if Permission.USE_APPLICATION_COMMANDS not in granted:
            return []
        in_guild = channel.guild_id is not None
        if in_guild and self._world.bot.id not in self._world.guild.members:
            return []
        scopes: Iterable[int | None] = (None, channel.guild_id) if in_guild else (None,)
        by_name = {c["name"]: c for scope in scopes for c in self.listed(scope) if c["type"] == kind}
        return [command for command in by_name.values() if _offered(command, granted, channel)]

    def _commands(self, scope: int | None) -> dict[int, Json]:
        if scope not in self._scopes:
            raise DiscordError(Refusal.MISSING_ACCESS)
        return self._scopes[scope]

    def _named(self, scope: int | None, body: Json) -> Json | None:
        same = (c for c in self.listed(scope) if (c["name"], c["type"]) == (body["name"], body.get("type", 1)))
        return next(same, None)

    def _stored(self, scope: int | None, body: Json) -> Json:
        existing = self._named(scope, body)
        command: Json = {
            "id": existing["id"] if existing else str(self._world.snowflake()),
            "application_id": str(self._world.application_id),
            "version": str(self._world.snowflake()),
            "type": body.get("type", 1),
            "name": body["name"],
            "name_localizations": body.get("name_localizations"),
            "description": body.get("description", ""),
            "description_localizations": body.get("description_localizations"),
            "options": body.get("options") or [],
            "default_member_permissions": body.get("default_member_permissions"),
            "dm_permission": body.get("dm_permission", True),
            "contexts": body.get("contexts"),
            "integration_types": body.get("integration_types") or [0],
            "nsfw": bool(body.get("nsfw")),
        }
        return command | {"guild_id": str(scope)} if scope is not None else command


def _offered(command: Json, granted: Permission, channel: Channel) -> bool:
    contexts = command["contexts"]
    if channel.guild_id is None:
        allowed = command["dm_permission"] is not False if contexts is None else _BOT_DM_CONTEXT in contexts
        return allowed and not command["nsfw"]
    if contexts is not None and _GUILD_CONTEXT not in contexts:
        return False
    if command["nsfw"] and not channel.nsfw:
        return False
    needed = command["default_member_permissions"]
    if needed is None or Permission.ADMINISTRATOR in granted:
        return True
    # "0" means administrators only.
    return int(needed) != 0 and Permission(int(needed)) in granted


def _check_command(errors: FormErrors, path: str, body: Json) -> None:
    kind = body.get("type", 1)
    name = body.get("name")
    if not isinstance(name, str):
        errors.required(f"{path}name")
    elif kind == 1 and (not _NAME.fullmatch(name) or name != name.lower()):
        errors.add(f"{path}name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
    if kind == 1:
        errors.length(f"{path}description", str(body.get("description") or ""), 1, 100)
        _check_options(errors, f"{path}options", body.get("options") or [], depth=0)


def _check_options(errors: FormErrors, path: str, options: list[Json], depth: int) -> None:
    errors.count(path, len(options), 0, 25)
    optional_seen = False
    names = set()
    for index, option in enumerate(options):
        here = f"{path}.{index}"
        name = str(option.get("name") or "")
        if not _NAME.fullmatch(name) or name != name.lower():
            errors.add(f"{here}.name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
        if name in names:
            errors.add(
                f"{here}.name",
                "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS",
                "Option name already exists for this command",
            )
        names.add(name)
        errors.length(f"{here}.description", str(option.get("description") or ""), 1, 100)
        kind = option.get("type")
        if kind not in list(OptionType):
            errors.add(f"{here}.type", "BASE_TYPE_CHOICES", "Value must be one of (1..11).")
        elif kind in (OptionType.SUB_COMMAND, OptionType.SUB_COMMAND_GROUP):
            if depth + (kind == OptionType.SUB_COMMAND) > 2:
                errors.add(here, "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "Sub-commands are nested too deeply")
            _check_options(errors, f"{here}.options", option.get("options") or [], depth + 1)
        elif option.get("required"):
            if optional_seen:
                errors.add(
                    here,
                    "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID",
                    "Required options must be placed before non-required options",
                )
        else:
            optional_seen = True
        _check_choices(errors, here, option)


def _check_choices(errors: FormErrors, path: str, option: Json) -> None:
    choices = option.get("choices") or []
    errors.count(f"{path}.choices", len(choices), 0, 25)
    for index, choice in enumerate(choices):
        errors.length(f"{path}.choices.{index}.name", str(choice.get("name") or ""), 1, 100)
    if choices and option.get("autocomplete"):
        errors.add(
            path, "APPLICATION_COMMAND_OPTIONS_CHOICES_AUTOCOMPLETE", "An option has either choices or autocomplete"
        )
