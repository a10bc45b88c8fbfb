"""Changes of checkpoints, each with the one message that tells how it goes."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

import discord

from bot.commands.admission import require_permissions
from bot.commands.catalogue import Catalogue
from bot.commands.notes import Note, find_answer
from bot.errors import CheckpointRefused, NothingToUndo, SwitchFailed, UserFacingError
from bot.jobs.changes import Change, ChangeKind, Changes, ChangeState
from bot.jobs.checkpoints import Checkpoints
from bot.jobs.shelving import Shelving
from bot.jobs.switching import Standing, Step, Switching
from bot.moderation.judging import Judging
from bot.views import changes as view
from t2i.api import Add, Advanced, Remove

if TYPE_CHECKING:
    from bot.client import ImagineBot

log = logging.getLogger(__name__)


class Changing:
    """Whoever calls has checked who asks."""

    def __init__(
        self,
        bot: ImagineBot,
        *,
        changes: Changes,
        checkpoints: Checkpoints,
        switching: Switching,
        shelving: Shelving,
        catalogue: Catalogue,
        judging: Judging,
    ) -> None:
        self._bot = bot
        self._changes = changes
        self._checkpoints = checkpoints
        self._switching = switching
        self._shelving = shelving
        self._catalogue = catalogue
        self._judging = judging

    async def switch(
        self,
        interaction: discord.Interaction,
        checkpoint: str | None,
        *,
        until: datetime | None = None,
        kind: ChangeKind = ChangeKind.SWITCH,
    ) -> None:
        """Try a checkpoint and have the server draw with it, or read it anew; None is the bot's own default."""
        name = checkpoint or self._catalogue.default
        change = await self._begin(interaction, kind, checkpoint, until)
        note = await self._announce(interaction, change, view.standing(change, name, Standing(Step.WAITING)))

        def tell(now: Standing) -> None:
            note.progress(view.standing(change, name, now))

        try:
            done = await self._switching.run(change, tell)
        except SwitchFailed as failure:
            current = await self._catalogue.current(change.guild_id)
            await self._end(note, change, view.failed(change, name, str(failure), current))
        else:
            harmless = await self._judging.harmless(change.guild_id, change.channel_id, done.picture, 1)
            await self._end(note, change, view.switched(name, done, covered=not harmless))

    async def rollback(self, interaction: discord.Interaction, *, of: int | None = None) -> None:
        """Go back to what the server drew with before: when it draws with something for a while, that ends.

        `of` is the switch that is meant. Raises NothingToUndo when there is none, or when it was not the last.
        """
        guild_id = interaction.guild_id or 0
        choice = await self._checkpoints.of_guild(guild_id)
        if of is not None:
            meant = await self._changes.get(of)
            in_force = choice.temporary == meant.checkpoint if meant.until else choice.checkpoint == meant.checkpoint
            if meant.guild_id != guild_id or not in_force:
                raise NothingToUndo("Something else was chosen since, so this cannot be rolled back any more.")
        if choice.temporary is not None:
            target = choice.checkpoint
        else:
            last = await self._changes.last_switch(guild_id)
            if last is None:
                raise NothingToUndo("This server never changed its checkpoint, so there is none to go back to.")
            target = last.previous
        await self._catalogue.require(target or self._catalogue.default)
        await self.switch(interaction, target, kind=ChangeKind.ROLLBACK)

    async def add(self, interaction: discord.Interaction, source: str, name: str | None, *, anywhere: bool) -> None:
        """Put a checkpoint or a LoRA into the folder that all servers share."""
        shown = name or source
        change = await self._begin(interaction, ChangeKind.ADD, shown[:100])
        note = await self._announce(interaction, change, view.advanced(change, shown, None))

        def tell(now: Advanced) -> None:
            note.progress(view.advanced(change, shown, now))

        errand = Add(request_id=_errand_id(change), source=source, name=name, anywhere=anywhere)
        try:
            done = await self._shelving.add(errand, tell)
        except CheckpointRefused as refusal:
            await self._changes.end(change.id, ChangeState.FAILED, str(refusal))
            await self._end(note, change, view.failed(change, shown, str(refusal)))
        else:
            await self._changes.end(change.id, ChangeState.DONE, checkpoint=done.name)
            await self._end(note, change, view.added(change, done))

    async def ask_to_remove(self, interaction: discord.Interaction, name: str) -> None:
        """Show the question whose button removes it. Raises CheckpointInUse at once where that is plain."""
        await self._shelving.require_unused(name)
        change = await self._begin(interaction, ChangeKind.REMOVE, name, state=ChangeState.ASKED)
        await self._announce(interaction, change, view.confirm_remove(change, name))

    async def remove(self, interaction: discord.Interaction, change: Change) -> None:
        """What was asked about, unless somebody else has answered."""
        name = change.checkpoint or ""
        await interaction.response.defer()
        if not await self._changes.confirm(change.id):
            return
        assert interaction.message is not None, "buttons are on messages"
        note = Note(self._bot, change.channel_id, interaction.message.id)
        try:
            await self._shelving.remove(Remove(request_id=_errand_id(change), name=name))
        except UserFacingError as refusal:
            await self._changes.end(change.id, ChangeState.FAILED, str(refusal))
            await self._end(note, change, view.failed(change, name, str(refusal)))
        else:
            await self._changes.end(change.id, ChangeState.DONE)
            await self._end(note, change, view.removed(name))

    async def call_off(self, interaction: discord.Interaction, change: Change) -> None:
        """End a switch or an addition that is under way."""
        if not (self._switching.call_off(change.id) or self._shelving.call_off(_errand_id(change))):
            raise NothingToUndo("There is nothing left to call off: it has just ended.")
        await interaction.response.defer()

    async def leave(self, interaction: discord.Interaction, change: Change) -> None:
        """It stays."""
        if await self._changes.confirm(change.id):
            await self._changes.end(change.id, ChangeState.FAILED, "kept")
            await interaction.response.edit_message(view=view.left(change.checkpoint or "").view)
            await self._changes.shown(change.id)
        else:
            await interaction.response.defer()

    async def get(self, change_id: int) -> Change:
        """Raises ChangeNotFound."""
        return await self._changes.get(change_id)

    async def interrupt(self) -> None:
        """What a crash cut off came to nothing; before anything begins anew."""
        await self._changes.interrupt()

    async def mend(self) -> None:
        """Have every change say how it ended, whose message a crash or an outage left behind."""
        for change in await self._changes.unshown():
            name = change.checkpoint or self._catalogue.default
            message_id = change.message_id or await find_answer(self._bot, change.interaction_token)
            if message_id is None:
                await self._changes.shown(change.id)
                continue
            await self._end(Note(self._bot, change.channel_id, message_id), change, view.late(change, name))

    async def _end(self, note: Note, change: Change, shown: view.Shown) -> None:
        if await note.last(shown):
            await self._changes.shown(change.id)

    async def _begin(
        self,
        interaction: discord.Interaction,
        kind: ChangeKind,
        checkpoint: str | None,
        until: datetime | None = None,
        *,
        state: ChangeState = ChangeState.BEGUN,
    ) -> Change:
        require_permissions(interaction)
        assert interaction.guild_id is not None and interaction.channel_id is not None, "checked by whoever calls"
        return await self._changes.begin(
            kind,
            guild_id=interaction.guild_id,
            user_id=interaction.user.id,
            channel_id=interaction.channel_id,
            interaction_token=interaction.token,
            checkpoint=checkpoint,
            until=until,
            state=state,
        )

    async def _announce(self, interaction: discord.Interaction, change: Change, shown: view.Shown) -> Note:
        answer = await interaction.response.send_message(view=shown.view)
        assert answer.message_id is not None, "an answer with a message always has its id"
        await self._changes.attach_message(change.id, answer.message_id)
        return Note(self._bot, change.channel_id, answer.message_id)


def _errand_id(change: Change) -> str:
    return f"{change.kind} {change.id}"
