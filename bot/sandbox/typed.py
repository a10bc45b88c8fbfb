"""Reads a slash command as people type it: `/imagine prompt: a red apple seed: 7`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.sandbox.commands import OptionType
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.model import Json

_NESTED = (OptionType.SUB_COMMAND, OptionType.SUB_COMMAND_GROUP)


@dataclass(frozen=True, slots=True)
class TypedCommand:
    name: str
    subcommand: str | None
    options: dict[str, str]


def parse_command(text: str, commands: Sequence[Json]) -> TypedCommand:
    """`text` begins with a slash; `commands` are those on offer. Raises SandboxRefusal with a sentence."""
    name, _, rest = text.removeprefix("/").strip().partition(" ")
    command = next((command for command in commands if command["name"] == name), None)
    if command is None:
        raise SandboxRefusal(f"There is no command named /{name} to use here.")
    declared: list[Json] = command["options"]
    subcommand: list[str] = []
    while any(option["type"] in _NESTED for option in declared):
        word, _, rest = rest.strip().partition(" ")
        found = next((option for option in declared if option["name"] == word), None)
        if found is None:
            names = ", ".join(option["name"] for option in declared)
            raise SandboxRefusal(f"/{' '.join([name, *subcommand])} needs one of: {names}.")
        subcommand.append(word)
        declared = found.get("options") or []
    free, options = named_values(rest, [option["name"] for option in declared])
    if free:
        options = {_first_text(name, free, declared, options): free, **options}
    return TypedCommand(name, " ".join(subcommand) or None, options)


def named_values(text: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """What stands before the first `name:`, and the text after each; a value runs up to the next known name."""
    if not names:
        return text.strip(), {}
    known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    parts = re.split(rf"(?:^|(?<=\s))({known}):\s*", text.strip())
    values: dict[str, str] = {}
    for name, value in zip(parts[1::2], parts[2::2], strict=True):
        if name in values:
            raise SandboxRefusal(f"{name} is given twice.")
        values[name] = value.strip()
    return parts[0].strip(), values


def _first_text(command: str, free: str, declared: list[Json], given: dict[str, str]) -> str:
    """The option that text without a name fills: the first text option, as long as it is open."""
    if unknown := re.match(r"([-\w]+):", free):
        raise SandboxRefusal(f"/{command} has no option named {unknown[1]}.")
    texts = [option["name"] for option in declared if option["type"] == OptionType.STRING]
    if not texts or texts[0] in given:
        raise SandboxRefusal(f"/{command} does not know what to do with “{free}”.")
    return str(texts[0])
