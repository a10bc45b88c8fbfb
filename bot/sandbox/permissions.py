"""Discord's permission bits and how roles and channel overwrites add up to what a member may do."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.sandbox.model import Channel, Guild, Member


class Permission(IntFlag):
    NONE = 0
    CREATE_INSTANT_INVITE = 1 << 0
    KICK_MEMBERS = 1 << 1
    BAN_MEMBERS = 1 << 2
    ADMINISTRATOR = 1 << 3
    MANAGE_CHANNELS = 1 << 4
    MANAGE_GUILD = 1 << 5
    ADD_REACTIONS = 1 << 6
    VIEW_AUDIT_LOG = 1 << 7
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    SEND_TTS_MESSAGES = 1 << 12
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_MESSAGE_HISTORY = 1 << 16
    MENTION_EVERYONE = 1 << 17
    USE_EXTERNAL_EMOJIS = 1 << 18
    CHANGE_NICKNAME = 1 << 26
    MANAGE_NICKNAMES = 1 << 27
    MANAGE_ROLES = 1 << 28
    MANAGE_WEBHOOKS = 1 << 29
    USE_APPLICATION_COMMANDS = 1 << 31
    MODERATE_MEMBERS = 1 << 40
    USE_EXTERNAL_APPS = 1 << 50


ALL = Permission((1 << 53) - 1)
"""What the owner and administrators have: every bit, also those without a name here."""

_NEED_SEND = (
    Permission.MENTION_EVERYONE | Permission.SEND_TTS_MESSAGES | Permission.ATTACH_FILES | Permission.EMBED_LINKS
)
DIRECT_MESSAGE = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.MENTION_EVERYONE
    | Permission.USE_EXTERNAL_EMOJIS
    | Permission.USE_APPLICATION_COMMANDS
)
"""What both sides may do in a direct message."""


def in_guild(guild: Guild, member: Member) -> Permission:
    """Owner, then the union of @everyone and the member's roles; ADMINISTRATOR means everything."""
    if member.user.id == guild.owner_id:
        return ALL
    total = guild.everyone.permissions
    for role_id in member.role_ids:
        total |= guild.roles[role_id].permissions
    return ALL if Permission.ADMINISTRATOR in total else total


def in_channel(guild: Guild, member: Member, channel: Channel) -> Permission:
    """Overwrites in Discord's order: @everyone, then all roles together, then the member."""
    total = in_guild(guild, member)
    if total == ALL:
        return ALL
    overwrites = channel.overwrites

    if everyone := overwrites.get(guild.id):
        total = total & ~everyone.deny | everyone.allow

    allow = deny = Permission.NONE
    for role_id in member.role_ids:
        if overwrite := overwrites.get(role_id):
            allow |= overwrite.allow
            deny |= overwrite.deny
    total = total & ~deny | allow

    if own := overwrites.get(member.user.id):
        total = total & ~own.deny | own.allow

    if Permission.VIEW_CHANNEL not in total:
        return Permission.NONE
    if Permission.SEND_MESSAGES not in total:
        total &= ~_NEED_SEND
    return total
