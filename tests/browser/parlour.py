"""A small discord.py bot, in this process, that shows what the page has to show."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import discord
import pytest
import yarl
from discord import app_commands, ui
from discord.gateway import DiscordWebSocket
from discord.http import Route
from PIL import Image

from bot.sandbox.server import Sandbox

STYLES = tuple(f"style-{number}" for number in range(30))


class Parlour(discord.Client):
    def __init__(self) -> None:
        super().__init__(intents=discord.Intents(guilds=True), guild_ready_timeout=0.0)
        self.tree = app_commands.CommandTree(self)
        commands: tuple[app_commands.Command[Any, ..., Any], ...] = (
            *(gallery, silence, checklist, remix),
            *(hello, stranger, paint, rules),
        )
        for command in commands:
            self.tree.add_command(command)
        self.tree.add_command(count_tiles)

    async def setup_hook(self) -> None:
        await self.tree.sync()

    @classmethod
    @asynccontextmanager
    async def in_sandbox(cls, sandbox: Sandbox, patch: pytest.MonkeyPatch) -> AsyncIterator[Self]:
        patch.setattr(Route, "BASE", sandbox.api_base)
        patch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(sandbox.gateway.url))
        async with cls() as client:
            running = asyncio.create_task(client.start(sandbox.token))
            yield client
            await client.close()
            await asyncio.gather(running, return_exceptions=True)


def _picture(shade: int, name: str) -> discord.File:
    data = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, 40, 255 - shade)).save(data, "PNG")
    data.seek(0)
    return discord.File(data, name)


@app_commands.command()
async def gallery(
    interaction: discord.Interaction, count: app_commands.Range[int, 1, 10], spoiler: bool = False
) -> None:
    """Pictures in a gallery."""
    files = [_picture(20 * index, f"tile-{index}.png") for index in range(count)]
    items = [
        discord.MediaGalleryItem(file, description=f"Tile {index + 1}", spoiler=spoiler)
        for index, file in enumerate(files)
    ]
    view = ui.LayoutView()
    view.add_item(ui.MediaGallery(*items))
    await interaction.response.send_message(view=view, files=files)


@app_commands.context_menu(name="Count tiles")
async def count_tiles(interaction: discord.Interaction, message: discord.Message) -> None:
    galleries = (part for part in message.components if isinstance(part, discord.MediaGalleryComponent))
    await interaction.response.send_message(f"There are {sum(len(gallery.items) for gallery in galleries)}.")


@app_commands.command()
async def silence(interaction: discord.Interaction) -> None:
    """Never answers."""


class Checklist(ui.LayoutView):
    """A container with a section, a select of each kind that needs a menu, and a button that edits it."""

    def __init__(self, pressed: int = 0) -> None:
        super().__init__(timeout=None)
        self.pressed = pressed
        self.add_item(
            ui.Container(
                ui.Section(ui.TextDisplay(f"## Checklist\nPressed **{pressed}** times"), accessory=Count()),
                ui.Separator(),
                ui.ActionRow(Colour()),
                ui.ActionRow(People()),
                accent_colour=0x123456,
            )
        )


class Count(ui.Button[Checklist]):
    def __init__(self) -> None:
        super().__init__(label="Count", style=discord.ButtonStyle.success)

    async def callback(self, interaction: discord.Interaction) -> None:
        assert self.view is not None
        await interaction.response.edit_message(view=Checklist(self.view.pressed + 1))


class Colour(ui.Select[Checklist]):
    def __init__(self) -> None:
        options = [discord.SelectOption(label=name, description=f"as {name} as can be") for name in ("Red", "Blue")]
        super().__init__(placeholder="Choose a colour", options=options)

    async def callback(self, interaction: discord.Interaction) -> None:
        await interaction.response.send_message(f"Chosen: {self.values[0]}", ephemeral=True)


class People(ui.UserSelect[Checklist]):
    def __init__(self) -> None:
        super().__init__(placeholder="Choose people", max_values=3)

    async def callback(self, interaction: discord.Interaction) -> None:
        names = sorted(member.display_name for member in self.values)
        await interaction.response.send_message("Invited: " + ", ".join(names))


@app_commands.command()
async def checklist(interaction: discord.Interaction) -> None:
    """Sections, selects and a button that edits."""
    await interaction.response.send_message(view=Checklist())


class Remix(ui.Modal, title="Remix"):
    prompt: ui.Label[Any] = ui.Label(
        text="Prompt", description="Say it anew.", component=ui.TextInput(default="a red apple", max_length=40)
    )
    mood: ui.Label[Any] = ui.Label(
        text="Mood", component=ui.Select(options=[discord.SelectOption(label=mood) for mood in ("Calm", "Wild")])
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        prompt, mood = self.prompt.component, self.mood.component
        assert isinstance(prompt, ui.TextInput)
        assert isinstance(mood, ui.Select)
        await interaction.response.send_message(f"{prompt.value}, {mood.values[0]}", ephemeral=True)


@app_commands.command()
async def remix(interaction: discord.Interaction) -> None:
    """Opens a form."""
    await interaction.response.send_modal(Remix())


@app_commands.command()
async def hello(interaction: discord.Interaction) -> None:
    """A classic message with an embed, buttons and a file."""
    embed = discord.Embed(title="Report", description="**12** pictures", colour=0xE67E22)
    embed.add_field(name="Queue", value="3 jobs")
    view = ui.View()
    view.add_item(ui.Button(label="Off", disabled=True))
    view.add_item(ui.Button(label="Site", url="https://example.invalid/"))
    notes = discord.File(io.BytesIO(b"notes"), "notes.txt")
    await interaction.response.send_message(f"Hi <@{interaction.user.id}>", embed=embed, view=view, file=notes)


@app_commands.command()
async def stranger(interaction: discord.Interaction) -> None:
    """Shows a picture of another server and text that looks like markup."""
    view = ui.LayoutView()
    view.add_item(ui.TextDisplay("<img src=x onerror=alert(1)> <b>not bold</b> [sly](javascript:alert(1))"))
    view.add_item(ui.MediaGallery(discord.MediaGalleryItem("https://example.invalid/spy.png")))
    await interaction.response.send_message(view=view)


@app_commands.command()
@app_commands.describe(what="What to paint", style="How to paint it", size="How large", quick="No waiting")
@app_commands.choices(
    size=[app_commands.Choice(name=name, value=value) for name, value in (("Small", 64), ("Large", 256))]
)
async def paint(
    interaction: discord.Interaction, what: str, style: str | None = None, size: int = 64, quick: bool = False
) -> None:
    """Says what it was asked to paint."""
    await interaction.response.send_message(f"what={what} style={style} size={size} quick={quick}")


@paint.autocomplete("style")
async def _styles(interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
    return [app_commands.Choice(name=style, value=style) for style in STYLES if typed in style][:25]


@app_commands.command()
@app_commands.default_permissions(manage_guild=True)
async def rules(interaction: discord.Interaction) -> None:
    """For managers."""
    await interaction.response.send_message("These are the rules.", ephemeral=True)
