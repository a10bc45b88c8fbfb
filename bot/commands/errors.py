"""The one place where a failure becomes a sentence for whoever pressed or typed."""

from __future__ import annotations

import logging
import secrets

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands
from discord.http import Route

from bot.errors import TermsNotAccepted, UserFacingError
from bot.views import terms as terms_view
from t2i.api import T2IError

log = logging.getLogger(__name__)

UNKNOWN_INTERACTION = 10062


async def report(interaction: discord.Interaction, error: Exception) -> None:
    """Tell the person what went wrong, privately, in one sentence.

    The order, first match wins:

    1. What discord.py wrapped around an error raised in a command is taken off.
    2. UserFacingError and T2IError were written for people: their text goes out as it is; with terms that were not
       accepted goes the button that accepts them.
    3. The checks of discord.py: a missing permission, a command used outside a server.
    4. A command that Discord knows in an older form than this process.
    5. Discord no longer knows the interaction (the 3 seconds were over): nobody can be told, so it is only logged.
    6. Discord forbids it: the person is told that the bot lacks a permission; nothing is tried again.
    7. Anything else is a defect: logged with its traceback under a short code, which the person can quote.
    """
    if isinstance(error, app_commands.CommandInvokeError):
        error = error.original
    if isinstance(error, discord.NotFound) and error.code == UNKNOWN_INTERACTION:
        log.warning("Interaction %d was answered too late.", interaction.id)
        return
    view = terms_view.ask(error) if isinstance(error, TermsNotAccepted) else None
    await _say(interaction, _sentence(error), view)


async def take_back(bot: discord.Client, interaction_id: int, token: str, error: Exception) -> None:
    """The same, when the process that answered an interaction by the public "thinking…" was killed."""
    sentence = _sentence(error)
    answers = f"/webhooks/{bot.application_id}/{token}"
    note = {"content": sentence, "flags": discord.MessageFlags(ephemeral=True).value}
    try:
        await bot.http.request(Route("DELETE", f"{answers}/messages/@original"))
        await bot.http.request(Route("POST", answers), json=note)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as failure:
        log.warning("Interaction %d could not be told %r: %s", interaction_id, sentence, failure)


def _sentence(error: Exception) -> str:
    match error:
        case UserFacingError() | T2IError():
            return str(error)
        case app_commands.MissingPermissions(missing_permissions=missing):
            names = " and ".join(_permission_name(name) for name in missing)
            return f"You need the permission {names} for that."
        case app_commands.NoPrivateMessage():
            return "This command works in servers only."
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch():
            return "This command has just changed: reload Discord (Ctrl+R) and try again."
        case discord.Forbidden():
            return "Discord does not let me do that here: a moderator has to give me the permission."
        case _:
            code = secrets.token_hex(3)
            log.error("Defect %s", code, exc_info=error)
            return f"Something went wrong on my side; the operator finds it in the log as `{code}`. Please try again."


def _permission_name(name: str) -> str:
    return "Manage Server" if name == "manage_guild" else name.replace("_", " ").title()


async def _say(interaction: discord.Interaction, sentence: str, view: discord.ui.View | None) -> None:
    shown = discord.utils.MISSING if view is None else view
    try:
        if not interaction.response.is_done():
            await interaction.response.send_message(sentence, view=shown, ephemeral=True)
            return
        if interaction.response.type is discord.InteractionResponseType.deferred_channel_message:
            await interaction.delete_original_response()  # the public "thinking…", which would swallow a private note
        await interaction.followup.send(sentence, view=shown, ephemeral=True)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as failure:
        log.warning("Interaction %d could not be told %r: %s", interaction.id, sentence, failure)


async def setup(bot: commands.Bot) -> None:
    bot.tree.error(report)
