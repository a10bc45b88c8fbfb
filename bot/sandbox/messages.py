"""Creating, editing and deleting messages, under the rules that hold for every way a message comes in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bot.sandbox.components import check_message, walk
from bot.sandbox.errors import DiscordError, FormErrors, Refusal
from bot.sandbox.events import MessageCreated, MessageDeleted, MessageUpdated
from bot.sandbox.model import (
    Attachment,
    Channel,
    Json,
    Message,
    MessageFlag,
    MessageType,
    User,
    referenced_attachments,
)
from bot.sandbox.uploads import ContentNetwork, Upload
from bot.sandbox.world import World

MAX_CONTENT = 2000
MAX_EMBEDS = 10
_SENDABLE = MessageFlag.SUPPRESS_EMBEDS | MessageFlag.SUPPRESS_NOTIFICATIONS | MessageFlag.IS_COMPONENTS_V2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message comes from when it answers an interaction."""

    type: MessageType = MessageType.DEFAULT
    interaction: Json | None = None
    application_id: int | None = None
    visible_to: int | None = None
    reply_to: int | None = None


class Messages:
    def __init__(self, world: World, cdn: ContentNetwork, *, kept: int) -> None:
        """Of each channel's messages all but the last `kept` go, so that a long run stays small."""
        self._world = world
        self._cdn = cdn
        self._kept = kept

    def create(
        self, channel: Channel, author: User, payload: Json, uploads: list[Upload], origin: Origin | None = None
    ) -> Message:
        """Raises DiscordError 50035 (a field), 50006 (nothing to show)."""
        origin = origin or Origin()
        if (existing := self._same_nonce(channel, author, payload)) is not None:
            return existing
        reference = payload.get("message_reference") or {}
        replied = int(reference["message_id"]) if reference.get("message_id") else origin.reply_to
        message = Message(
            id=self._world.snowflake(),
            channel=channel,
            author=author,
            type=MessageType.REPLY if reference and origin.type is MessageType.DEFAULT else origin.type,
            flags=MessageFlag(payload.get("flags") or 0) & _SENDABLE,
            nonce=payload.get("nonce"),
            reply_to=replied,
            interaction=origin.interaction,
            application_id=origin.application_id,
            visible_to=origin.visible_to,
        )
        if origin.visible_to is not None:
            message.flags |= MessageFlag.EPHEMERAL
        self._apply(message, payload, uploads)
        self._insert(message)
        return message

    def create_loading(self, channel: Channel, author: User, origin: Origin) -> Message:
        """The "thinking" message of a deferred answer."""
        message = Message(
            id=self._world.snowflake(),
            channel=channel,
            author=author,
            type=origin.type,
            flags=MessageFlag.LOADING | (MessageFlag.EPHEMERAL if origin.visible_to is not None else MessageFlag.NONE),
            reply_to=origin.reply_to,
            interaction=origin.interaction,
            application_id=origin.application_id,
            visible_to=origin.visible_to,
        )
        self._insert(message)
        return message

    def edit(self, message: Message, payload: Json, uploads: list[Upload]) -> Message:
        """Absent fields stay as they are. Raises DiscordError 50035 or 50006; then nothing changed."""
        flags = message.flags
        if "flags" in payload:
            asked = MessageFlag(payload["flags"] or 0)
            # IS_COMPONENTS_V2 can be set by an edit, and never be taken back.
            message.flags = flags & ~MessageFlag.SUPPRESS_EMBEDS | asked & _SENDABLE
        message.flags &= ~MessageFlag.LOADING
        try:
            self._apply(message, payload, uploads)
        except DiscordError:
            message.flags = flags
            raise
        if MessageFlag.LOADING not in flags:
            message.edited_at = datetime.now(UTC)
        self._world.emit(MessageUpdated(message))
        return message

    def delete(self, message: Message) -> None:
        del message.channel.messages[message.id]
        for attachment in message.attachments:
            self._cdn.retire(attachment)
        self._world.emit(MessageDeleted(message))

    def _insert(self, message: Message) -> None:
        kept = message.channel.messages
        kept[message.id] = message
        if len(kept) > self._kept:
            self.delete(next(iter(kept.values())))
        self._world.emit(MessageCreated(message))

    def _same_nonce(self, channel: Channel, author: User, payload: Json) -> Message | None:
        nonce = payload.get("nonce")
        if nonce is None or not payload.get("enforce_nonce"):
            return None
        recent = list(channel.messages.values())[-100:]
        return next((m for m in recent if m.nonce == nonce and m.author is author), None)

    def _apply(self, message: Message, payload: Json, uploads: list[Upload]) -> None:
        """Check the message as it would be after the change, then change it."""
        errors = FormErrors()
        v2 = MessageFlag.IS_COMPONENTS_V2 in message.flags
        content = str(payload["content"] or "") if "content" in payload else message.content
        embeds = payload.get("embeds") or [] if "embeds" in payload else message.embeds
        errors.length("content", content, 0, MAX_CONTENT)
        if len(embeds) > MAX_EMBEDS:
            errors.add("embeds", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_EMBEDS} or fewer in length.")
        for field, value in (("content", content), ("embeds", embeds)):
            if v2 and value:
                errors.add(
                    field,
                    "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2",
                    f"The '{field}' field cannot be used when using MessageFlags.IS_COMPONENTS_V2",
                )
        errors.raise_if_any()

        attachments = self._attachments(message, payload, uploads)
        try:
            if "components" in payload:
                resolve = _MediaResolver(attachments, self._cdn)
                components = check_message(payload["components"] or [], v2=v2, media=resolve)
                if "attachments" not in payload:
                    attachments = resolve.without_replaced(message, attachments, components)
            else:
                components = message.components
            embeds = [_resolved_embed(embed, _MediaResolver(attachments, self._cdn)) for embed in embeds]
            if not (content or embeds or components or attachments):
                raise DiscordError(Refusal.EMPTY_MESSAGE)
        except DiscordError:
            for attachment in attachments:
                if attachment not in message.attachments:
                    self._cdn.retire(attachment)
            raise

        for attachment in message.attachments:
            if attachment not in attachments:
                self._cdn.retire(attachment)
        message.content, message.embeds, message.components = content, embeds, components
        message.attachments = attachments
        self._apply_mentions(message, payload.get("allowed_mentions"))

    def _attachments(self, message: Message, payload: Json, uploads: list[Upload]) -> list[Attachment]:
        """Kept ones first. The `attachments` list names what is kept by id and describes uploads by their number."""
        listed = payload.get("attachments")
        described = {str(entry.get("id")): entry for entry in listed or []}
        kept = [a for a in message.attachments if listed is None or str(a.id) in described]
        fresh = []
        for upload in uploads:
            entry = described.get(upload.key, {})
            fresh.append(self._cdn.store(upload, message.channel.id, entry.get("description")))
        return kept + fresh

    def _apply_mentions(self, message: Message, allowed: Any) -> None:
        """Who is pinged: names in the text, as far as `allowed_mentions` lets them."""
        texts = [message.content] + [str(part.get("content", "")) for part in walk(message.components)]
        text = "\n".join(texts)
        parse = set(allowed.get("parse", [])) if allowed else {"users", "roles", "everyone"}
        listed = {str(user_id) for user_id in (allowed or {}).get("users", [])}
        mentioned = [self._world.users.get(int(match)) for match in re.findall(r"<@!?(\d+)>", text)]
        message.mentions = tuple(
            user for user in dict.fromkeys(mentioned) if user and ("users" in parse or str(user.id) in listed)
        )
        message.mention_everyone = "everyone" in parse and bool(re.search(r"@(everyone|here)\b", text))


class _MediaResolver:
    """Finds the file that `attachment://NAME` or an address of this server means."""

    def __init__(self, attachments: list[Attachment], cdn: ContentNetwork) -> None:
        self._attachments = attachments
        self._cdn = cdn

    def __call__(self, url: str) -> Json | None:
        if url.startswith("attachment://"):
            name = re.sub(r"[^\w.\-]", "_", url.removeprefix("attachment://"))
            # The newest wins: an edit often sends a new file under the name of the old one.
            found = next((a for a in reversed(self._attachments) if a.filename == name), None)
            return found.media() if found else None
        own = self._cdn.by_url(url)
        if own is not None and own in self._attachments:
            return own.media()
        # Foreign pictures stay foreign: nothing here fetches from elsewhere.
        return {"url": url, "proxy_url": url, "loading_state": 0}

    def without_replaced(
        self, message: Message, attachments: list[Attachment], components: list[Json]
    ) -> list[Attachment]:
        """New components that no longer show a file they showed before let go of it."""
        before, after = set(referenced_attachments(message.components)), set(referenced_attachments(components))
        return [a for a in attachments if str(a.id) not in before or str(a.id) in after]


def _resolved_embed(embed: Json, media: _MediaResolver) -> Json:
    resolved: Json = {"type": "rich", **embed}
    for slot in ("image", "thumbnail"):
        if url := (embed.get(slot) or {}).get("url"):
            resolved[slot] = media(url) or embed[slot]
    return resolved
