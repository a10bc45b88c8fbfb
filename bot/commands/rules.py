"""/rules: what a server's managers do not want to be asked for, above what the bot refuses everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
from discord import app_commands
from discord.ext import commands

from bot.commands.catalogue import MAX_CHOICES
from bot.commands.managing import Managing
from bot.errors import PromptRefused
from bot.moderation.prompt_rules import LONGEST_PATTERN, LONGEST_REASON, NewRule, RuleAction, RuleKind
from bot.prompt.options import JobOptions
from bot.views import rules as rules_view
from bot.views import text

if TYPE_CHECKING:
    from bot.client import ImagineBot

COMMAND = "rules"


@app_commands.guild_install()
@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Rules(commands.GroupCog, group_name=COMMAND):
    """What prompts may not ask for in this server."""

    def __init__(self, bot: ImagineBot) -> None:
        self._rules = bot.services.server_rules
        self._prompts = bot.services.prompt_rules
        self._managing = Managing(bot)

    @app_commands.command(name="list")
    async def show(self, interaction: discord.Interaction) -> None:
        """Show this server's rules (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        await interaction.response.send_message(view=rules_view.render(await self._rules.of(guild_id)), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(
        pattern="A word or phrase, or a regular expression (RE2)",
        action="What becomes of a prompt in which it is found",
        kind="Words are found in disguise as well; default: literal",
        reason="What the author of such a prompt is told",
    )
    async def add(
        self,
        interaction: discord.Interaction,
        pattern: app_commands.Range[str, 1, LONGEST_PATTERN],
        action: RuleAction,
        kind: RuleKind = RuleKind.LITERAL,
        reason: app_commands.Range[str, 1, LONGEST_REASON] | None = None,
    ) -> None:
        """Refuse, hold or warn about prompts (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        rule = await self._rules.add(guild_id, interaction.user.id, NewRule(kind, pattern, action, reason))
        await interaction.response.send_message(f"Added: {rules_view.line(rule)}", ephemeral=True)

    @app_commands.command()
    @app_commands.describe(rule="Its number, as in /rules list")
    async def remove(self, interaction: discord.Interaction, rule: int) -> None:
        """Take a rule back (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        removed = await self._rules.remove(guild_id, interaction.user.id, rule)
        await interaction.response.send_message(f"Removed: {rules_view.line(removed)}", ephemeral=True)

    @remove.autocomplete("rule")
    async def _offer_rules(self, interaction: discord.Interaction, typed: int | str) -> list[app_commands.Choice[int]]:
        if not interaction.guild_id or not interaction.permissions.manage_guild:
            return []
        offered = [(f"{rule.id}: {rule.pattern}"[:100], rule.id) for rule in await self._rules.of(interaction.guild_id)]
        fitting = [app_commands.Choice(name=name, value=value) for name, value in offered if str(typed) in name]
        return fitting[:MAX_CHOICES]

    @app_commands.command()
    @app_commands.describe(prompt="Nothing is drawn")
    async def test(self, interaction: discord.Interaction, prompt: app_commands.Range[str, 1, 1000]) -> None:
        """Show what would become of a prompt here (needs Manage Server)."""
        guild_id = await self._managing.require(interaction, COMMAND)
        options = JobOptions(prompt=prompt)
        matches = await self._rules.matches(guild_id, (prompt,))
        lines = [f"{match.rule.action.capitalize()}: {rules_view.line(match.rule)}" for match in matches]
        try:
            self._prompts.require_floor(options)
        except PromptRefused as refused:
            lines.insert(0, f"Refused everywhere: {text.quoted(str(refused), 200)}")
        answer = "\n".join(lines) or "No rule is against that."
        await interaction.response.send_message(answer[:2000], ephemeral=True)


async def setup(bot: ImagineBot) -> None:
    await bot.add_cog(Rules(bot))
