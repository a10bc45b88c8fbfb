"""Interactions: a person's command, click, typing or form on its way to the bot, and the bot's answers to it.

The clock is Discord's: an answer within 3 seconds, further messages for 15 minutes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from bot.sandbox.commands import Commands, CommandType
from bot.sandbox.components import check_modal, walk
from bot.sandbox.errors import DiscordError, FormErrors, Refusal, SandboxRefusal
from bot.sandbox.events import InteractionAcknowledged, InteractionFailed, ModalOpened
from bot.sandbox.gateway import Gateway
from bot.sandbox.invocation import command_data, component_data, message_data, modal_data
from bot.sandbox.messages import Messages, Origin
from bot.sandbox.model import Channel, Json, Message, MessageFlag, MessageType, User
from bot.sandbox.uploads import Upload
from bot.sandbox.world import World

REMEMBERED = 4096
"""Interactions kept to answer late calls about them."""
NO_ANSWER = "The application did not respond"


class InteractionType(IntEnum):
    COMMAND = 2
    COMPONENT = 3
    AUTOCOMPLETE = 4
    MODAL_SUBMIT = 5


class Callback(IntEnum):
    MESSAGE = 4
    DEFERRED_MESSAGE = 5
    DEFERRED_UPDATE = 6
    UPDATE_MESSAGE = 7
    AUTOCOMPLETE_RESULT = 8
    MODAL = 9


_ON_MESSAGE = frozenset({Callback.DEFERRED_UPDATE, Callback.UPDATE_MESSAGE})
_ANSWERS = {
    InteractionType.COMMAND: frozenset({Callback.MESSAGE, Callback.DEFERRED_MESSAGE, Callback.MODAL}),
    InteractionType.COMPONENT: frozenset({Callback.MESSAGE, Callback.DEFERRED_MESSAGE, Callback.MODAL, *_ON_MESSAGE}),
    InteractionType.AUTOCOMPLETE: frozenset({Callback.AUTOCOMPLETE_RESULT}),
    InteractionType.MODAL_SUBMIT: frozenset({Callback.MESSAGE, Callback.DEFERRED_MESSAGE, *_ON_MESSAGE}),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A slash command as somebody filled it in; `subcommand` has two words where there is a group."""

    user: User
    channel: Channel
    name: str
    subcommand: str | None
    options: Json


@dataclass(slots=True, eq=False)
class Interaction:
    id: int
    token: str
    type: InteractionType
    user: User
    channel: Channel
    data: Json
    metadata: Json
    born: float
    """Event loop time, in seconds."""
    source: Message | None = None
    """The message whose component was used."""
    answered: Callback | None = None
    failed: bool = False
    original: Message | None = None
    """What `@original` means."""
    modal: Json | None = None
    choices: asyncio.Future[list[Json]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Interactions:
    def __init__(
        self,
        world: World,
        gateway: Gateway,
        commands: Commands,
        messages: Messages,
        *,
        ack_seconds: float = 3.0,
        token_seconds: float = 15 * 60.0,
    ) -> None:
        self._world = world
        self._gateway = gateway
        self._commands = commands
        self._messages = messages
        self._ack_seconds = ack_seconds
        self._token_seconds = token_seconds
        self._by_token: OrderedDict[str, Interaction] = OrderedDict()

    # --- what people do ---------------------------------------------------------------------------------------------

    def command(self, call: Call) -> Interaction:
        """Raises SandboxRefusal when Discord's client would not let the user send this."""
        command = self._usable(call)
        data = command_data(self._world, command, call.subcommand, call.options)
        metadata = {"name": call.name, "command_type": 1}
        return self._begin(InteractionType.COMMAND, call.user, call.channel, data, metadata=metadata)

    def message_command(self, user: User, message: Message, name: str) -> Interaction:
        """What somebody chose in the menu of a message. Raises SandboxRefusal when it is not offered there."""
        offered = self._commands.usable(user.id, message.channel, CommandType.MESSAGE)
        command = next((command for command in offered if command["name"] == name), None)
        if command is None:
            raise SandboxRefusal(f"The menu of a message here offers no “{name}”.", 404)
        data = message_data(command, message)
        metadata = {"name": name, "command_type": int(CommandType.MESSAGE), "target_message_id": str(message.id)}
        return self._begin(InteractionType.COMMAND, user, message.channel, data, metadata=metadata)

    async def autocomplete(self, call: Call, focused: str) -> list[Json]:
        """The bot's suggestions for the option `focused`; none when it does not answer in time."""
        data = command_data(self._world, self._usable(call), call.subcommand, call.options, focused)
        interaction = self._begin(InteractionType.AUTOCOMPLETE, call.user, call.channel, data, metadata={})
        try:
            return await asyncio.wait_for(interaction.choices, self._ack_seconds)
        except TimeoutError:
            return []

    def component(self, user: User, message: Message, custom_id: str, values: list[str]) -> Interaction:
        """A click or a selection. Raises SandboxRefusal when there is nothing of the kind to use."""
        component = next((c for c in walk(message.components) if c.get("custom_id") == custom_id), None)
        if component is None:
            raise SandboxRefusal("That button is no longer there.", 404)
        if component.get("disabled"):
            raise SandboxRefusal("That button is switched off.")
        data = component_data(self._world, component, values)
        metadata = {"interacted_message_id": str(message.id)}
        return self._begin(InteractionType.COMPONENT, user, message.channel, data, metadata=metadata, source=message)

    def submit(self, user: User, opened_by: int, custom_id: str, fields: dict[str, Any]) -> Interaction:
        """A filled-in form. Raises SandboxRefusal when that form is not open, or a field is not as it must be."""
        opener = next((i for i in self._by_token.values() if i.id == opened_by), None)
        if opener is None or opener.modal is None or opener.user is not user:
            raise SandboxRefusal("That form is no longer open.", 404)
        if opener.modal["custom_id"] != custom_id:
            raise SandboxRefusal("That is another form.")
        data = modal_data(opener.modal, fields)
        opener.modal = None
        metadata = {"triggering_interaction_metadata": opener.metadata}
        return self._begin(
            InteractionType.MODAL_SUBMIT, user, opener.channel, data, metadata=metadata, source=opener.source
        )

    def _usable(self, call: Call) -> Json:
        usable = {command["name"]: command for command in self._commands.usable(call.user.id, call.channel)}
        if call.name in usable:
            return usable[call.name]
        known = (c["name"] for scope in (None, self._world.guild.id) for c in self._commands.listed(scope))
        if call.name in known:
            raise SandboxRefusal(f"You may not use /{call.name} here.", 403)
        raise SandboxRefusal(f"There is no command named /{call.name}.", 404)

    def _begin(
        self,
        kind: InteractionType,
        user: User,
        channel: Channel,
        data: Json,
        *,
        metadata: Json,
        source: Message | None = None,
    ) -> Interaction:
        if not self._gateway.reachable:
            raise SandboxRefusal("The bot is not connected to the sandbox.", 409)
        loop = asyncio.get_running_loop()
        interaction_id = self._world.snowflake()
        owners = {"0": str(channel.guild_id or 0)}
        interaction = Interaction(
            id=interaction_id,
            token=secrets.token_urlsafe(96),
            type=kind,
            user=user,
            channel=channel,
            data=data,
            metadata={
                "id": str(interaction_id),
                "type": int(kind),
                "user": user.json(),
                "authorizing_integration_owners": owners,
                **metadata,
            },
            born=loop.time(),
            source=source,
        )
        self._by_token[interaction.token] = interaction
        while len(self._by_token) > REMEMBERED:
            self._by_token.popitem(last=False)
        loop.call_later(self._ack_seconds, self._expire, interaction)
        self._gateway.interaction(self._payload(interaction))
        return interaction

    def _expire(self, interaction: Interaction) -> None:
        if interaction.answered is None:
            interaction.failed = True
            if interaction.type is not InteractionType.AUTOCOMPLETE:
                self._world.emit(InteractionFailed(interaction.id, interaction.user.id, NO_ANSWER))

    def _payload(self, interaction: Interaction) -> Json:
        """INTERACTION_CREATE."""
        world, channel, user = self._world, interaction.channel, interaction.user
        payload: Json = {
            "id": str(interaction.id),
            "application_id": str(world.application_id),
            "type": int(interaction.type),
            "token": interaction.token,
            "version": 1,
            "data": interaction.data,
            "channel_id": str(channel.id),
            "channel": channel.json(),
            "app_permissions": str(int(world.permissions(world.bot.id, channel))),
            "locale": "en-US",
            "entitlements": [],
            "entitlement_sku_ids": [],
            "authorizing_integration_owners": interaction.metadata["authorizing_integration_owners"],
            "context": 0 if channel.guild_id is not None else 1,
            "attachment_size_limit": world.guild.upload_limit,
        }
        if interaction.source is not None:
            payload["message"] = interaction.source.json()
        if channel.guild_id is None:
            return payload | {"user": user.json()}
        permissions = str(int(world.permissions(user.id, channel)))
        payload["channel"]["permissions"] = permissions
        return payload | {
            "guild_id": str(channel.guild_id),
            "guild": {"id": str(channel.guild_id), "locale": "en-US", "features": []},
            "guild_locale": "en-US",
            "member": world.guild.members[user.id].json() | {"permissions": permissions},
        }

    # --- what the bot answers ---------------------------------------------------------------------------------------

    def respond(self, interaction_id: int, token: str, body: Json, uploads: list[Upload]) -> Interaction:
        """The one answer to an interaction. Raises DiscordError 10062 (unknown or late), 40060 (already), 50035."""
        interaction = self._by_token.get(token)
        if interaction is None or interaction.id != interaction_id or interaction.failed:
            raise DiscordError(Refusal.UNKNOWN_INTERACTION)
        if interaction.answered is not None:
            raise DiscordError(Refusal.ALREADY_ACKNOWLEDGED)
        callback = self._allowed_callback(interaction, body)
        data = body.get("data") or {}
        changed: Message | None = None
        match callback:
            case Callback.MESSAGE:
                origin = self._origin(interaction, ephemeral=_asks_ephemeral(data))
                changed = self._messages.create(interaction.channel, self._world.bot, data, uploads, origin)
                interaction.original = changed
            case Callback.DEFERRED_MESSAGE:
                origin = self._origin(interaction, ephemeral=_asks_ephemeral(data))
                changed = self._messages.create_loading(interaction.channel, self._world.bot, origin)
                interaction.original = changed
            case Callback.UPDATE_MESSAGE:
                assert interaction.source is not None
                changed = self._messages.edit(self._present(interaction.source), data, uploads)
                interaction.original = changed
            case Callback.DEFERRED_UPDATE:
                interaction.original = interaction.source
            case Callback.AUTOCOMPLETE_RESULT:
                _answer_choices(interaction, data)
            case Callback.MODAL:
                interaction.modal = check_modal(data)
        interaction.answered = callback
        user_id = interaction.user.id
        self._world.emit(InteractionAcknowledged(interaction.id, user_id, int(callback), changed))
        if interaction.modal is not None:
            self._world.emit(ModalOpened(interaction.id, user_id, interaction.modal))
        return interaction

    def by_webhook(self, application_id: int, token: str) -> Interaction:
        """The interaction whose token this is. Raises DiscordError 10015 (unknown, unanswered), 50027 (too old)."""
        interaction = self._by_token.get(token)
        if interaction is None or application_id != self._world.application_id or interaction.answered is None:
            raise DiscordError(Refusal.UNKNOWN_WEBHOOK)
        if asyncio.get_running_loop().time() - interaction.born > self._token_seconds:
            raise DiscordError(Refusal.INVALID_WEBHOOK_TOKEN)
        return interaction

    def message(self, interaction: Interaction, reference: str) -> Message:
        """`@original` or the id of a message this interaction made. Raises DiscordError 10008."""
        if reference == "@original":
            if interaction.original is None:
                raise DiscordError(Refusal.UNKNOWN_WEBHOOK)
            return self._present(interaction.original)
        if not reference.isdecimal():
            raise DiscordError(Refusal.UNKNOWN_MESSAGE)
        message = interaction.channel.messages.get(int(reference))
        own = (
            message is not None and message.interaction is not None and message.interaction["id"] == str(interaction.id)
        )
        if message is None or not (own or message is interaction.original):
            raise DiscordError(Refusal.UNKNOWN_MESSAGE)
        return message

    def follow_up(self, interaction: Interaction, body: Json, uploads: list[Upload]) -> Message:
        """A further message; the first one after a deferral fills the "thinking" message, unless that was deleted."""
        original = interaction.original
        if original is not None and MessageFlag.LOADING in original.flags and original.id in original.channel.messages:
            return self._messages.edit(self._present(original), body, uploads)
        self._world.channel(interaction.channel.id)
        origin = self._origin(interaction, ephemeral=_asks_ephemeral(body), follows=original)
        return self._messages.create(interaction.channel, self._world.bot, body, uploads, origin)

    def _present(self, message: Message) -> Message:
        self._world.channel(message.channel.id)
        if message.id not in message.channel.messages:
            raise DiscordError(Refusal.UNKNOWN_MESSAGE)
        return message

    def _allowed_callback(self, interaction: Interaction, body: Json) -> Callback:
        kind: Any = body.get("type")
        allowed = _ANSWERS[interaction.type]
        if interaction.source is None:
            allowed -= _ON_MESSAGE
        if kind not in allowed:
            errors = FormErrors()
            choices = ", ".join(str(int(callback)) for callback in sorted(allowed))
            errors.add("type", "BASE_TYPE_CHOICES", f"Value must be one of {{{choices}}}.")
            errors.raise_if_any()
        return Callback(kind)

    def _origin(self, interaction: Interaction, *, ephemeral: bool, follows: Message | None = None) -> Origin:
        self._world.channel(interaction.channel.id)
        replied = follows or interaction.source
        metadata = interaction.metadata
        if follows is not None:
            metadata = metadata | {"original_response_message_id": str(follows.id)}
        kind = MessageType.CHAT_INPUT_COMMAND if interaction.type is InteractionType.COMMAND else MessageType.DEFAULT
        return Origin(
            type=MessageType.REPLY if replied is not None else kind,
            interaction=metadata,
            application_id=self._world.application_id,
            visible_to=interaction.user.id if ephemeral else None,
            reply_to=replied.id if replied is not None else None,
        )


def callback_response(interaction: Interaction) -> Json:
    """The body of a callback asked for `with_response`."""
    callback = interaction.answered
    described: Json = {"id": str(interaction.id), "type": int(interaction.type)}
    message = interaction.original
    if callback in (Callback.AUTOCOMPLETE_RESULT, Callback.MODAL) or message is None:
        return {"interaction": described, "resource": {"type": callback}}
    described |= {
        "response_message_id": str(message.id),
        "response_message_loading": MessageFlag.LOADING in message.flags,
        "response_message_ephemeral": message.visible_to is not None,
        "channel_id": str(message.channel.id),
    }
    resource: Json = {"type": callback}
    if callback is not Callback.DEFERRED_UPDATE:
        resource["message"] = message.json()
    return {"interaction": described, "resource": resource}


def _asks_ephemeral(data: Json) -> bool:
    return bool((data.get("flags") or 0) & MessageFlag.EPHEMERAL)


def _answer_choices(interaction: Interaction, data: Json) -> None:
    choices = data.get("choices") or []
    errors = FormErrors()
    errors.count("data.choices", len(choices), 0, 25)
    for index, choice in enumerate(choices):
        errors.length(f"data.choices.{index}.name", str(choice.get("name") or ""), 1, 100)
        if isinstance(choice.get("value"), str):
            errors.length(f"data.choices.{index}.value", choice["value"], 0, 100)
    errors.raise_if_any()
    if not interaction.choices.done():
        interaction.choices.set_result(choices)
