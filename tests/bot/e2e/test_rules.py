"""A server's rules for prompts: set by its managers, met by everybody who draws there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import is_private, labels, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def numbers(studio: Studio) -> AsyncIterator[dict[str, int]]:
    """Rules of each kind, gone afterwards."""
    numbers = {}
    for action, pattern in (("block", "phoenix"), ("hold", "griffin"), ("warn", "unicorn")):
        added = await studio.admin.types("rules", "add", pattern=pattern, action=action, reason="Only real animals.")
        (number,) = re.findall(r"Added: rule (\d+)", text_of(added))
        numbers[action] = int(number)
    yield numbers
    for number in numbers.values():
        removed = await studio.admin.types("rules", "remove", rule=number)
        assert text_of(removed).startswith(f"Removed: rule {number}")


async def note(studio: Studio, words: str) -> str:
    """What the bot told alice besides."""

    def told() -> str | None:
        for op, data in studio.alice.seen:
            if op == "message_create" and is_private(data) and words in text_of(data):
                return text_of(data)
        return None

    found: str = await studio.alice.until(told)
    return found


async def test_what_a_rule_blocks_is_refused_with_its_reason(studio: Studio, numbers: dict[str, int]) -> None:
    before = len(studio.bot.jobs())
    refused = await studio.alice.types("imagine", prompt="a cliff", negative="a ph0en1x")
    assert is_private(refused)
    assert text_of(refused) == ("A rule of this server is against “ph0en1x”: Only real animals. Nothing was queued.")
    assert len(studio.bot.jobs()) == before


async def test_what_a_rule_warns_about_is_drawn(studio: Studio, numbers: dict[str, int]) -> None:
    drawn = await studio.alice.draws(prompt="a unicorn", images=1)
    assert drawn.pictures
    assert "Only real animals." in await note(studio, "“unicorn”")


async def test_what_a_rule_holds_waits_for_a_moderator_and_can_be_cancelled(
    studio: Studio, numbers: dict[str, int]
) -> None:
    held = await studio.alice.types("imagine", prompt="a griffin", images=1)
    assert "A moderator has to look at this prompt" in text_of(held)
    assert labels(held) == ["Cancel"]
    assert "`/review list`" in await note(studio, "“griffin”")
    assert studio.bot.jobs()[-1] == "held"
    listed = await studio.mod.types("review", "list")
    assert "A prompt waits" in text_of(listed)

    await studio.alice.presses(held, "Cancel")
    assert "Cancelled." in (await studio.alice.settles(held)).text


async def test_managers_see_and_try_their_rules_and_others_do_not(studio: Studio, numbers: dict[str, int]) -> None:
    listed = text_of(await studio.admin.types("rules", "list"))
    assert [action for action in numbers if f"rule {numbers[action]} · {action}" in listed] == list(numbers)
    tried = text_of(await studio.admin.types("rules", "test", prompt="p-h-o-e-n-i-x porn"))
    assert "Refused everywhere" in tried
    assert f"Block: rule {numbers['block']}" in tried
    assert text_of(await studio.admin.types("rules", "test", prompt="a horse")) == "No rule is against that."
    broken = await studio.admin.types("rules", "add", pattern="(", action="block", kind="regex")
    assert "no regular expression of RE2: missing )" in text_of(broken)
