from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import discord
import pytest
from discord import app_commands
from PIL import Image

from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.script import StepFailed, run_script
from bot.sandbox.server import Sandbox
from bot.sandbox.typed import TypedCommand, named_values, parse_command
from tests.bot.sandbox.conftest import Bot, connected
from tests.bot.sandbox.person import Person

# --- a bot that draws as the real one does, in four edits -----------------------------------------------------------


def drawing(colour: str) -> discord.File:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(data, "PNG")
    data.seek(0)
    return discord.File(data, "picture.png")


class Picture(discord.ui.LayoutView):
    def __init__(self, text: str, *labels: str, shown: bool = False) -> None:
        super().__init__()
        self.add_item(discord.ui.TextDisplay(text))
        if shown:
            gallery: discord.ui.MediaGallery[Picture] = discord.ui.MediaGallery()
            self.add_item(gallery.add_item(media="attachment://picture.png", description=text))
        row: discord.ui.ActionRow[Picture] = discord.ui.ActionRow()
        for label in labels:
            row.add_item(discord.ui.Button(label=label, custom_id=f"picture:{label}"))
        self.add_item(row)


class Sizes(discord.ui.View):
    @discord.ui.select(options=[discord.SelectOption(label=label, value=label[0]) for label in ("Small", "Large")])
    async def size(self, interaction: discord.Interaction, select: discord.ui.Select[Sizes]) -> None:
        await interaction.response.edit_message(content=f"chose {select.values[0]}", view=None)


class Ask(discord.ui.Modal, title="Remix"):
    words: discord.ui.TextInput[Ask] = discord.ui.TextInput(label="New words", custom_id="words")

    async def on_submit(self, interaction: discord.Interaction) -> None:
        await draw(interaction, self.words.value)


async def draw(interaction: discord.Interaction, colour: str) -> None:
    await interaction.response.send_message(view=Picture("queued", "Cancel"))
    await interaction.edit_original_response(view=Picture("50 %", "Cancel", shown=True), attachments=[drawing("grey")])
    done = Picture(f"a {colour} square", "V1", "Remix", "Delete", shown=True)
    await interaction.edit_original_response(view=done, attachments=[drawing(colour)])


class Painter(Bot):
    def __init__(self) -> None:
        super().__init__()

        @self.tree.command(description="Draws a square")
        async def paint(interaction: discord.Interaction, colour: str, size: app_commands.Range[int, 1, 9] = 1) -> None:
            await draw(interaction, colour)

        @self.tree.command(description="Asks for a size")
        async def ask(interaction: discord.Interaction) -> None:
            await interaction.response.send_message(view=Sizes())

        @self.tree.command(description="Says nothing")
        async def mute(interaction: discord.Interaction) -> None: ...

        @self.tree.context_menu(name="Repaint")
        async def repaint(interaction: discord.Interaction, message: discord.Message) -> None:
            await interaction.user.send(f"painting {message.id} anew")
            await draw(interaction, "white")

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        if interaction.type is discord.InteractionType.component:
            assert interaction.data is not None
            assert interaction.message is not None
            match interaction.data.get("custom_id"):
                case "picture:V1":
                    await draw(interaction, "blue")
                case "picture:Remix":
                    await interaction.response.send_modal(Ask(custom_id="ask"))
                case "picture:Delete":
                    await interaction.response.defer()
                    await interaction.message.delete()


@asynccontextmanager
async def painted(sandbox: Sandbox) -> AsyncIterator[None]:
    async with connected(Painter(), sandbox):
        yield


async def reports(sandbox: Sandbox, *steps: str, out: Path | None = None) -> list[dict[str, Any]]:
    return [report async for report in run_script(sandbox.url, steps, out=out, step_seconds=5)]


async def test_a_script_reports_each_settled_message_and_saves_its_pictures(sandbox: Sandbox, tmp_path: Path) -> None:
    async with painted(sandbox):
        first, second = await reports(sandbox, "/paint colour: red size: 3", "press V1", out=tmp_path)
    assert first["step"] == "/paint colour: red size: 3"
    assert first["user"] == "bob"
    assert first["content"] == "a red square"
    assert first["edits"] == 2
    assert [component["label"] for component in first["components"]] == ["V1", "Remix", "Delete"]
    assert 0 < first["seconds_to_preview"] <= first["seconds"]
    (attachment,) = first["attachments"]
    assert (attachment["width"], attachment["alt"]) == (32, "a red square")
    assert Image.open(attachment["path"]).getpixel((0, 0)) == (255, 0, 0)
    assert Image.open(second["attachments"][0]["path"]).getpixel((0, 0)) == (0, 0, 255)
    assert first["message_id"] != second["message_id"]
    assert first["attachments"][0]["path"] != second["attachments"][0]["path"]


async def test_a_script_fills_forms_and_sees_deletions(sandbox: Sandbox) -> None:
    async with painted(sandbox):
        _, form, remixed, deleted = await reports(
            sandbox, "/paint red", "press Remix", "fill New words: green", "press delete"
        )
    assert form["modal"] == {"title": "Remix", "fields": ["words", "New words"]}
    assert remixed["content"] == "a green square"
    assert deleted["deleted"] == remixed["message_id"]


async def test_a_script_selects_by_label(sandbox: Sandbox) -> None:
    async with painted(sandbox):
        asked, chosen = await reports(sandbox, "/ask", "select Large")
    assert asked["components"][0]["options"] == ["Small", "Large"]
    assert (chosen["message_id"], chosen["content"], chosen["edits"]) == (asked["message_id"], "chose L", 1)


async def test_a_script_goes_on_as_somebody_else_and_elsewhere(sandbox: Sandbox) -> None:
    async with painted(sandbox):
        steps = ("/paint red", "as Alice", "press V1", "in #gallery", "say hello", "/paint green")
        first, second, third = await reports(sandbox, *steps)
    assert [report["user"] for report in (first, second, third)] == ["bob", "alice", "alice"]
    gallery = next(c for c in sandbox.world.guild.channels.values() if c.name == "gallery")
    assert [message.content for message in gallery.messages.values()] == ["hello", ""]


async def test_a_script_uses_the_menu_of_a_message_and_sees_what_the_bot_says_by_itself(sandbox: Sandbox) -> None:
    async with painted(sandbox):
        painted_red, repainted, told = await reports(
            sandbox, "/paint red", "as alice", "menu Repaint", "in Imagine Bot", "see painting"
        )
    assert (repainted["content"], repainted["user"]) == ("a white square", "alice")
    assert told["content"] == f"painting {painted_red['message_id']} anew"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("/draw red", "There is no command named /draw"),
        ("/paint shade: red", "has no option named shade"),
        ("/paint size: 2", "colour of /paint is required"),
        ("/paint red size: 12", "size must be from 1 to 9"),
        ("press V9", "there is no button V9"),
        ("fill Reason: none", "no form is open"),
        ("select Small", "no menu offers Small"),
        ("as nobody", "nobody is called nobody"),
        ("in #cellar", "sees no channel #cellar"),
        ("menu Repaint", "no message with a picture"),
        ("wait", "nothing was begun"),
        ("dance", "a step is a /command, press"),
    ],
)
async def test_a_step_that_cannot_be_done_fails_with_its_number_and_a_sentence(
    sandbox: Sandbox, step: str, sentence: str
) -> None:
    async with painted(sandbox):
        with pytest.raises(StepFailed) as failed:
            await reports(sandbox, "say first", step)
    assert str(failed.value).startswith(f"Step 2 ({step}) failed: ")
    assert sentence in str(failed.value)


async def test_a_bot_that_does_not_answer_fails_the_step() -> None:
    async with Sandbox(ack_seconds=0.05) as sandbox, painted(sandbox):
        with pytest.raises(StepFailed, match="The application did not respond"):
            await reports(sandbox, "/mute")


async def test_the_end_of_the_sandbox_ends_the_script() -> None:
    async with Sandbox() as sandbox, painted(sandbox):
        asked = asyncio.create_task(anext(run_script(sandbox.url, ("/mute",), step_seconds=5)))
        async with Person(sandbox, "bob") as bob:
            await bob.types("mute")
        await sandbox.close()
        with pytest.raises(StepFailed, match="sandbox"):
            await asked


# --- typed commands -------------------------------------------------------------------------------------------------

COMMANDS = [
    {
        "name": "imagine",
        "options": [
            {"name": "prompt", "type": 3, "required": True},
            {"name": "seed", "type": 4},
            {"name": "guidance", "type": 10},
        ],
    },
    {
        "name": "checkpoint",
        "options": [
            {"name": "list", "type": 1},
            {"name": "use", "type": 1, "options": [{"name": "name", "type": 3, "required": True}]},
        ],
    },
    {"name": "help", "options": []},
]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/imagine prompt: a red apple seed: 7", ("imagine", None, {"prompt": "a red apple", "seed": "7"})),
        ("/imagine a red apple seed: 7", ("imagine", None, {"prompt": "a red apple", "seed": "7"})),
        ("/imagine seed:7 prompt:a clock at 12:30", ("imagine", None, {"seed": "7", "prompt": "a clock at 12:30"})),
        ("/checkpoint list", ("checkpoint", "list", {})),
        ("/checkpoint use name: embedded", ("checkpoint", "use", {"name": "embedded"})),
        ("/checkpoint use embedded", ("checkpoint", "use", {"name": "embedded"})),
        ("/help", ("help", None, {})),
    ],
)
def test_a_typed_command_is_read(typed: str, expected: tuple[str, str | None, dict[str, str]]) -> None:
    assert parse_command(typed, COMMANDS) == TypedCommand(*expected)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("/imagine colour: red", "no option named colour"),
        ("/imagine prompt: a seed: 1 seed: 2", "given twice"),
        ("/imagine something prompt: else", "does not know what to do"),
        ("/checkpoint drop", "needs one of: list, use"),
        ("/help me", "does not know what to do"),
        ("/nothing", "no command named /nothing"),
    ],
)
def test_a_typed_command_that_fits_no_command_is_refused(typed: str, sentence: str) -> None:
    with pytest.raises(SandboxRefusal, match=sentence):
        parse_command(typed, COMMANDS)


def test_the_longest_option_name_wins() -> None:
    assert named_values("size: 1 size max: 2", ["size", "size max"]) == ("", {"size": "1", "size max": "2"})
