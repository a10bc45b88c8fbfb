"""The rules that a server's managers set for its prompts, above the floor that holds everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import re2
from sqlalchemy import func, select

from bot.errors import RuleNotFound, RuleRefused
from bot.moderation.audit import Deed, append
from bot.moderation.words import Reading, Words
from bot.storage import tables
from bot.storage.session import Database

LONGEST_PATTERN = 200
LONGEST_REASON = 200
LONGEST_FOUND = 60
"""Characters of a prompt that a sentence about it repeats."""
MOST_RULES = 100
"""Of one server."""
_MEMORY = 1 << 20
"""Bytes of one compiled pattern, which "(a{100}){100}" would pass."""

_rules = tables.prompt_rules


class RuleKind(StrEnum):
    LITERAL = "literal"
    """A word or phrase, found in disguise as well."""
    REGEX = "regex"
    """A regular expression of RE2, over what was written and over what it reads as."""


class RuleAction(StrEnum):
    BLOCK = "block"
    """The prompt is refused."""
    HOLD = "hold"
    """A moderator has to look at the prompt before it is drawn."""
    WARN = "warn"
    """The prompt is drawn, and its author is told."""


SEVEREST = (RuleAction.BLOCK, RuleAction.HOLD, RuleAction.WARN)


@dataclass(frozen=True, slots=True)
class NewRule:
    kind: RuleKind
    pattern: str
    action: RuleAction
    reason: str | None = None
    """What the author of a prompt is told."""


@dataclass(frozen=True, slots=True)
class Rule(NewRule):
    id: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    rule: Rule
    found: str
    """What the rule found in the prompt."""

    @property
    def sentence(self) -> str:
        """For the author."""
        against = f"A rule of this server is against “{self.found[:LONGEST_FOUND]}”"
        return f"{against}." if self.rule.reason is None else f"{against}: {self.rule.reason}"


class ServerRules:
    """Every change is one transaction with its entry in the audit log. Compiled rules stay in memory: nobody else
    writes to this database (bot.storage.lock)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._compiled: dict[int, tuple[_Compiled, ...]] = {}
        self._changes = 0

    async def of(self, guild_id: int) -> tuple[Rule, ...]:
        """Oldest first."""
        statement = select(_rules).where(_rules.c.guild_id == guild_id).order_by(_rules.c.id)
        async with self._database.read() as connection:
            return tuple(_rule_of(row) for row in await connection.execute(statement))

    async def add(self, guild_id: int, actor_id: int, new: NewRule) -> Rule:
        """Raises RuleRefused, with nothing changed, for a pattern that cannot work or one too many."""
        _compile(new)
        values = _values(new)
        there = select(func.count()).select_from(_rules).where(_rules.c.guild_id == guild_id)
        async with self._database.write() as connection:
            if (await connection.scalar(there) or 0) >= MOST_RULES:
                raise RuleRefused(f"A server can have {MOST_RULES} rules at most; remove one first.")
            row = _rules.insert().values(guild_id=guild_id, created_at=datetime.now(UTC), **values)
            rule_id = int((await connection.execute(row.returning(_rules.c.id))).scalar_one())
            deed = Deed(guild_id, actor_id, "rule.add", f"rule {rule_id}", after=values)
            await append(connection, self._database, deed)
        self._changed(guild_id)
        return Rule(id=rule_id, **values)

    async def remove(self, guild_id: int, actor_id: int, rule_id: int) -> Rule:
        """The rule as it was. Raises RuleNotFound."""
        statement = _rules.delete().where(_rules.c.guild_id == guild_id, _rules.c.id == rule_id).returning(_rules)
        async with self._database.write() as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                raise RuleNotFound(f"This server has no rule {rule_id}.")
            rule = _rule_of(row)
            deed = Deed(guild_id, actor_id, "rule.remove", f"rule {rule_id}", before=_values(rule))
            await append(connection, self._database, deed)
        self._changed(guild_id)
        return rule

    async def matches(self, guild_id: int, texts: Sequence[str]) -> tuple[Match, ...]:
        """Every rule of the server that one of the texts breaks, the severest first."""
        if (compiled := self._compiled.get(guild_id)) is None:
            changes = self._changes
            compiled = tuple(_compile(rule) for rule in await self.of(guild_id))
            if changes == self._changes:  # else they may be the rules of before
                self._compiled[guild_id] = compiled
        if not compiled:
            return ()
        readings = [(text, Reading.of(text)) for text in texts]
        found = [match for rule in compiled if (match := rule.match(readings)) is not None]
        return tuple(sorted(found, key=lambda match: SEVEREST.index(match.rule.action)))

    def _changed(self, guild_id: int) -> None:
        self._changes += 1
        self._compiled.pop(guild_id, None)


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    words: Words | None
    expression: Any

    def match(self, readings: Iterable[tuple[str, Reading]]) -> Match | None:
        for text, reading in readings:
            found = self.words.found(reading) if self.words else self._search(text) or self._search(reading.folded)
            if found is not None:
                return Match(self.rule, found)
        return None

    def _search(self, text: str) -> str | None:
        match = self.expression.search(text)
        return None if match is None else str(match.group())


def _compile(new: NewRule) -> _Compiled:
    rule = new if isinstance(new, Rule) else Rule(new.kind, new.pattern, new.action, new.reason)
    if not new.pattern.strip():
        raise RuleRefused("The pattern is empty.")
    if len(new.pattern) > LONGEST_PATTERN:
        raise RuleRefused(f"The pattern has {len(new.pattern)} characters; at most {LONGEST_PATTERN} are allowed.")
    if new.kind is RuleKind.LITERAL:
        words = Words([new.pattern])
        if words.empty:
            raise RuleRefused("The pattern is too short to be a word; a regular expression can be that short.")
        return _Compiled(rule, words, None)
    return _Compiled(rule, None, _expression(new.pattern))


def _expression(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = _MEMORY, False, False
    try:
        expression = re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0]
        told = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise RuleRefused(f"The pattern is no regular expression of RE2: {told}.") from None
    if expression.search("") is not None:
        raise RuleRefused("The pattern is found in every prompt, even in an empty one.")
    return expression


def _values(rule: NewRule) -> dict[str, Any]:
    return {"kind": rule.kind, "pattern": rule.pattern, "action": rule.action, "reason": rule.reason}


def _rule_of(row: Any) -> Rule:
    return Rule(RuleKind(row.kind), row.pattern, RuleAction(row.action), row.reason, row.id)
