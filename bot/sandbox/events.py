"""What happens in the sandbox. The gateway tells the bot about it, the live socket tells the pages."""

from __future__ import annotations

from dataclasses import dataclass

from bot.sandbox.model import Channel, Json, Message, User


@dataclass(frozen=True, slots=True)
class MessageCreated:
    message: Message


@dataclass(frozen=True, slots=True)
class MessageUpdated:
    message: Message


@dataclass(frozen=True, slots=True)
class MessageDeleted:
    message: Message


@dataclass(frozen=True, slots=True)
class TypingStarted:
    channel: Channel
    user: User


@dataclass(frozen=True, slots=True)
class ChannelCreated:
    """Direct messages with somebody began; a bot hears nothing of that."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class ChannelDeleted:
    channel: Channel


@dataclass(frozen=True, slots=True)
class ChannelUpdated:
    channel: Channel


@dataclass(frozen=True, slots=True)
class BotRemoved:
    """The bot was removed from the guild."""


@dataclass(frozen=True, slots=True)
class CommandsChanged:
    """The bot registered its commands anew."""


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """The bot came online or went offline."""

    online: bool


@dataclass(frozen=True, slots=True)
class InteractionAcknowledged:
    """The bot answered in time; `message` is what the answer made or changed, if it did."""

    interaction_id: int
    user_id: int
    callback: int
    """Discord's interaction callback type."""
    message: Message | None


@dataclass(frozen=True, slots=True)
class InteractionFailed:
    interaction_id: int
    user_id: int
    sentence: str


@dataclass(frozen=True, slots=True)
class ModalOpened:
    interaction_id: int
    user_id: int
    modal: Json


Event = (
    MessageCreated
    | MessageUpdated
    | MessageDeleted
    | TypingStarted
    | ChannelCreated
    | ChannelDeleted
    | ChannelUpdated
    | BotRemoved
    | CommandsChanged
    | PresenceChanged
    | InteractionAcknowledged
    | InteractionFailed
    | ModalOpened
)
