"""What the real classifier's scores lead to in a server, by its thresholds and by the channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from bot.moderation.servers import ACCEPTANCE
from bot.sandbox.server import Sandbox
from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Bot, is_private, labels, people, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def strict(studio: Studio) -> AsyncIterator[Studio]:
    """Every picture waits for a moderator, however harmless."""
    await studio.admin.types("moderation", "thresholds", spoiler=0.0, hold=0.0, block=1.0)
    yield studio
    await studio.admin.types("moderation", "thresholds")


async def test_a_held_picture_is_not_shown_and_nothing_is_made_of_it(strict: Studio) -> None:
    harmless = await strict.alice.draws(prompt="a red apple", images=1)
    assert harmless.pictures == []
    assert "The picture waits for a moderator." in harmless.text
    assert not {"U1", "V1", "Reroll", "Report"} & set(labels(harmless.message))
    refused = await strict.alice.presses(harmless.message, "Info")
    assert refused is not None
    assert text_of(refused) == "A moderator has to look at this first."

    restricted = await strict.alice.settles(
        await strict.alice.types("imagine", at="nsfw-art", prompt="a red apple", images=1)
    )
    assert len(restricted.pictures) == 1


async def test_a_picture_over_the_first_threshold_is_covered_while_another_channel_shows_it(studio: Studio) -> None:
    await studio.admin.types("moderation", "thresholds", spoiler=0.0, hold=1.0, block=1.0)
    try:
        covered = await studio.alice.draws(prompt="a red apple", images=2)
    finally:
        await studio.admin.types("moderation", "thresholds")
    assert [picture["spoiler"] for picture in covered.pictures] == [True, True]
    plain = await studio.alice.draws(prompt="a red apple", images=2)
    assert [picture["spoiler"] for picture in plain.pictures] == [False, False]


async def test_without_a_classifier_nothing_is_taken_until_somebody_accepts_the_risk(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    async with Sandbox(rate_limits=False) as sandbox, people(sandbox, "alice", "admin") as (alice, admin):
        bot = Bot(sandbox, tmp_path / "data", settings | {"IMAGINE_CLASSIFIER": "none"})
        await bot.start()
        try:
            await alice.online()
            refused = await alice.types("imagine", prompt="a red apple")
            assert is_private(refused)
            assert text_of(refused).startswith("This bot has no picture classifier")
            restricted = await alice.types("imagine", at="nsfw-art", prompt="a red apple")
            await admin.types("moderation", "accept-unjudged", words=ACCEPTANCE)
            accepted = await alice.types("imagine", prompt="a red apple")
            assert ["Cancel" in labels(message) for message in (restricted, accepted)] == [True, True]
            assert len(bot.jobs()) == 2
        finally:
            await bot.kill()
