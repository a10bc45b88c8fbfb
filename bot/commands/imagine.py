"""/imagine: words in, pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.admission import Admission
from bot.commands.catalogue import Catalogue
from bot.jobs.model import JobKind
from bot.prompt.options import GRID_IMAGES, JobOptions
from t2i.api import MAX_GUIDANCE_SCALE, MAX_IMAGES, MAX_PROMPT_LENGTH, MAX_SEED, MAX_STEPS

if TYPE_CHECKING:
    from bot.client import ImagineBot


class Imagine(commands.Cog):
    def __init__(self, admission: Admission, catalogue: Catalogue) -> None:
        self._admission = admission
        self._catalogue = catalogue

    # Discord enforces these ranges in the composer only, so JobOptions.validate has the last word.
    @app_commands.command()
    @app_commands.guild_install()
    @app_commands.allowed_contexts(guilds=True, dms=True, private_channels=False)
    @app_commands.describe(
        prompt="What to draw",
        negative="What to leave out",
        images=f"How many pictures, 1 to {MAX_IMAGES} (default {GRID_IMAGES})",
        steps="Denoising steps: more is slower and finer",
        guidance="How literally to take the prompt",
        seed="The same seed draws the same pictures",
        checkpoint="Which model draws",
    )
    async def imagine(
        self,
        interaction: discord.Interaction,
        *,
        prompt: app_commands.Range[str, 1, MAX_PROMPT_LENGTH],
        negative: app_commands.Range[str, 1, MAX_PROMPT_LENGTH] | None = None,
        images: app_commands.Range[int, 1, MAX_IMAGES] = GRID_IMAGES,
        steps: app_commands.Range[int, 1, MAX_STEPS] | None = None,
        guidance: app_commands.Range[float, 0.0, MAX_GUIDANCE_SCALE] | None = None,
        seed: app_commands.Range[int, 0, MAX_SEED] | None = None,
        checkpoint: str | None = None,
    ) -> None:
        """Draw pictures from words."""
        options = JobOptions(
            prompt=prompt,
            negative_prompt=negative,
            images=images,
            steps=steps,
            guidance_scale=guidance,
            seed=seed,
            checkpoint=checkpoint,
        )
        await self._admission.admit(interaction, JobKind.IMAGINE, options)

    @imagine.autocomplete("checkpoint")
    async def _offer_checkpoints(self, interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        return await self._catalogue.choices(typed, interaction.guild_id)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Imagine(bot.services.admission, bot.services.catalogue))
