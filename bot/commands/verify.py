"""Whether a picture came from this bot, asked by command or from the menu of a message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands

from bot.errors import PicturesGone, TooLarge
from bot.moderation import hashes
from bot.views import text
from t2i.provenance import Finding, Origin, UnreadablePicture, verify

if TYPE_CHECKING:
    from bot.client import ImagineBot

MENU = "Where is this from?"
MOST_BYTES = 25 * 2**20
MOST_PICTURES = 4
"""Of one message."""

Upload = discord.Attachment | discord.UnfurledMediaItem

_SIGNS = {Origin.MADE_HERE: "✅", Origin.EDITED: "✏️", Origin.UNKNOWN: "❔"}


class Verifying(commands.Cog):
    def __init__(self, bot: ImagineBot) -> None:
        self._bot = bot
        self._tracing = bot.services.tracing
        self._roots = bot.services.roots
        self._menu = app_commands.ContextMenu(name=MENU, callback=self._choose)

    async def cog_load(self) -> None:
        self._bot.tree.add_command(self._menu)

    async def cog_unload(self) -> None:
        self._bot.tree.remove_command(self._menu.name, type=self._menu.type)

    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
    @app_commands.describe(picture="A PNG, WebP or JPEG file")
    async def verify(self, interaction: discord.Interaction, picture: discord.Attachment) -> None:
        """Ask whether a picture was made by this bot, and from which prompt."""
        await self._answer(interaction, [picture])

    async def _choose(self, interaction: discord.Interaction, message: discord.Message) -> None:
        shown: list[Upload] = [*message.attachments, *_uploaded(message.components)]
        pictures = [file for file in shown if (file.content_type or "").startswith("image/")]
        if not pictures:
            raise PicturesGone("There is no picture in this message.")
        await self._answer(interaction, pictures[:MOST_PICTURES])

    async def _answer(self, interaction: discord.Interaction, pictures: Sequence[Upload]) -> None:
        for picture in pictures:
            if isinstance(picture, discord.Attachment) and picture.size > MOST_BYTES:
                raise TooLarge(f"{picture.filename} is larger than {MOST_BYTES // 2**20} MB, so it is not looked at.")
        await interaction.response.defer(ephemeral=True, thinking=True)
        said = [await self._say(picture, interaction.guild_id) for picture in pictures]
        await interaction.followup.send("\n".join(said)[:2000], ephemeral=True)

    async def _say(self, picture: Upload, guild_id: int | None) -> str:
        name = text.quoted(picture.url.partition("?")[0].rpartition("/")[2], 100)
        try:
            # Discord's own address of a file that is there; nobody can name another.
            data = await self._bot.http.get_from_cdn(picture.url)
            finding = await asyncio.to_thread(verify, data, self._roots)
        except UnreadablePicture as error:
            return f"❔ **{name}:** {error}"
        except (discord.HTTPException, aiohttp.ClientError, OSError):
            return f"❔ **{name}:** Discord did not give the file; try again."
        lines = [f"{_SIGNS[finding.origin]} **{name}: {finding.origin}.** {text.quoted(finding.sentence)}"]
        if finding.text:
            lines.append(f"> {text.quoted(finding.text, 300)}")
        elif guild_id is not None and (alike := await self._alike(finding, data, guild_id)):
            lines.append(f"-# It looks like picture {alike[1] + 1} of job {alike[0]}, which was drawn here.")
        return "\n".join(lines)

    async def _alike(self, finding: Finding, data: bytes, guild_id: int) -> tuple[int, int] | None:
        if finding.origin is Origin.MADE_HERE:
            return None
        phash = await asyncio.to_thread(hashes.phash, data)
        return await self._tracing.find(guild_id, phash)


def _uploaded(components: Iterable[Any]) -> Iterator[discord.UnfurledMediaItem]:
    """Files that a message of components shows, but none that lies elsewhere: nobody makes the bot fetch an address."""
    for component in components:
        for item in getattr(component, "items", ()):
            if item.media.attachment_id is not None:
                yield item.media
        yield from _uploaded(getattr(component, "children", ()))


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Verifying(bot))
