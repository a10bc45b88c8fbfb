"""What the bot does not do: it says why, to that person alone, and queues nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Refused, is_private, labels, text_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "x" * 1001}, "The prompt has 1001 characters; at most 1000 are allowed."),
    ({"prompt": "   "}, "The prompt is empty: say what to draw."),
    ({"prompt": "a", "negative": "x" * 1001}, "The negative prompt has 1001 characters; at most 1000 are allowed."),
    ({"prompt": "a", "images": 0}, "Images must be from 1 to 4, not 0."),
    ({"prompt": "a", "images": 5}, "Images must be from 1 to 4, not 5."),
    ({"prompt": "a", "steps": 201}, "Steps must be from 1 to 200, not 201."),
    ({"prompt": "a", "seed": 2**32}, f"Seed must be from 0 to {2**32 - 1}, not {2**32}."),
    ({"prompt": "a", "seed": -1}, f"Seed must be from 0 to {2**32 - 1}, not -1."),
]


@pytest.fixture
def careless_client(studio: Studio) -> Iterator[None]:
    """A Discord client that does not check ranges, as modified ones do not."""
    limits = ("min_value", "max_value", "min_length", "max_length")
    options = [option for command in studio.sandbox.commands.listed(None) for option in command["options"]]
    kept = [{limit: option.pop(limit) for limit in limits if limit in option} for option in options]
    yield
    for option, removed in zip(options, kept, strict=True):
        option.update(removed)


@pytest.mark.usefixtures("careless_client")
@pytest.mark.parametrize(("options", "sentence"), OUT_OF_RANGE, ids=lambda value: str(value)[:40])
async def test_values_out_of_range_are_refused_with_the_range(
    studio: Studio, options: dict[str, Any], sentence: str
) -> None:
    before = len(studio.bot.jobs())

    answer = await studio.alice.types("imagine", **options)

    assert is_private(answer)
    assert text_of(answer) == sentence
    assert len(studio.bot.jobs()) == before


async def test_discord_itself_knows_the_ranges(studio: Studio) -> None:
    with pytest.raises(Refused, match="images must be from 1 to 4"):
        await studio.alice.types("imagine", prompt="a", images=0)
    with pytest.raises(Refused, match="seed must be from 0"):
        await studio.alice.types("imagine", prompt="a", seed=2**32)
    with pytest.raises(Refused, match="no option named aspect"):
        await studio.alice.types("imagine", prompt="a", aspect="3:2")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"prompt": "h3ntai"}, "h3ntai"),
        ({"prompt": "a stone gargoyle"}, "gargoyle"),
        ({"prompt": "a church", "negative": "gargoyles"}, "gargoyles"),
    ],
)
async def test_blocked_words_are_refused_in_both_prompts(studio: Studio, options: dict[str, Any], word: str) -> None:
    before = len(studio.bot.jobs())

    answer = await studio.alice.types("imagine", **options)

    assert is_private(answer)
    assert text_of(answer) == f"This bot does not draw “{word}”. Nothing was queued."
    assert len(studio.bot.jobs()) == before


async def test_an_unknown_checkpoint_is_refused_with_what_there_is(studio: Studio) -> None:
    answer = await studio.alice.types("imagine", prompt="a boat", checkpoint="flux")

    assert is_private(answer)
    assert text_of(answer).startswith("There is no checkpoint named “flux”. Choose one of: ")
    assert "tiny" in text_of(answer)


async def test_without_the_permission_to_attach_files_nothing_is_queued(studio: Studio) -> None:
    before = len(studio.bot.jobs())
    channel_id = next(c.id for c in studio.sandbox.world.guild.channels.values() if c.name == "gallery")
    deny = {"world": "deny", "channel_id": str(channel_id)}
    studio.sandbox.faults.inject(deny | {"permissions": str(1 << 15)})
    try:
        answer = await studio.alice.types("imagine", at="gallery", prompt="a boat")
    finally:
        studio.sandbox.faults.inject(deny | {"permissions": "0"})

    assert is_private(answer)
    assert text_of(answer) == (
        "I cannot post pictures in this channel. A moderator can mend it by giving me: Attach Files."
    )
    assert len(studio.bot.jobs()) == before


async def test_members_cannot_choose_the_servers_checkpoint(studio: Studio) -> None:
    answer = await studio.bob.types("checkpoint", "use", name="tiny")

    assert is_private(answer)
    assert text_of(answer) == "You need the permission Manage Server for that."


async def test_an_administrator_chooses_the_servers_checkpoint(studio: Studio) -> None:
    switching = await studio.admin.types("checkpoint", "use", name="tiny")
    assert "This server draws with **tiny**." in (await studio.admin.settles(switching)).text

    listed = await studio.bob.types("checkpoint", "list")
    assert is_private(listed)
    assert "**tiny** · **in use here** · in memory" in text_of(listed)


async def test_checkpoints_are_offered_while_typing(studio: Studio) -> None:
    (channel,) = (c for c in (await studio.bob.state())["channels"] if c["name"] == "imagine")
    typed = {"prompt": "a boat", "checkpoint": "TI"}

    offered = await studio.bob.act(
        "autocomplete", channel_id=channel["id"], command="imagine", options=typed, focused="checkpoint"
    )

    assert offered["choices"] == [{"name": "tiny", "value": "tiny"}]


async def test_help_is_one_private_page(studio: Studio) -> None:
    page = await studio.bob.types("help")

    assert is_private(page)
    assert "/imagine prompt: a red apple" in text_of(page)
    assert labels(page) == []


async def test_a_variation_of_deleted_pictures_cannot_be_drawn_again(studio: Studio) -> None:
    parent = await studio.alice.draws(prompt="gone soon", images=1)
    variation = await studio.alice.settles(await studio.alice.presses(parent.message, "V1"))
    await studio.alice.presses(parent.message, "Delete")
    await studio.alice.loses(parent.message)
    before = len(studio.bot.jobs())

    answer = await studio.alice.presses(variation.message, "Reroll")

    assert answer is not None
    assert is_private(answer)
    assert text_of(answer) == "That picture was deleted, so nothing can be made of it any more."
    assert len(studio.bot.jobs()) == before
