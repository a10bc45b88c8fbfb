"""Which prompts are drawn: a floor that nobody can lower, and above it the rules of each server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from bot.errors import PromptRefused
from bot.moderation.floor import Floor
from bot.moderation.prompt_rules import RuleAction, ServerRules
from bot.moderation.words import Reading
from bot.prompt.options import JobOptions

NAMES = ("sampler", "checkpoint")
"""Fields that name something of the bot's own; every other text of a job reaches a model."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """About a job that is not refused."""

    held: str | None = None
    """Why a moderator has to look at it first, for moderators."""
    note: str | None = None
    """What its author is told beside the answer."""


class PromptRules:
    def __init__(self, servers: ServerRules, extra_words: Iterable[str] = ()) -> None:
        self._servers = servers
        self._floor = Floor(extra_words)

    async def judge(self, guild_id: int | None, options: JobOptions) -> Ruling:
        """By the floor, and by the server's rules; direct messages have none. Raises PromptRefused naming the word."""
        self.require_floor(options)
        matches = () if guild_id is None else await self._servers.matches(guild_id, tuple(texts(options)))
        if not matches:
            return Ruling()
        severest = matches[0]
        match severest.rule.action:
            case RuleAction.BLOCK:
                raise PromptRefused(f"{severest.sentence} Nothing was queued.")
            case RuleAction.HOLD:
                held = f"Rule {severest.rule.id} holds “{severest.rule.pattern}”."
                return Ruling(held, f"{severest.sentence} A moderator has to look at it before it is drawn.")
            case RuleAction.WARN:
                return Ruling(note=severest.sentence)

    def require_floor(self, options: JobOptions) -> None:
        """Raises PromptRefused naming the word."""
        for reading in map(Reading.of, texts(options)):
            self._floor.check(reading)


def texts(options: JobOptions) -> Iterator[str]:
    """Every text of a job that reaches a model, whatever fields there are by now."""
    for name, value in msgspec.structs.asdict(options).items():
        if name not in NAMES:
            yield from _within(value)


def _within(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case msgspec.Struct():
            yield from _within(list(msgspec.structs.asdict(value).values()))
        case dict():
            yield from _within([*value, *value.values()])
        case list() | tuple() | set() | frozenset():
            for inner in value:
                yield from _within(inner)
