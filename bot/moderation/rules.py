"""Which prompts are drawn: a floor that nobody can lower, and above it the rules of each server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from bot.moderation.floor import Floor
from bot.moderation.words import Reading
from bot.prompt.options import JobOptions

NAMES = ("sampler", "checkpoint")
"""Fields that name something of the bot's own; every other text of a job reaches a model."""


class PromptRules:
    """The floor of one bot, ready to check prompts. Stateless, so one object serves everyone."""

    def __init__(self, extra_words: Iterable[str] = ()) -> None:
        self._floor = Floor(extra_words)

    def check(self, options: JobOptions) -> None:
        """Raises PromptRefused naming the word."""
        for reading in map(Reading.of, texts(options)):
            self._floor.check(reading)


def texts(options: JobOptions) -> Iterator[str]:
    """Every text of a job that reaches a model, whatever fields there are by now."""
    fields: dict[str, Any] = msgspec.structs.asdict(options)
    for name, value in fields.items():
        if name not in NAMES:
            yield from _within(msgspec.to_builtins(value, builtin_types=(bytes,)))


def _within(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from _within(key)
                yield from _within(inner)
        case list() | tuple() | set() | frozenset():
            for inner in value:
                yield from _within(inner)
