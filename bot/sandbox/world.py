"""The sandbox's one guild, the people in it, and everything said there. All of it lives in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from bot.sandbox import permissions
from bot.sandbox.errors import DiscordError, Refusal
from bot.sandbox.events import BotRemoved, ChannelCreated, ChannelDeleted, Event
from bot.sandbox.model import (
    DISCORD_EPOCH_MS,
    Channel,
    Guild,
    Json,
    Member,
    Message,
    Overwrite,
    Role,
    Snowflakes,
    User,
)
from bot.sandbox.permissions import Permission

_FOUNDED = datetime(2024, 1, 1, tzinfo=UTC)


def _founding_id(number: int) -> int:
    """Ids of the seed world are the same at every start, so that a bot's database still fits them."""
    return (int(_FOUNDED.timestamp() * 1000) - DISCORD_EPOCH_MS + number) << 22


class World:
    """State and look-ups; whoever changes it emits an event, and listeners hear it at once, in order."""

    def __init__(self, guild: Guild, users: dict[int, User], bot: User) -> None:
        self.guild = guild
        self.users = users
        self.bot = bot
        self.direct: dict[int, Channel] = {}
        """Direct message channels with the bot, by the user's id."""
        self.snowflake = Snowflakes()
        self._listeners: list[Callable[[Event], None]] = []

    @property
    def application_id(self) -> int:
        return self.bot.id

    def listen(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def channels(self) -> dict[int, Channel]:
        return self.guild.channels | {channel.id: channel for channel in self.direct.values()}

    def channel(self, channel_id: int) -> Channel:
        """Raises DiscordError 10003."""
        channel = self.channels().get(channel_id)
        if channel is None:
            raise DiscordError(Refusal.UNKNOWN_CHANNEL)
        return channel

    def message(self, channel_id: int, message_id: int) -> Message:
        """A message that is not ephemeral. Raises DiscordError 10003 or 10008."""
        message = self.channel(channel_id).messages.get(message_id)
        if message is None or message.visible_to is not None:
            raise DiscordError(Refusal.UNKNOWN_MESSAGE)
        return message

    def find_message(self, message_id: int) -> Message | None:
        return next((c.messages[message_id] for c in self.channels().values() if message_id in c.messages), None)

    def permissions(self, user_id: int, channel: Channel) -> Permission:
        """What a user may do in a channel; nothing when not a member of the guild."""
        if channel.recipient is not None:
            return permissions.DIRECT_MESSAGE if user_id in (channel.recipient.id, self.bot.id) else Permission.NONE
        member = self.guild.members.get(user_id)
        return Permission.NONE if member is None else permissions.in_channel(self.guild, member, channel)

    def direct_channel(self, user: User) -> Channel:
        """The user's direct messages with the bot, made on first use."""
        if user.id not in self.direct:
            self.direct[user.id] = Channel(self.snowflake(), recipient=user)
            self.emit(ChannelCreated(self.direct[user.id]))
        return self.direct[user.id]

    def delete_channel(self, channel: Channel) -> None:
        del self.guild.channels[channel.id]
        self.emit(ChannelDeleted(channel))

    def remove_bot(self) -> None:
        """What an owner does who kicks the bot: it keeps running, without access to the guild."""
        self.guild.members.pop(self.bot.id, None)
        self.emit(BotRemoved())

    def guild_create(self, *, all_members: bool) -> Json:
        """GUILD_CREATE; without the members intent only the bot's own member is in it."""
        members = self.guild.members.values()
        me = self.guild.members[self.bot.id]
        return self.guild.json() | {
            "joined_at": me.joined_at.isoformat(),
            "large": False,
            "unavailable": False,
            "member_count": len(members),
            "voice_states": [],
            "members": [member.json() for member in members if all_members or member is me],
            "channels": [channel.json() for channel in self.guild.channels.values()],
            "threads": [],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
        }


def seed() -> World:
    """The guild "Imagine Sandbox" with an owner, a moderator, two members and the bot."""
    guild_id = _founding_id(1)
    everyone = Role(
        guild_id,
        "@everyone",
        Permission.VIEW_CHANNEL
        | Permission.SEND_MESSAGES
        | Permission.EMBED_LINKS
        | Permission.ATTACH_FILES
        | Permission.ADD_REACTIONS
        | Permission.READ_MESSAGE_HISTORY
        | Permission.CHANGE_NICKNAME
        | Permission.USE_EXTERNAL_EMOJIS
        | Permission.USE_APPLICATION_COMMANDS,
        position=0,
    )
    admin_role = Role(_founding_id(11), "Admin", Permission.ADMINISTRATOR, position=3, colour=0xE67E22)
    mod_role = Role(
        _founding_id(12),
        "Moderator",
        Permission.MANAGE_MESSAGES | Permission.MODERATE_MEMBERS | Permission.VIEW_AUDIT_LOG,
        position=2,
        colour=0x2ECC71,
    )

    admin = User(_founding_id(21), "admin", "Admin", "#e67e22")
    mod = User(_founding_id(22), "mod", "Mod", "#2ecc71")
    bob = User(_founding_id(23), "bob", "Bob", "#3498db")
    alice = User(_founding_id(24), "alice", "Alice", "#e91e63")
    bot = User(_founding_id(30), "imagine-bot", "Imagine Bot", "#5865f2", bot=True)
    bot_role = Role(
        _founding_id(13),
        "Imagine Bot",
        Permission.VIEW_CHANNEL | Permission.SEND_MESSAGES | Permission.EMBED_LINKS | Permission.ATTACH_FILES,
        position=1,
        managed_by=bot.id,
    )

    roles = (everyone, admin_role, mod_role, bot_role)
    worn = ((admin, (admin_role.id,)), (mod, (mod_role.id,)), (bob, ()), (alice, ()), (bot, (bot_role.id,)))
    staff_only = (
        Overwrite(guild_id, is_role=True, deny=Permission.VIEW_CHANNEL),
        Overwrite(mod_role.id, is_role=True, allow=Permission.VIEW_CHANNEL),
        Overwrite(bot_role.id, is_role=True, allow=Permission.VIEW_CHANNEL),
    )
    channels = (
        Channel(_founding_id(41), "imagine", topic="Type /imagine and say what to draw."),
        Channel(_founding_id(42), "general", topic="Anything else."),
        Channel(_founding_id(43), "gallery", topic="Pictures worth keeping."),
        Channel(_founding_id(44), "nsfw-art", topic="Age-restricted.", nsfw=True),
        Channel(
            _founding_id(45), "mod-log", topic="For moderators.", overwrites={entry.id: entry for entry in staff_only}
        ),
    )
    for position, channel in enumerate(channels):
        channel.guild_id, channel.position = guild_id, position

    guild = Guild(
        guild_id,
        "Imagine Sandbox",
        owner_id=admin.id,
        roles={role.id: role for role in roles},
        members={user.id: Member(user, role_ids, _FOUNDED) for user, role_ids in worn},
        channels={channel.id: channel for channel in channels},
    )
    return World(guild, {user.id: user for user, _ in worn}, bot)
