"""From /imagine to the pictures, and what the buttons under them make."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from PIL import Image

from tests.bot.e2e.conftest import Studio
from tests.bot.e2e.studio import Member, is_private, labels, text_of, walk

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def pixels(member: Member, pictures: list[dict[str, Any]]) -> list[bytes]:
    downloads = [await member.download(picture) for picture in pictures]
    images = [Image.open(io.BytesIO(data)) for data in downloads]
    assert all(image.size == (256, 256) for image in images)
    return [image.tobytes() for image in images]


async def test_imagine_becomes_four_pictures_in_the_message_that_acknowledged_it(studio: Studio) -> None:
    before = len(await studio.alice.messages())

    asked = await studio.alice.types("imagine", prompt="a red apple", seed=7, steps=60)
    result = await studio.alice.settles(asked)

    assert len(await studio.alice.messages()) == before + 1
    assert len({text_of(edit) for edit in result.edits if "step" in text_of(edit)}) >= 3
    assert any(item["description"] == "Preview: a red apple" for edit in result.edits for item in _gallery(edit))
    assert [picture["description"] for picture in result.pictures] == [
        f"Picture {number} of 4: a red apple" for number in (1, 2, 3, 4)
    ]
    assert len(set(await pixels(studio.alice, result.pictures))) == 4
    numbered = [f"{verb}{number}" for verb in "UV" for number in (1, 2, 3, 4)]
    assert labels(result.message) == [*numbered, "Reroll", "Info", "Report", "Delete"]
    assert "seed 7" in result.text
    assert "60 steps" in result.text


async def test_the_same_seed_draws_the_same_pictures(studio: Studio) -> None:
    first = await studio.alice.draws(prompt="a boat", seed=11)
    second = await studio.bob.draws(prompt="a boat", seed=11)

    assert await pixels(studio.alice, first.pictures) == await pixels(studio.bob, second.pictures)


async def test_a_variation_of_a_variation_can_be_upscaled(studio: Studio) -> None:
    parent = await studio.alice.draws(prompt="a red apple", seed=7)

    variation = await studio.bob.settles(await studio.bob.presses(parent.message, "V2"))
    upscaled = await studio.bob.settles(await studio.bob.presses(variation.message, "U3"))

    assert "Variation of picture 2 · strength 80 %" in variation.text
    assert len(set(await pixels(studio.bob, [*parent.pictures, *variation.pictures, *upscaled.pictures]))) == 9
    assert len(upscaled.pictures) == 1
    assert "64 × 64" in upscaled.text  # the largest size of the tiny checkpoint
    assert labels(upscaled.message) == ["Info", "Report", "Delete"]


async def test_reroll_draws_the_same_prompt_from_another_seed(studio: Studio) -> None:
    first = await studio.alice.draws(prompt="a lighthouse", seed=3, images=2)

    again = await studio.alice.settles(await studio.alice.presses(first.message, "Reroll"))

    assert "a lighthouse" in again.text
    assert len(again.pictures) == 2
    assert not set(await pixels(studio.alice, first.pictures)) & set(await pixels(studio.alice, again.pictures))


async def test_info_shows_in_private_the_command_that_draws_it_again(studio: Studio) -> None:
    options = {"prompt": "a *starry* night", "negative": "clouds", "images": 1, "steps": 5, "guidance": 2.5, "seed": 9}
    result = await studio.alice.draws(**options)

    info = await studio.bob.presses(result.message, "Info")

    assert info is not None
    assert is_private(info)
    assert (
        "/imagine prompt: a *starry* night negative: clouds images: 1 steps: 5 guidance: 2.5 seed: 9 checkpoint: tiny"
        in text_of(info)
    )


async def test_a_prompt_pings_nobody_and_keeps_its_characters(studio: Studio) -> None:
    result = await studio.alice.draws(prompt="@everyone **look** <@1>\n# here", images=1)

    assert result.message["mentions"] == []
    assert not result.message["mention_everyone"]
    assert "\\*\\*look\\*\\*" in result.text


async def test_a_double_click_makes_one_job(studio: Studio) -> None:
    parent = await studio.alice.draws(prompt="a pear")
    before = len(studio.bot.jobs())

    clicks = [await studio.alice.clicks(parent.message, "V1") for _ in range(2)]
    answers = await asyncio.gather(*map(studio.alice.answer, clicks))

    (echo,) = (answer for answer in answers if is_private(answer))
    (drawn,) = (answer for answer in answers if not is_private(answer))
    await studio.alice.settles(drawn)
    assert text_of(echo) == "V1 was pressed just now: its pictures are on their way."
    assert len(studio.bot.jobs()) == before + 1


async def test_cancel_ends_the_drawing_in_place(studio: Studio) -> None:
    asked = await studio.alice.types("imagine", prompt="a very slow picture", steps=200)
    drawing = await studio.alice.progress_of(asked)

    assert await studio.alice.presses(drawing, "Cancel") is None
    result = await studio.alice.settles(asked)

    assert "Cancelled" in result.text
    assert result.pictures == []
    assert labels(result.message) == ["Try again", "Delete"]
    assert studio.bot.jobs()[-1] == "cancelled"


async def test_only_the_author_and_moderators_can_cancel(studio: Studio) -> None:
    asked = await studio.alice.types("imagine", prompt="alice's own", steps=200)
    drawing = await studio.alice.progress_of(asked)

    refusal = await studio.bob.presses(drawing, "Cancel")
    assert refusal is not None
    assert is_private(refusal)
    assert "moderators (Manage Messages) can cancel this" in text_of(refusal)

    assert await studio.mod.presses(drawing, "Cancel") is None
    assert "Cancelled" in (await studio.alice.settles(asked)).text


async def test_try_again_after_a_cancel_keeps_the_seed(studio: Studio) -> None:
    asked = await studio.alice.types("imagine", prompt="second thoughts", steps=150, seed=21, images=1)
    await studio.alice.presses(asked, "Cancel")
    cancelled = await studio.alice.settles(asked)

    again = await studio.alice.settles(await studio.alice.presses(cancelled.message, "Try again"))

    assert "seed 21" in again.text


async def test_only_the_author_and_moderators_can_delete(studio: Studio) -> None:
    mine, other = [await studio.alice.draws(prompt="to be deleted", images=1) for _ in range(2)]

    refusal = await studio.bob.presses(mine.message, "Delete")
    assert refusal is not None
    assert "can delete this" in text_of(refusal)

    await studio.alice.presses(mine.message, "Delete")
    await studio.alice.loses(mine.message)
    await studio.mod.presses(other.message, "Delete")
    await studio.alice.loses(other.message)


def _gallery(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for component in walk(message) for item in component.get("items", [])]
