"""The real bot, its real engine and the page, as a newcomer meets them."""

from __future__ import annotations

import pytest

from bot.sandbox.server import Sandbox
from tests.browser.chat import Locator, expect, look
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def drawn(message: Locator) -> Locator:
    """The message, when its four pictures are there."""
    await expect(message.get_by_role("button", name="U4", exact=True)).to_be_visible()
    return message


async def test_a_typed_command_becomes_four_pictures_that_v_varies_and_u_enlarges(
    imagine: Sandbox, visit: Visit
) -> None:
    chat = await visit(imagine, "alice")
    grid = await drawn(await chat.ask("/imagine a red apple seed: 7"))
    first = await look(grid.locator("img"))
    assert [picture.flat for picture in first] == [False] * 4
    assert len({picture.digest for picture in first}) == 4
    await expect(grid.get_by_role("img", name="Picture 4 of 4: a red apple")).to_be_visible()
    await expect(grid).to_contain_text("used /imagine")

    await grid.get_by_role("button", name="V2", exact=True).click()
    varied = await look((await drawn(await chat.message("Variation of picture 2"))).locator("img"))
    assert [picture.flat for picture in varied] == [False] * 4
    assert not {picture.digest for picture in varied} & {picture.digest for picture in first}

    await grid.get_by_role("button", name="U3", exact=True).click()
    enlarged = await chat.message("Picture 3, upscaled")
    await expect(enlarged.get_by_role("button", name="Info")).to_be_visible()
    (large,) = await look(enlarged.locator("img"))
    assert not large.flat
    assert large.digest != first[2].digest
    await expect(grid.locator("img")).to_have_count(4)


async def test_progress_shows_while_a_picture_is_drawn_and_cancel_ends_it(imagine: Sandbox, visit: Visit) -> None:
    chat = await visit(imagine, "alice")
    message = await chat.ask("/imagine prompt: a slow river steps: 200")
    await expect(message).to_contain_text("%")
    await expect(message.get_by_role("img", name="Preview")).to_be_visible()
    await message.get_by_role("button", name="Cancel").click()
    await expect(message).to_contain_text("Cancelled")
    await expect(message.get_by_role("button", name="Try again")).to_be_visible()


async def test_a_refusal_is_seen_by_the_one_who_was_refused_and_by_nobody_else(imagine: Sandbox, visit: Visit) -> None:
    alice, bob = await visit(imagine, "alice"), await visit(imagine, "bob")
    await alice.send("/imagine a quiet harbour images: 1")
    picture = await bob.message("a quiet harbour")
    await expect(picture.get_by_role("button", name="Delete")).to_be_visible()
    await picture.get_by_role("button", name="Delete").click()
    note = bob.messages.filter(has_text="Only you can see this").last
    await expect(note).to_be_visible()
    await expect(alice.page.get_by_text("Only you can see this")).to_have_count(0)

    # Switching users in one window shows each what is theirs.
    await bob.act_as("Alice")
    await expect(bob.page.get_by_text("Only you can see this")).to_have_count(0)
    await (await bob.message("a quiet harbour")).get_by_role("button", name="Delete").click()
    await expect(alice.page.get_by_text("a quiet harbour")).to_have_count(0)


async def test_the_keyboard_alone_draws_looks_closely_and_asks_for_the_details(imagine: Sandbox, visit: Visit) -> None:
    chat = await visit(imagine, "bob")
    keyboard = chat.page.keyboard
    await chat.commands_arrived()
    await keyboard.type("/ima")
    await expect(chat.suggestions.get_by_role("option", name="/imagine")).to_have_attribute("aria-selected", "true")
    await keyboard.press("Enter")
    await expect(chat.composer).to_have_value("/imagine prompt: ")
    await keyboard.type("a paper boat")
    await keyboard.press("ArrowDown")
    await expect(chat.suggestions.locator("[aria-selected=true]")).to_contain_text("negative")
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(chat.composer).to_have_value("/imagine prompt: a paper boat images: ")
    await keyboard.type("2")
    await keyboard.press("Enter")
    message = await chat.message("a paper boat")
    await expect(message.get_by_role("button", name="U2", exact=True)).to_be_visible()

    await keyboard.press("Shift+Tab")
    focused = chat.page.locator(":focus")
    for _ in range(40):
        if await focused.evaluate("element => element.textContent") == "Info":
            break
        await keyboard.press("Shift+Tab")
    await keyboard.press("Enter")
    await expect(await chat.message("Checkpoint: tiny")).to_contain_text("a paper boat")

    await message.get_by_role("button", name="Open picture 1").focus()
    await keyboard.press("Enter")
    lightbox = chat.page.get_by_role("dialog", name="Picture")
    await expect(lightbox.get_by_role("img")).to_have_attribute("alt", "Picture 1 of 2: a paper boat")
    await keyboard.press("ArrowRight")
    await expect(lightbox.get_by_role("img")).to_have_attribute("alt", "Picture 2 of 2: a paper boat")
    await keyboard.press("Escape")
    await expect(lightbox).to_have_count(0)
    await expect(message.get_by_role("button", name="Open picture 1")).to_be_focused()
