"""What is offered while somebody types, and what a server's members may name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bot.commands.catalogue import MAX_CHOICES, Catalogue
from bot.errors import CheckpointNotAllowed, CheckpointRefused, UnknownCheckpoint
from bot.jobs.checkpoints import Checkpoints
from bot.storage.session import Database
from t2i.api import Damaged, Shelf
from tests.bot.views.examples import EMBEDDED

SERVER = 900


@pytest.fixture
async def checkpoints(tmp_path: Path) -> AsyncIterator[Checkpoints]:
    """Sixty of them."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'imagine.db'}")
    await database.upgrade()
    checkpoints = Checkpoints(database)
    await checkpoints.record(msgspec.structs.replace(EMBEDDED, name=f"model-{number:02}") for number in range(60))
    yield checkpoints
    await database.close()


@pytest.fixture
def catalogue(checkpoints: Checkpoints) -> Catalogue:
    return Catalogue(checkpoints, "model-00", lambda: Shelf(damaged=(Damaged("broken", "broken is truncated."),)))


async def names(catalogue: Catalogue, typed: str, guild_id: int | None = None) -> list[str]:
    return [choice.value for choice in await catalogue.choices(typed, guild_id)]


async def test_typing_finds_what_25_choices_have_no_room_for(catalogue: Catalogue) -> None:
    assert await names(catalogue, "") == [f"model-{number:02}" for number in range(MAX_CHOICES)]
    assert await names(catalogue, "L-5") == [f"model-5{digit}" for digit in range(10)]
    assert await names(catalogue, "model-59") == ["model-59"]
    assert await names(catalogue, "nothing") == []


async def test_a_server_offers_what_it_lists_and_what_it_draws_with(
    catalogue: Catalogue, checkpoints: Checkpoints
) -> None:
    await checkpoints.allow(SERVER, ["model-30", "model-40"])
    assert await names(catalogue, "", SERVER) == ["model-00", "model-30", "model-40"]
    await catalogue.require_allowed("model-00", SERVER)
    await catalogue.require_allowed("model-50", SERVER + 1)
    with pytest.raises(CheckpointNotAllowed, match="model-50 does not draw in this server"):
        await catalogue.require_allowed("model-50", SERVER)


async def test_what_is_damaged_has_a_name_but_draws_nothing(catalogue: Catalogue) -> None:
    await catalogue.require("broken")
    with pytest.raises(CheckpointRefused, match="broken is truncated"):
        catalogue.require_sound("broken")
    with pytest.raises(UnknownCheckpoint, match="There is no checkpoint named “lost”"):
        await catalogue.require("lost")
