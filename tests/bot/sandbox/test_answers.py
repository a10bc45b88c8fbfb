from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import discord
import pytest

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.conftest import PATIENCE, Bot, RestClient, connected
from tests.bot.sandbox.person import Person, Refused

EPHEMERAL, LOADING = 1 << 6, 1 << 7

Answer = Callable[[discord.Interaction], Awaitable[None]]


@asynccontextmanager
async def answering(sandbox: Sandbox, answer: Answer) -> AsyncIterator[asyncio.Future[None]]:
    """A bot whose /go does `answer`; the future ends as the answer did."""
    bot = Bot()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @bot.tree.command(description="Does what the test wants")
    async def go(interaction: discord.Interaction) -> None:
        try:
            await answer(interaction)
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    async with connected(bot, sandbox):
        yield done


async def test_the_interaction_says_who_where_and_what_they_may(sandbox: Sandbox, bob: Person) -> None:
    seen: list[discord.Interaction] = []

    async def answer(interaction: discord.Interaction) -> None:
        seen.append(interaction)
        await interaction.response.send_message("seen")

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        await asyncio.wait_for(done, PATIENCE)
    (interaction,) = seen
    assert interaction.user.name == "bob"
    assert isinstance(interaction.channel, discord.TextChannel)
    assert interaction.channel.name == "imagine"
    assert interaction.permissions.send_messages
    assert not interaction.permissions.manage_messages
    assert interaction.app_permissions.attach_files
    assert interaction.filesize_limit == 10 * 1024 * 1024
    assert interaction.locale is discord.Locale.american_english
    assert interaction.context.guild


async def test_a_response_gives_its_message_at_once(sandbox: Sandbox, bob: Person) -> None:
    ids: list[int | None] = []

    async def answer(interaction: discord.Interaction) -> None:
        response = await interaction.response.send_message("here")
        ids.append(response.message_id)
        await interaction.edit_original_response(content="and changed")

    async with answering(sandbox, answer) as done:
        interaction_id = await bob.types("go")
        await asyncio.wait_for(done, PATIENCE)
        message = await bob.sees("message_create")
        assert message["content"] == "here"
        assert message["type"] == 20
        assert message["interaction_metadata"]["id"] == interaction_id
        assert message["interaction_metadata"]["name"] == "go"
        updated = await bob.sees("message_update")
    assert updated["content"] == "and changed"
    assert updated["edited_timestamp"] is not None
    assert ids == [int(message["id"])]


async def test_a_deferred_answer_thinks_until_it_is_edited(sandbox: Sandbox, bob: Person) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.defer()
        await interaction.edit_original_response(content="thought")

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        await asyncio.wait_for(done, PATIENCE)
        assert (await bob.sees("message_create"))["flags"] & LOADING
        message = await bob.sees("message_update")
    assert message["content"] == "thought"
    assert not message["flags"] & LOADING
    assert message["edited_timestamp"] is None


async def test_the_first_follow_up_fills_the_thinking_message_and_the_second_is_new(
    sandbox: Sandbox, bob: Person
) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.defer()
        await interaction.followup.send("first")
        second = await interaction.followup.send("second", wait=True)
        await second.edit(content="second, changed")
        await second.delete()
        await interaction.delete_original_response()

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        await asyncio.wait_for(done, PATIENCE)
        first = await bob.sees("message_create")
        assert (await bob.sees("message_update"))["id"] == first["id"]
        second = await bob.sees("message_create")
        assert second["content"] == "second"
        assert second["message_reference"]["message_id"] == first["id"]
        assert (await bob.sees("message_update"))["content"] == "second, changed"
        assert (await bob.sees("message_delete"))["id"] == second["id"]
        assert (await bob.sees("message_delete"))["id"] == first["id"]


async def test_an_ephemeral_answer_is_seen_by_one_person_and_by_no_channel(
    sandbox: Sandbox, bob: Person, alice: Person, rest: RestClient
) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("only you", ephemeral=True)

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        await asyncio.wait_for(done, PATIENCE)
        message = await bob.sees("message_create")
        assert message["flags"] & EPHEMERAL
        status, error = await rest("GET", f"/channels/{bob.channel_id}/messages/{message['id']}")
        assert (status, error["code"]) == (404, 10008)
        assert (await alice.state())["messages"][alice.channel_id] == []
        assert len((await bob.state())["messages"][bob.channel_id]) == 1
        # The next thing alice sees is what was written after it.
        await bob.does("message", content="for all")
        assert (await alice.sees("message_create"))["content"] == "for all"
        with pytest.raises(Refused, match="gone"):
            await alice.does("dismiss", message_id=message["id"])
        await bob.does("dismiss", message_id=message["id"])
        assert (await bob.sees("message_delete"))["id"] == message["id"]


async def test_a_second_acknowledgement_is_refused(sandbox: Sandbox, bob: Person) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.defer()
        interaction.response._response_type = None
        await interaction.response.send_message("again")

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        with pytest.raises(discord.HTTPException) as refused:
            await asyncio.wait_for(done, PATIENCE)
    assert (refused.value.status, refused.value.code) == (400, 40060)


async def test_a_late_answer_finds_the_interaction_gone_and_the_person_was_told() -> None:
    async with Sandbox(ack_seconds=0.05) as sandbox, Person(sandbox, "bob") as bob:

        async def answer(interaction: discord.Interaction) -> None:
            failed.set_result(await bob.sees("interaction_failed"))
            await interaction.response.send_message("too late")

        failed: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        async with answering(sandbox, answer) as done:
            interaction_id = await bob.types("go")
            with pytest.raises(discord.NotFound) as refused:
                await asyncio.wait_for(done, PATIENCE)
    assert refused.value.code == 10062
    assert await failed == {"interaction_id": interaction_id, "message": "The application did not respond"}


async def test_an_expired_token_is_refused() -> None:
    async with Sandbox(token_seconds=0.0) as sandbox, Person(sandbox, "bob") as bob:

        async def answer(interaction: discord.Interaction) -> None:
            await interaction.response.send_message("quick")
            await interaction.edit_original_response(content="15 minutes later")

        async with answering(sandbox, answer) as done:
            await bob.types("go")
            with pytest.raises(discord.HTTPException) as refused:
                await asyncio.wait_for(done, PATIENCE)
    assert (refused.value.status, refused.value.code) == (401, 50027)


async def test_a_webhook_before_the_answer_or_with_an_unknown_token_does_not_exist(
    sandbox: Sandbox, bob: Person, rest: RestClient
) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.followup.send("nobody answered yet")

    async with answering(sandbox, answer) as done:
        await bob.types("go")
        with pytest.raises(discord.NotFound) as refused:
            await asyncio.wait_for(done, PATIENCE)
    assert refused.value.code == 10015
    status, error = await rest("POST", f"/webhooks/{sandbox.world.application_id}/made-up", {"content": "x"})
    assert (status, error["code"]) == (404, 10015)


async def test_with_no_bot_connected_a_person_is_told_so(sandbox: Sandbox, bob: Person, rest: RestClient) -> None:
    body = {"name": "go", "description": "Goes"}
    status, _ = await rest("POST", f"/applications/{sandbox.world.application_id}/commands", body)
    assert status == 201
    with pytest.raises(Refused, match="not connected"):
        await bob.types("go")


# --- components -----------------------------------------------------------------------------------------------------


class Panel(discord.ui.View):
    @discord.ui.button(label="Again", custom_id="again")
    async def again(self, interaction: discord.Interaction, button: discord.ui.Button[Panel]) -> None:
        await interaction.response.edit_message(content="pressed", view=None)

    @discord.ui.button(label="Quiet", custom_id="quiet")
    async def quiet(self, interaction: discord.Interaction, button: discord.ui.Button[Panel]) -> None:
        await interaction.response.defer()
        await interaction.edit_original_response(content="quietly")

    @discord.ui.button(label="Off", custom_id="off", disabled=True)
    async def off(self, interaction: discord.Interaction, button: discord.ui.Button[Panel]) -> None:
        raise AssertionError

    @discord.ui.select(
        custom_id="size",
        options=[discord.SelectOption(label="Small", value="s"), discord.SelectOption(label="Large", value="l")],
    )
    async def size(self, interaction: discord.Interaction, select: discord.ui.Select[Panel]) -> None:
        await interaction.response.send_message(f"chose {select.values[0]}", ephemeral=True)


@asynccontextmanager
async def panel(sandbox: Sandbox, bob: Person) -> AsyncIterator[dict[str, object]]:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("panel", view=Panel())

    async with answering(sandbox, answer):
        await bob.types("go")
        yield await bob.sees("message_create")


async def test_a_click_can_change_the_message_it_was_on(sandbox: Sandbox, bob: Person) -> None:
    async with panel(sandbox, bob) as message:
        interaction_id = await bob.presses(message, "again")
        updated = await bob.sees("message_update")
        answered = await bob.sees("interaction_answered", lambda d: d["interaction_id"] == interaction_id)
    assert (updated["id"], updated["content"], updated["components"]) == (message["id"], "pressed", [])
    assert (answered["callback"], answered["message_id"]) == (7, message["id"])


async def test_a_click_can_be_acknowledged_quietly_and_answered_by_an_edit(sandbox: Sandbox, bob: Person) -> None:
    async with panel(sandbox, bob) as message:
        await bob.presses(message, "quiet")
        assert (await bob.sees("message_update"))["content"] == "quietly"


async def test_a_selection_carries_its_values(sandbox: Sandbox, bob: Person) -> None:
    async with panel(sandbox, bob) as message:
        await bob.presses(message, "size", ["l"])
        answer = await bob.sees("message_create")
    assert answer["content"] == "chose l"
    assert answer["interaction_metadata"]["interacted_message_id"] == message["id"]


@pytest.mark.parametrize(
    ("custom_id", "values", "sentence"),
    [
        ("gone", None, "no longer there"),
        ("off", None, "switched off"),
        ("size", ["xl"], "not in the list"),
        ("size", ["s", "l"], "from 1 to 1"),
    ],
)
async def test_a_click_that_discord_would_not_offer_is_refused(
    sandbox: Sandbox, bob: Person, custom_id: str, values: list[str] | None, sentence: str
) -> None:
    async with panel(sandbox, bob) as message:
        with pytest.raises(Refused, match=sentence):
            await bob.presses(message, custom_id, values)


# --- modals and autocomplete ----------------------------------------------------------------------------------------


class Form(discord.ui.Modal, title="Why?"):
    reason: discord.ui.Label[Form] = discord.ui.Label(
        text="Reason", component=discord.ui.TextInput(custom_id="reason", min_length=3)
    )
    more: discord.ui.TextInput[Form] = discord.ui.TextInput(label="More", custom_id="more", required=False)

    async def on_submit(self, interaction: discord.Interaction) -> None:
        assert isinstance(self.reason.component, discord.ui.TextInput)
        await interaction.response.send_message(f"because {self.reason.component.value}{self.more.value}")


async def test_a_form_opens_for_one_person_and_comes_back_filled(sandbox: Sandbox, bob: Person, alice: Person) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.send_modal(Form(custom_id="why"))

    async with answering(sandbox, answer):
        await bob.types("go")
        modal = await bob.sees("modal")
        assert modal["title"] == "Why?"
        form = {"interaction_id": modal["interaction_id"], "custom_id": "why"}
        with pytest.raises(Refused, match="no longer open"):
            await alice.does("modal", **form, fields={"reason": "mine"})
        with pytest.raises(Refused, match="from 3 to 4000 characters"):
            await bob.does("modal", **form, fields={"reason": "no"})
        await bob.does("modal", **form, fields={"reason": "it rains"})
        assert (await bob.sees("message_create"))["content"] == "because it rains"
        with pytest.raises(Refused, match="no longer open"):
            await bob.does("modal", **form, fields={"reason": "it rains"})


async def test_autocomplete_brings_the_bots_suggestions(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()

    @bot.tree.command(description="Draws")
    async def draw(interaction: discord.Interaction, colour: str, count: int = 1) -> None: ...

    @draw.autocomplete("colour")
    async def colours(interaction: discord.Interaction, current: str) -> list[discord.app_commands.Choice[str]]:
        known = ("red", "green", "grey")
        return [discord.app_commands.Choice(name=c.title(), value=c) for c in known if c.startswith(current)]

    async with connected(bot, sandbox):
        asked = {"command": "draw", "options": {"colour": "gr", "count": 2}, "focused": "colour"}
        answer = await bob.does("autocomplete", **asked)
    assert answer["choices"] == [{"name": "Green", "value": "green"}, {"name": "Grey", "value": "grey"}]
