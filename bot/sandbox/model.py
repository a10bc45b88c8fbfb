"""What exists in the sandbox: users, roles, channels, messages; each knows its own JSON in Discord's shape."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Any

from bot.sandbox.permissions import Permission

Json = dict[str, Any]

DISCORD_EPOCH_MS = 1420070400000


class Snowflakes:
    """Ids that sort by the time they were made, as Discord's do: 42 bits of milliseconds, then a counter."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        fresh = (time.time_ns() // 1_000_000 - DISCORD_EPOCH_MS) << 22
        self._last = max(fresh, self._last + 1)
        return self._last


def created_at(snowflake: int) -> datetime:
    return datetime.fromtimestamp(((snowflake >> 22) + DISCORD_EPOCH_MS) / 1000, UTC)


class MessageFlag(IntFlag):
    NONE = 0
    SUPPRESS_EMBEDS = 1 << 2
    EPHEMERAL = 1 << 6
    LOADING = 1 << 7
    SUPPRESS_NOTIFICATIONS = 1 << 12
    IS_COMPONENTS_V2 = 1 << 15


class MessageType(IntEnum):
    DEFAULT = 0
    REPLY = 19
    CHAT_INPUT_COMMAND = 20


@dataclass(slots=True, eq=False)
class User:
    id: int
    username: str
    display_name: str
    colour: str
    """CSS colour of the round picture on the page."""
    bot: bool = False

    def json(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.username,
            "discriminator": "0",
            "global_name": None if self.bot else self.display_name,
            "avatar": None,
            "avatar_decoration_data": None,
            "banner": None,
            "accent_color": None,
            "bot": self.bot,
            "system": False,
            "public_flags": 0,
            "flags": 0,
        }


@dataclass(slots=True, eq=False)
class Role:
    id: int
    name: str
    permissions: Permission
    position: int
    colour: int = 0
    managed_by: int | None = None
    """The bot whose own role this is."""

    def json(self) -> Json:
        role: Json = {
            "id": str(self.id),
            "name": self.name,
            "color": self.colour,
            "colors": {"primary_color": self.colour, "secondary_color": None, "tertiary_color": None},
            "hoist": False,
            "icon": None,
            "unicode_emoji": None,
            "position": self.position,
            "permissions": str(int(self.permissions)),
            "managed": self.managed_by is not None,
            "mentionable": False,
            "flags": 0,
        }
        return role | {"tags": {"bot_id": str(self.managed_by)}} if self.managed_by else role


@dataclass(slots=True, eq=False)
class Member:
    user: User
    role_ids: tuple[int, ...]
    joined_at: datetime

    def json(self, *, with_user: bool = True) -> Json:
        member: Json = {
            "nick": None,
            "avatar": None,
            "banner": None,
            "roles": [str(role_id) for role_id in self.role_ids],
            "joined_at": self.joined_at.isoformat(),
            "premium_since": None,
            "deaf": False,
            "mute": False,
            "flags": 0,
            "pending": False,
            "communication_disabled_until": None,
        }
        return {"user": self.user.json(), **member} if with_user else member


@dataclass(slots=True, eq=False)
class Overwrite:
    id: int
    is_role: bool
    allow: Permission = Permission.NONE
    deny: Permission = Permission.NONE

    def json(self) -> Json:
        return {
            "id": str(self.id),
            "type": 0 if self.is_role else 1,
            "allow": str(int(self.allow)),
            "deny": str(int(self.deny)),
        }


@dataclass(slots=True, eq=False)
class Attachment:
    id: int
    channel_id: int
    filename: str
    data: bytes
    content_type: str
    width: int | None
    height: int | None
    url: str
    description: str | None = None

    def json(self) -> Json:
        attachment: Json = {
            "id": str(self.id),
            "filename": self.filename,
            "size": len(self.data),
            "url": self.url,
            "proxy_url": self.url,
            "content_type": self.content_type,
        }
        if self.width is not None:
            attachment |= {"width": self.width, "height": self.height}
        if self.description is not None:
            attachment["description"] = self.description
        return attachment

    def media(self) -> Json:
        """The attachment as a component's or an embed's resolved media."""
        return {
            "id": str(self.id),
            "url": self.url,
            "proxy_url": self.url,
            "width": self.width,
            "height": self.height,
            "content_type": self.content_type,
            "placeholder": None,
            "placeholder_version": None,
            "loading_state": 2,
            "attachment_id": str(self.id),
            "flags": 0,
        }


@dataclass(slots=True, eq=False)
class Message:
    id: int
    channel: Channel
    author: User
    type: MessageType = MessageType.DEFAULT
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    flags: MessageFlag = MessageFlag.NONE
    mentions: tuple[User, ...] = ()
    mention_everyone: bool = False
    edited_at: datetime | None = None
    nonce: str | int | None = None
    reply_to: int | None = None
    interaction: Json | None = None
    """`interaction_metadata`: whose command or click made this message."""
    application_id: int | None = None
    visible_to: int | None = None
    """The one user who sees an ephemeral message."""

    def visible(self, user_id: int) -> bool:
        return self.visible_to is None or self.visible_to == user_id

    def json(self) -> Json:
        shown_elsewhere = set(referenced_attachments([*self.components, *self.embeds]))
        message: Json = {
            "id": str(self.id),
            "channel_id": str(self.channel.id),
            "type": int(self.type),
            "content": self.content,
            "author": self.author.json(),
            "timestamp": created_at(self.id).isoformat(),
            "edited_timestamp": self.edited_at.isoformat() if self.edited_at else None,
            "tts": False,
            "mention_everyone": self.mention_everyone,
            "mentions": [user.json() for user in self.mentions],
            "mention_roles": [],
            # As on Discord, files shown by a component or an embed are listed there and not here.
            "attachments": [a.json() for a in self.attachments if str(a.id) not in shown_elsewhere],
            "embeds": self.embeds,
            "components": self.components,
            "pinned": False,
            "flags": int(self.flags),
        }
        if self.nonce is not None:
            message["nonce"] = self.nonce
        if self.application_id is not None:
            message |= {"application_id": str(self.application_id), "webhook_id": str(self.application_id)}
        if self.interaction is not None:
            message["interaction_metadata"] = self.interaction
            if self.interaction["type"] == 2:
                message["interaction"] = {key: self.interaction[key] for key in ("id", "type", "name", "user")}
        if self.reply_to is not None:
            reference = {"type": 0, "channel_id": str(self.channel.id), "message_id": str(self.reply_to)}
            if self.channel.guild_id is not None:
                reference["guild_id"] = str(self.channel.guild_id)
            message["message_reference"] = reference
        return message


@dataclass(slots=True, eq=False)
class Channel:
    """A text channel of the guild or, with a `recipient`, the direct messages of one user and the bot."""

    id: int
    name: str = ""
    guild_id: int | None = None
    topic: str | None = None
    nsfw: bool = False
    position: int = 0
    overwrites: dict[int, Overwrite] = field(default_factory=dict)
    recipient: User | None = None
    messages: dict[int, Message] = field(default_factory=dict)

    def last_message_id(self) -> str | None:
        public = [message_id for message_id, message in self.messages.items() if message.visible_to is None]
        return str(public[-1]) if public else None

    def json(self) -> Json:
        if self.recipient is not None:
            return {
                "id": str(self.id),
                "type": 1,
                "last_message_id": self.last_message_id(),
                "flags": 0,
                "recipients": [self.recipient.json()],
            }
        return {
            "id": str(self.id),
            "type": 0,
            "guild_id": str(self.guild_id),
            "name": self.name,
            "topic": self.topic,
            "nsfw": self.nsfw,
            "position": self.position,
            "permission_overwrites": [overwrite.json() for overwrite in self.overwrites.values()],
            "parent_id": None,
            "last_message_id": self.last_message_id(),
            "last_pin_timestamp": None,
            "rate_limit_per_user": 0,
            "flags": 0,
        }


@dataclass(slots=True, eq=False)
class Guild:
    id: int
    name: str
    owner_id: int
    roles: dict[int, Role]
    members: dict[int, Member]
    channels: dict[int, Channel]
    upload_limit: int = 10 * 1024 * 1024
    """Bytes one file may have."""

    @property
    def everyone(self) -> Role:
        return self.roles[self.id]

    def json(self) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "icon": None,
            "splash": None,
            "discovery_splash": None,
            "banner": None,
            "description": None,
            "owner_id": str(self.owner_id),
            "region": "local",
            "afk_channel_id": None,
            "afk_timeout": 300,
            "verification_level": 0,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "roles": [role.json() for role in self.roles.values()],
            "emojis": [],
            "stickers": [],
            "features": [],
            "mfa_level": 0,
            "nsfw": False,
            "nsfw_level": 0,
            "application_id": None,
            "system_channel_id": None,
            "system_channel_flags": 0,
            "rules_channel_id": None,
            "public_updates_channel_id": None,
            "safety_alerts_channel_id": None,
            "vanity_url_code": None,
            "premium_tier": 0,
            "premium_subscription_count": 0,
            "premium_progress_bar_enabled": False,
            "preferred_locale": "en-US",
            "widget_enabled": False,
            "widget_channel_id": None,
            "max_members": 500000,
            "max_presences": None,
            "max_video_channel_users": 25,
            "max_stage_video_channel_users": 50,
            "incidents_data": None,
        }


def referenced_attachments(nodes: Iterable[Any]) -> Iterable[str]:
    """Ids of the attachments that components or embeds show, wherever they sit in the tree."""
    for node in nodes:
        if isinstance(node, dict):
            if "attachment_id" in node:
                yield node["attachment_id"]
            yield from referenced_attachments(node.values())
        elif isinstance(node, list):
            yield from referenced_attachments(node)
