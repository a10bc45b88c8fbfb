"""What the page shows and does with everything a bot can send."""

from __future__ import annotations

import aiohttp
import pytest

from bot.sandbox.server import Sandbox
from tests.browser.chat import Browser, expect
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_commands_are_offered_only_while_a_bot_is_there_to_answer(chromium: Browser, visit: Visit) -> None:
    hello = {"name": "hello", "description": "Says hello"}
    async with Sandbox() as sandbox, aiohttp.ClientSession() as bot:
        await bot.post(
            f"{sandbox.api_base}/applications/{sandbox.world.bot.id}/commands",
            json=hello,
            headers={"Authorization": f"Bot {sandbox.token}"},
            raise_for_status=True,
        )
        chat = await visit(sandbox, "bob")
        await expect(chat.page.get_by_text("The bot is not connected yet.")).to_be_visible()
        await expect(chat.page.get_by_role("button", name="/hello")).to_have_count(0)


ROWS = {1: [1], 2: [2], 3: [2, 1], 4: [2, 2], 5: [2, 3], 7: [1, 3, 3]}
"""Pictures in each row of a gallery; of three, the first stands beside the two others."""


async def test_a_gallery_puts_its_pictures_in_rows(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    for count, rows in ROWS.items():
        message = await chat.ask(f"/gallery count: {count}")
        tiles = message.get_by_role("button", name="Open picture")
        await expect(tiles).to_have_count(count)
        tops = await tiles.evaluate_all("tiles => tiles.map(tile => Math.round(tile.getBoundingClientRect().top))")
        assert [tops.count(top) for top in sorted(set(tops))] == rows


async def test_a_spoiler_stays_hidden_until_it_is_pressed(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/gallery count: 2 spoiler: true")
    covered = message.get_by_role("button", name="Spoiler, press to show")
    await expect(covered).to_have_count(2)
    await covered.first.click()
    await expect(message.get_by_role("button", name="Open picture 1: Tile 1")).to_be_visible()
    await expect(covered).to_have_count(1)


async def test_the_menu_of_a_message_offers_what_the_bot_registered(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/gallery count: 3")
    await message.get_by_role("button", name="Apps").click()
    await chat.page.get_by_role("option", name="Count tiles").click()
    answer = await chat.message("There are 3.")
    await expect(answer).to_contain_text("used Count tiles")


async def test_a_command_left_unanswered_says_so_to_its_user_only(parlour: Sandbox, visit: Visit) -> None:
    bob, alice = await visit(parlour, "bob"), await visit(parlour, "alice")
    note = await bob.ask("/silence")
    await expect(note).to_contain_text("The application did not respond")
    await expect(note).to_contain_text("Only you can see this")
    await note.get_by_role("button", name="Dismiss message").click()
    await expect(bob.page.get_by_text("The application did not respond")).to_have_count(0)
    await alice.ask("/hello")
    await expect(alice.page.get_by_text("The application did not respond")).to_have_count(0)


async def test_a_select_menu_sends_the_choice_made_by_mouse_or_keyboard(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/checklist")
    await message.get_by_role("button", name="Choose a colour").click()
    await chat.page.get_by_role("option", name="Blue").click()
    await expect(chat.messages.last).to_contain_text("Chosen: Blue")

    await message.get_by_role("button", name="Choose people").focus()
    for key in ("Enter", "A", "l", "Space", "B", "Space", "Enter"):
        await chat.page.keyboard.press(key)
    await expect(chat.messages.last).to_contain_text("Invited: Alice, Bob")


async def test_an_edit_leaves_the_focus_where_it_is_and_marks_the_message(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/checklist")
    await message.get_by_role("button", name="Count").focus()
    for times in (1, 2):
        await chat.page.keyboard.press("Enter")
        await expect(message).to_contain_text(f"Pressed {times} times")
        await expect(message.get_by_role("button", name="Count")).to_be_focused()
    await expect(message).to_contain_text("(edited)")


async def test_a_form_is_filled_in_and_sent(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    await chat.send("/remix")
    form = chat.page.get_by_role("dialog", name="Remix")
    prompt = form.get_by_label("Prompt")
    await expect(prompt).to_be_focused()
    await expect(prompt).to_have_value("a red apple")
    await prompt.fill("a green pear")
    await form.get_by_label("Mood").click()
    await form.get_by_role("option", name="Wild").click()
    await form.get_by_role("button", name="Submit").click()
    await expect(form).to_have_count(0)
    await expect(chat.messages.last).to_contain_text("a green pear, Wild")


async def test_a_form_that_lacks_an_answer_says_so_and_stays_open(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    await chat.send("/remix")
    form = chat.page.get_by_role("dialog", name="Remix")
    await form.get_by_role("button", name="Submit").click()
    await expect(form.get_by_role("alert")).to_contain_text("Mood")
    await chat.page.keyboard.press("Escape")
    await expect(form).to_have_count(0)


async def test_a_classic_message_shows_its_embed_file_and_buttons(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/hello")
    await expect(message).to_contain_text("@Bob")
    await expect(message).to_contain_text("12 pictures")
    await expect(message).to_contain_text("3 jobs")
    await expect(message.get_by_role("link", name="notes.txt")).to_be_visible()
    await expect(message.get_by_role("button", name="Off")).to_be_disabled()
    await expect(message.get_by_role("link", name="Site")).to_have_attribute("href", "https://example.invalid/")


async def test_markup_in_a_message_stays_text_and_foreign_pictures_are_not_fetched(
    parlour: Sandbox, visit: Visit
) -> None:
    chat = await visit(parlour, "bob")
    message = await chat.ask("/stranger")
    await expect(message).to_contain_text("<img src=x onerror=alert(1)> <b>not bold</b>")
    await expect(message).to_contain_text("External media is not loaded")
    await expect(message.locator("img, b, a")).to_have_count(0)


async def test_options_are_suggested_completed_and_sent(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    await chat.commands_arrived()
    keyboard = chat.page.keyboard
    await keyboard.type("/pai")
    await keyboard.press("Tab")
    await keyboard.type("a: b")
    await keyboard.press("Tab")
    await expect(chat.composer).to_have_value("/paint what: a: b style: ")
    await keyboard.type("style-2")
    await expect(chat.suggestions.get_by_role("option", name="style-29")).to_be_visible()
    await expect(chat.suggestions.get_by_role("option", name="style-3")).to_have_count(0)
    await chat.suggestions.get_by_role("option", name="style-29").click()
    await keyboard.type(" size: la")
    await keyboard.press("Enter")
    await expect(chat.composer).to_have_value("/paint what: a: b style: style-29 size: Large")
    await keyboard.press("Enter")
    await expect(chat.messages.last).to_contain_text("what=a: b style=style-29 size=256 quick=False")


WRONG = {
    "/gallery count: 11": "count must be between 1 and 10.",
    "/gallery count: many": "count must be a whole number.",
    "/gallery": "/gallery needs a count.",
    "/paint cat size: huge": "size is one of: Small, Large.",
    "/hello there": "/hello takes no options.",
    "/nothing at all": "There is no command /nothing.",
}


async def test_a_wrong_command_is_explained_and_kept_for_mending(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    await chat.commands_arrived()
    for line, sentence in WRONG.items():
        await chat.composer.fill(line)
        await chat.page.keyboard.press("Escape")
        await chat.page.keyboard.press("Enter")
        await expect(chat.page.get_by_role("alert")).to_contain_text(sentence)
        await expect(chat.composer).to_have_value(line)


async def test_each_user_is_offered_the_commands_and_channels_that_are_theirs(parlour: Sandbox, visit: Visit) -> None:
    chat = await visit(parlour, "bob")
    await chat.commands_arrived()
    await chat.page.keyboard.type("/")
    await expect(chat.suggestions.get_by_role("option", name="/paint")).to_be_visible()
    await expect(chat.suggestions.get_by_role("option", name="/rules")).to_have_count(0)
    await expect(chat.page.get_by_role("button", name="mod-log")).to_have_count(0)
    await chat.act_as("Admin")
    await expect(chat.page.get_by_role("button", name="mod-log")).to_be_visible()
    await chat.composer.focus()
    await expect(chat.suggestions.get_by_role("option", name="/rules")).to_be_visible()


async def test_what_one_person_writes_reaches_the_other_and_marks_the_channel(parlour: Sandbox, visit: Visit) -> None:
    alice, bob = await visit(parlour, "alice"), await visit(parlour, "bob")
    await bob.page.get_by_role("button", name="gallery", exact=True).click()
    await alice.send("Good **morning**")
    unread = bob.page.get_by_role("button", name="imagine unread messages")
    await unread.click()
    await expect(bob.messages.last.locator("strong")).to_have_text("morning")
    await expect(unread).to_have_count(0)


async def test_news_does_not_move_a_reader_of_older_messages_but_is_offered(parlour: Sandbox, visit: Visit) -> None:
    reader, writer = await visit(parlour, "bob", height=500), await visit(parlour, "alice")
    for _ in range(2):
        await reader.ask("/gallery count: 1")
    log = reader.page.get_by_role("log")
    await log.evaluate("log => log.scrollTo(0, 0)")
    jump = reader.page.get_by_role("button", name="Newest messages")
    await expect(jump).to_be_hidden()
    await writer.send("Look down here")
    await expect(jump).to_be_visible()
    assert await log.evaluate("log => log.scrollTop") == 0
    await jump.click()
    await expect(reader.messages.filter(has_text="Look down here").last).to_be_in_viewport()
    await expect(jump).to_be_hidden()


async def test_a_narrow_window_has_no_sideways_scroll_and_keeps_channels_in_a_drawer(
    parlour: Sandbox, visit: Visit
) -> None:
    chat = await visit(parlour, "bob", width=360, height=740)
    message = await chat.ask("/gallery count: 4")
    await expect(message.get_by_role("button", name="Open picture")).to_have_count(4)
    right = "elements => Math.max(...elements.map(element => element.getBoundingClientRect().right))"
    assert await chat.page.locator(".composer-box, .tile, .channel-header").evaluate_all(right) <= 360
    channel = chat.page.get_by_role("button", name="general")
    await expect(channel).to_be_hidden()
    await chat.page.get_by_role("button", name="Show channels").click()
    await channel.click()
    await expect(channel).to_be_hidden()
    await expect(chat.page.get_by_role("heading", name="general", exact=True)).to_be_visible()


async def test_the_page_finds_its_server_again(visit: Visit) -> None:
    before = Sandbox()
    await before.start()
    chat = await visit(before, "bob")
    port = int(before.url.rsplit(":", 1)[1])
    await before.close()
    await expect(chat.page.locator("body.offline")).to_be_attached()
    after = Sandbox()
    await after.start(port=port)
    try:
        await expect(chat.page.locator("body.offline")).to_have_count(0)
        await chat.composer.fill("Still here")
        await chat.composer.press("Enter")
        await expect(chat.messages.last).to_contain_text("Still here")
    finally:
        chat.errors.clear()  # The browser reports every connection that was refused.
        await after.close()
