"""The discord.py client: what it hears, what it loads, and when it tells Discord about its commands."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
from pathlib import Path

import aiohttp
import discord
import yarl
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from bot.errors import SettingsError
from bot.services import Services

log = logging.getLogger(__name__)

CONNECTIONS = 48
"""To Discord at once: opening one for each of a crowd that presses together takes longer than waiting for one."""

EXTENSIONS = tuple(
    f"bot.commands.{area}"
    for area in (
        "errors",
        "imagine",
        "checkpoint",
        "lora",
        "buttons",
        "queue",
        "usage",
        "help",
        "terms",
        "rules",
        "moderation",
        "audit",
        "privacy",
        "verify",
        "review",
        "report",
        "restrict",
    )
)


class ImagineBot(commands.Bot):
    """Hears of guilds and interactions only; no privileged intent, no message content, no member list."""

    services: Services
    """To be set before `login`, because the extensions work with them."""

    def __init__(self, data_dir: Path) -> None:
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # it never speaks
        intents = discord.Intents.none()
        intents.guilds = True
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            max_messages=None,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        )
        self._synced = data_dir / "commands.sha256"

    def is_age_restricted(self, guild_id: int | None, channel_id: int) -> bool:
        """Whether the channel, or the one a thread belongs to, is marked so; not where it is unknown."""
        guild = self.get_guild(guild_id) if guild_id is not None else None
        channel = guild.get_channel_or_thread(channel_id) if guild is not None else None
        # A category has the mark too, but nobody writes in one.
        return channel is not None and channel.is_nsfw()

    async def setup_hook(self) -> None:
        for extension in EXTENSIONS:
            await self.load_extension(extension)
        await self._sync_when_changed()

    async def _sync_when_changed(self) -> None:
        """Discord allows 200 command creations a day, so it hears of the commands only when they changed.

        A sandbox forgets them whenever it ends, so it is always told.
        """
        payload = [command.to_dict(self.tree) for command in self.tree.get_commands()]
        content = json.dumps([self.application_id, payload], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        known = self._synced.read_text().strip() if self._synced.exists() else None
        if known == digest and not _is_loopback(yarl.URL(discord.http.Route.BASE)):
            return
        await self.tree.sync()
        self._synced.write_text(digest + "\n")
        log.info("Told Discord about %d commands.", len(payload))


def point_at_sandbox(api_base: str) -> None:
    """Make discord.py talk to a local sandbox instead of Discord.

    `api_base` is its REST address, such as http://127.0.0.1:8080/api/v10. Raises SettingsError for any host but this
    machine, so that a token never travels to a stranger.
    """
    url = yarl.URL(api_base.rstrip("/"))
    if url.scheme != "http" or not _is_loopback(url):
        raise SettingsError(
            f"IMAGINE_DISCORD_API_BASE is {api_base!r}, but only a sandbox on this machine is allowed, "
            "such as http://127.0.0.1:8080/api/v10. Leave it unset to talk to Discord."
        )
    discord.http.Route.BASE = str(url)
    DiscordWebSocket.DEFAULT_GATEWAY = url.with_scheme("ws").with_path("/gateway")
    discord.asset.Asset.BASE = str(url.with_path("/cdn"))


def _is_loopback(url: yarl.URL) -> bool:
    if url.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(url.host or "").is_loopback
    except ValueError:
        return False
