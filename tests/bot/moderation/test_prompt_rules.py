"""A server's own rules: kept, compiled, and held to what the floor forbids in any case."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from bot.errors import PromptRefused, RuleNotFound, RuleRefused
from bot.moderation.audit import first_broken
from bot.moderation.prompt_rules import MOST_RULES, NewRule, RuleAction, RuleKind, ServerRules
from bot.moderation.rules import PromptRules
from bot.prompt.options import JobOptions
from bot.storage import tables
from bot.storage.session import Database
from tests.bot.databases import EITHER_DATABASE

pytestmark = EITHER_DATABASE

GUILD, MANAGER = 900, 7


@pytest.fixture
def rules(database: Database) -> ServerRules:
    return ServerRules(database)


def literal(pattern: str, action: RuleAction = RuleAction.BLOCK, reason: str | None = None) -> NewRule:
    return NewRule(RuleKind.LITERAL, pattern, action, reason)


def regex(pattern: str, action: RuleAction = RuleAction.BLOCK) -> NewRule:
    return NewRule(RuleKind.REGEX, pattern, action)


async def test_rules_are_kept_and_every_change_is_in_the_audit_log(database: Database, rules: ServerRules) -> None:
    first = await rules.add(GUILD, MANAGER, literal("gargoyle", reason="No gargoyles."))
    second = await rules.add(GUILD, MANAGER, regex("dragons?", RuleAction.WARN))
    assert await ServerRules(database).of(GUILD) == (first, second)
    assert await rules.of(GUILD + 1) == ()

    with pytest.raises(RuleNotFound, match=f"no rule {first.id}"):
        await rules.remove(GUILD + 1, MANAGER, first.id)
    assert await rules.remove(GUILD, MANAGER, first.id) == first
    assert await rules.of(GUILD) == (second,)

    async with database.read() as connection:
        log = (await connection.execute(select(tables.audit).order_by(tables.audit.c.id))).all()
        assert await first_broken(connection) is None
    assert [(row.act, row.subject) for row in log] == [
        ("rule.add", f"rule {first.id}"),
        ("rule.add", f"rule {second.id}"),
        ("rule.remove", f"rule {first.id}"),
    ]
    assert '"gargoyle"' in log[2].before


async def test_the_severest_rule_decides(rules: ServerRules) -> None:
    prompts = PromptRules(rules)

    async def judged(prompt: str, guild_id: int | None = GUILD) -> tuple[str | None, str | None]:
        ruling = await prompts.judge(guild_id, JobOptions(prompt=prompt, negative_prompt="blurry"))
        return ruling.held, ruling.note

    assert await judged("a castle with a g4rg0yle") == (None, None)
    warn = await rules.add(GUILD, MANAGER, literal("castle", RuleAction.WARN, "Castles are overdone."))
    assert await judged("a castle") == (None, "A rule of this server is against “castle”: Castles are overdone.")
    hold = await rules.add(GUILD, MANAGER, literal("gargoyle", RuleAction.HOLD))
    held, note = await judged("a castle with a g4rg0yle")
    assert held == f"Rule {hold.id} holds “gargoyle”."
    assert note is not None
    assert "“g4rg0yle”. A moderator has to look" in note
    await rules.add(GUILD, MANAGER, regex(r"cast\w+ with"))
    with pytest.raises(PromptRefused, match=r"against “castle with”. Nothing was queued."):
        await judged("a castle with a g4rg0yle")
    with pytest.raises(PromptRefused):
        await judged("a ᴄᴀѕᴛʟᴇ with nothing")  # a regular expression sees the text as it reads, too
    assert await judged("a castle with a gargoyle", GUILD + 1) == (None, None)
    assert await judged("a castle with a gargoyle", None) == (None, None)

    await rules.remove(GUILD, MANAGER, warn.id)
    assert await judged("a castle") == (None, None)


async def test_no_rule_lowers_the_floor(rules: ServerRules) -> None:
    await rules.add(GUILD, MANAGER, literal("naked child", RuleAction.WARN))
    with pytest.raises(PromptRefused, match="minors"):
        await PromptRules(rules).judge(GUILD, JobOptions(prompt="a naked child"))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (literal("  "), "empty"),
        (literal("!?"), "too short"),
        (literal("C++"), "too short"),
        (literal("x" * 201), "201 characters; at most 200"),
        (regex("(unclosed"), r"no regular expression of RE2: missing \)"),
        (regex("(?<=a)b"), "invalid perl operator"),
        (regex("(a{50}){50}"), "repetition size"),
        (regex(r"\pL{1,1000}"), "too large"),
        (regex("a*"), "in every prompt"),
    ],
)
async def test_what_cannot_work_is_refused_in_a_sentence(
    database: Database, rules: ServerRules, rule: NewRule, why: str
) -> None:
    with pytest.raises(RuleRefused, match=why):
        await rules.add(GUILD, MANAGER, rule)
    async with database.read() as connection:
        assert (await connection.execute(select(tables.audit))).all() == []
    assert await rules.of(GUILD) == ()


async def test_a_server_has_only_so_many_rules(database: Database, rules: ServerRules) -> None:
    rule = await rules.add(GUILD, MANAGER, literal("first"))
    async with database.write() as connection:
        row = {"guild_id": GUILD, "kind": "literal", "pattern": "x", "action": "warn"}
        created = await connection.scalar(select(tables.prompt_rules.c.created_at))
        await connection.execute(tables.prompt_rules.insert(), [{**row, "created_at": created}] * (MOST_RULES - 1))
    with pytest.raises(RuleRefused, match="100 rules at most"):
        await rules.add(GUILD, MANAGER, literal("one more"))
    await rules.remove(GUILD, MANAGER, rule.id)
    await rules.add(GUILD, MANAGER, literal("one more"))


@pytest.mark.parametrize(
    ("word", "caught", "passes"),
    [
        ("赤い", "真赤いりんご", "青いりんご"),
        ("🍆", "eat 🍆🏽 now", "🥕"),
        ("привет", "ПРИВЕТ, мир", "приветливый"),
        ("1488", "no. 1488!", "14880"),
        ("Müller", "two m.u.l.l.e.r.s", "mulled wine"),
        ("red cat", "REDCAT", "red carpet"),
    ],
)
async def test_literals_of_every_script(rules: ServerRules, word: str, caught: str, passes: str) -> None:
    await rules.add(GUILD, MANAGER, literal(word))
    assert await rules.matches(GUILD, (caught,))
    assert not await rules.matches(GUILD, (passes,))
