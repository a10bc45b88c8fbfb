"""From what a person typed, pressed or filled in to the `data` of an interaction, or to a sentence why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bot.sandbox.commands import OptionType
from bot.sandbox.components import SELECTS, Kind
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.model import Json, Member, Message, User
from bot.sandbox.world import World

MAX_STRING = 6000
MAX_INTEGER = 2**53


def command_data(world: World, command: Json, subcommand: str | None, values: Json, focused: str | None = None) -> Json:
    """Interaction data of a command, or of its autocomplete when `focused` names an option.

    `subcommand` is one word or, with a group, two. Raises SandboxRefusal with the sentence for the person.
    """
    path, declared = _subcommand(command, subcommand)
    builder = _Options(world, command["name"], autocomplete=focused)
    options = builder.build(declared, values)
    for kind, name in reversed(path):
        options = [{"name": name, "type": kind, "options": options}]
    data: Json = {"id": command["id"], "name": command["name"], "type": command["type"], "options": options}
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]
    return data | {"resolved": builder.resolved} if builder.resolved else data


def message_data(command: Json, message: Message) -> Json:
    """Interaction data of a command from the menu of a message."""
    target = str(message.id)
    data: Json = {key: command[key] for key in ("id", "name", "type", "guild_id") if key in command}
    return data | {"target_id": target, "resolved": {"messages": {target: message.json()}}}


def component_data(world: World, component: Json, values: list[str]) -> Json:
    """Interaction data of a click or a selection. Raises SandboxRefusal for a choice that is not offered."""
    data: Json = {key: component[key] for key in ("custom_id", "id")} | {"component_type": component["type"]}
    if component["type"] not in SELECTS:
        return data
    low, high = component.get("min_values", 1), component.get("max_values", 1)
    if not low <= len(values) <= high:
        raise SandboxRefusal(f"Choose from {low} to {high} entries.")
    if component["type"] != Kind.STRING_SELECT:
        return data | {"values": values, "resolved": _resolved(world, component["type"], values)}
    if not {option["value"] for option in component["options"]}.issuperset(values):
        raise SandboxRefusal("That choice is not in the list.")
    return data | {"values": values}


def modal_data(modal: Json, fields: dict[str, Any]) -> Json:
    """Interaction data of a form; `fields` are by custom id. Raises SandboxRefusal for a field that is not right."""
    return {"custom_id": modal["custom_id"], "components": _filled(modal["components"], fields)}


def _subcommand(command: Json, subcommand: str | None) -> tuple[list[tuple[int, str]], list[Json]]:
    path: list[tuple[int, str]] = []
    declared: list[Json] = command["options"]
    words = subcommand.split() if subcommand else []
    nested = (OptionType.SUB_COMMAND, OptionType.SUB_COMMAND_GROUP)
    while any(option["type"] in nested for option in declared):
        typed = f"/{' '.join([command['name'], *(name for _, name in path)])}"
        if not words:
            names = ", ".join(option["name"] for option in declared)
            raise SandboxRefusal(f"{typed} needs a subcommand: {names}.")
        word = words.pop(0)
        found = next((option for option in declared if option["name"] == word), None)
        if found is None:
            raise SandboxRefusal(f"{typed} has no subcommand named {word}.")
        path.append((found["type"], word))
        declared = found.get("options") or []
    if words:
        raise SandboxRefusal(f"/{command['name']} has no subcommand named {words[0]}.")
    return path, declared


class _Options:
    """Checks values against an option list and gathers the objects that ids refer to."""

    def __init__(self, world: World, command: str, autocomplete: str | None) -> None:
        self.resolved: Json = {}
        self._world = world
        self._command = command
        self._focused = autocomplete

    def build(self, declared: list[Json], values: Json) -> list[Json]:
        known = {option["name"] for option in declared}
        for name in values:
            if name not in known:
                raise SandboxRefusal(f"/{self._command} has no option named {name}.")
        built = []
        for option in declared:
            name = option["name"]
            value = values.get(name)
            if name == self._focused:
                # What stands in the focused field is unfinished, so it goes out as it was typed.
                typed = "" if value is None else value
                built.append({"name": name, "type": option["type"], "value": typed, "focused": True})
            elif value is None or (value == "" and option["type"] != OptionType.STRING):
                if option.get("required") and self._focused is None:
                    raise SandboxRefusal(f"The option {name} of /{self._command} is required.")
            else:
                built.append({"name": name, "type": option["type"], "value": self._value(option, value)})
        return built

    def _value(self, option: Json, value: Any) -> Any:
        kind = OptionType(option["type"])
        convert: dict[OptionType, Callable[[Json, Any], Any]] = {
            OptionType.STRING: self._string,
            OptionType.INTEGER: self._integer,
            OptionType.NUMBER: self._number,
            OptionType.BOOLEAN: self._boolean,
            OptionType.USER: self._user,
            OptionType.CHANNEL: self._channel,
            OptionType.ROLE: self._role,
            OptionType.MENTIONABLE: self._mentionable,
        }
        if kind not in convert:
            raise SandboxRefusal(f"The sandbox cannot fill the option {option['name']} yet.")
        converted = convert[kind](option, value)
        if choices := option.get("choices"):
            by_name = {choice["name"]: choice["value"] for choice in choices}
            if converted not in by_name.values():
                if str(value) not in by_name:
                    raise SandboxRefusal(f"{option['name']} must be one of {', '.join(by_name)}.")
                converted = by_name[str(value)]
        return converted

    def _string(self, option: Json, value: Any) -> str:
        text = str(value)
        low, high = option.get("min_length") or 0, option.get("max_length") or MAX_STRING
        if option.get("required") and not text:
            raise SandboxRefusal(f"The option {option['name']} of /{self._command} is required.")
        if not low <= len(text) <= high:
            raise SandboxRefusal(f"{option['name']} must have from {low} to {high} characters, not {len(text)}.")
        return text

    def _integer(self, option: Json, value: Any) -> int | str:
        try:
            number = int(value)
        except (TypeError, ValueError):
            if option.get("choices"):
                return str(value)
            raise SandboxRefusal(f"{option['name']} must be a whole number, not {value}.") from None
        self._within(option, number)
        return number

    def _number(self, option: Json, value: Any) -> float | str:
        try:
            number = float(value)
        except (TypeError, ValueError):
            if option.get("choices"):
                return str(value)
            raise SandboxRefusal(f"{option['name']} must be a number, not {value}.") from None
        self._within(option, number)
        return number

    def _within(self, option: Json, number: float) -> None:
        low = option.get("min_value", -MAX_INTEGER)
        high = option.get("max_value", MAX_INTEGER)
        if not (math.isfinite(number) and low <= number <= high):
            raise SandboxRefusal(f"{option['name']} must be from {low} to {high}, not {number}.")

    def _boolean(self, option: Json, value: Any) -> bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if str(value).lower() not in words:
            raise SandboxRefusal(f"{option['name']} must be true or false, not {value}.")
        return words[str(value).lower()]

    def _user(self, option: Json, value: Any) -> str:
        member = self._find_member(value)
        if member is None:
            raise SandboxRefusal(f"Nobody here is called {value}.")
        key = str(member.user.id)
        self.resolved.setdefault("users", {})[key] = member.user.json()
        self.resolved.setdefault("members", {})[key] = member.json(with_user=False) | {"permissions": "0"}
        return key

    def _channel(self, option: Json, value: Any) -> str:
        channels = self._world.guild.channels.values()
        wanted = str(value).lstrip("#")
        channel = next((c for c in channels if wanted in (str(c.id), c.name)), None)
        if channel is None:
            raise SandboxRefusal(f"There is no channel named {value}.")
        permissions = self._world.permissions(self._world.bot.id, channel)
        self.resolved.setdefault("channels", {})[str(channel.id)] = channel.json() | {
            "permissions": str(int(permissions))
        }
        return str(channel.id)

    def _role(self, option: Json, value: Any) -> str:
        roles = self._world.guild.roles.values()
        role = next((r for r in roles if str(value).removeprefix("@") in (str(r.id), r.name)), None)
        if role is None:
            raise SandboxRefusal(f"There is no role named {value}.")
        self.resolved.setdefault("roles", {})[str(role.id)] = role.json()
        return str(role.id)

    def _mentionable(self, option: Json, value: Any) -> str:
        return self._user(option, value) if self._find_member(value) else self._role(option, value)

    def _find_member(self, value: Any) -> Member | None:
        wanted = str(value).removeprefix("@")

        def names(user: User) -> tuple[str, str, str]:
            return str(user.id), user.username, user.display_name

        return next((m for m in self._world.guild.members.values() if wanted in names(m.user)), None)


def _resolved(world: World, kind: int, values: list[str]) -> Json:
    guild = world.guild
    resolved: Json = {}
    for value in values:
        key = int(value)
        if kind in (Kind.USER_SELECT, Kind.MENTIONABLE_SELECT) and (member := guild.members.get(key)):
            resolved.setdefault("users", {})[value] = member.user.json()
            resolved.setdefault("members", {})[value] = member.json(with_user=False) | {"permissions": "0"}
        elif kind in (Kind.ROLE_SELECT, Kind.MENTIONABLE_SELECT) and (role := guild.roles.get(key)):
            resolved.setdefault("roles", {})[value] = role.json()
        elif kind == Kind.CHANNEL_SELECT and (channel := guild.channels.get(key)):
            resolved.setdefault("channels", {})[value] = channel.json() | {"permissions": "0"}
        else:
            raise SandboxRefusal("That choice does not exist.")
    return resolved


def _filled(components: list[Json], fields: dict[str, Any]) -> list[Json]:
    """The submitted tree of a form: rows and labels as they were, with what the person put in."""
    filled: list[Json] = []
    for component in components:
        match component["type"]:
            case Kind.ACTION_ROW:
                filled.append(
                    {"type": 1, "id": component["id"], "components": _filled(component["components"], fields)}
                )
            case Kind.LABEL:
                inner = _filled([component["component"]], fields)[0]
                filled.append({"type": 18, "id": component["id"], "component": inner})
            case Kind.TEXT_DISPLAY:
                filled.append({"type": 10, "id": component["id"]})
            case Kind.TEXT_INPUT:
                filled.append(_field(component) | {"value": _text(component, fields)})
            case Kind.CHECKBOX:
                filled.append(_field(component) | {"value": bool(fields.get(component["custom_id"]))})
            case Kind.RADIO_GROUP:
                filled.append(_field(component) | {"value": fields.get(component["custom_id"])})
            case _:
                values = fields.get(component["custom_id"]) or []
                filled.append(_field(component) | {"values": values if isinstance(values, list) else [values]})
    return filled


def _field(component: Json) -> Json:
    return {key: component[key] for key in ("type", "id", "custom_id")}


def _text(component: Json, fields: dict[str, Any]) -> str:
    text = str(fields.get(component["custom_id"], component.get("value", "")))
    name = component.get("label") or component["custom_id"]
    low, high = component.get("min_length", 0), component.get("max_length", 4000)
    if component.get("required", True) and not text:
        raise SandboxRefusal(f"{name} is required.")
    if text and not low <= len(text) <= high:
        raise SandboxRefusal(f"{name} must have from {low} to {high} characters, not {len(text)}.")
    return text
