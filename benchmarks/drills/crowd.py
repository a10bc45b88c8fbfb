"""People who ask for pictures, and everything they see of what they asked for."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

from bot.sandbox.components import walk
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.events import Event, InteractionAcknowledged, InteractionFailed, MessageDeleted, MessageUpdated
from bot.sandbox.events import MessageCreated as Created
from bot.sandbox.interactions import Call
from bot.sandbox.model import Channel, Member, Message, MessageFlag, User
from bot.sandbox.server import Sandbox

CHANNELS = ("imagine", "general", "gallery", "nsfw-art")
"""More than one, because a channel of the sandbox remembers 500 messages only."""
OUTSTANDING = 4
"""Jobs that one person has under way at once."""
PRESS_AGAIN = 0.3
"""Seconds after which somebody whose command came to nothing sends it again."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to see; no two have the same seed, so no two get the same pictures."""

    number: int
    prompt: str
    seed: int
    images: int
    steps: int


@dataclass(slots=True, eq=False)
class Asked:
    """One slash command: whether it was acknowledged, and the public messages that answer it."""

    wish: Wish
    interaction_id: int
    sent: float
    acknowledged: float | None = None
    """When, by the monotonic clock; None when it never was, or was answered in private."""
    refused: str | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    messages: list[Message] = field(default_factory=list)
    deleted: bool = False
    ended: str | None = None
    """`posted`, `failed` or `cancelled`, as its message says."""
    ends: int = 0
    """Edits that showed an end; one more than needed is the same message edited again."""
    reverted: int = 0
    """Times that a message which showed an end showed something else afterwards."""

    @property
    def open(self) -> bool:
        return self.acknowledged is not None and self.ended is None and not self.deleted


class Crowd:
    """`users` people on one sandbox who ask for `jobs` different things."""

    def __init__(self, sandbox: Sandbox, rng: random.Random, *, jobs: int, users: int = 12) -> None:
        self._sandbox = sandbox
        self._rng = rng
        self._jobs = jobs
        self._wishes = deque(wishes(rng, jobs))
        self._people = [self._join(number) for number in range(users)]
        self._channels = _channels(sandbox)
        self._by_interaction: dict[int, Asked] = {}
        self._by_message: dict[int, Asked] = {}
        self.taken = 0
        """Jobs that were acknowledged so far."""
        self.allowed = jobs
        """How many may have been by now, give or take one for each person."""
        sandbox.world.listen(self._hear)

    @property
    def asked(self) -> list[Asked]:
        return list(self._by_interaction.values())

    @property
    def acknowledged(self) -> list[Asked]:
        return [asked for asked in self._by_interaction.values() if asked.acknowledged is not None]

    @property
    def ended(self) -> int:
        return sum(not asked.open for asked in self.acknowledged)

    @property
    def satisfied(self) -> bool:
        """Everybody has asked and was answered, and whatever was acknowledged has ended."""
        asked = self._by_interaction.values()
        return self.taken >= self._jobs and all(one.answered.is_set() and not one.open for one in asked)

    async def ask(self) -> None:
        """Everybody asks for one thing after the other until nobody wishes for anything more."""
        await asyncio.gather(*(self._ask(user) for user in self._people))

    async def _ask(self, user: User) -> None:
        mine: list[Asked] = []
        while True:
            mine = [asked for asked in mine if asked.open]
            if not self._wishes:
                return
            busy = len(mine) >= OUTSTANDING or self.taken >= self.allowed
            if busy or not self._sandbox.gateway.online:
                await asyncio.sleep(0.05)
                continue
            wish = self._wishes.popleft()
            asked = await self.press(user, wish)
            if asked is None or asked.acknowledged is None:
                self._wishes.append(wish)
                await asyncio.sleep(PRESS_AGAIN)
            else:
                mine.append(asked)

    async def press(self, user: User, wish: Wish) -> Asked | None:
        """Send the command and wait for its answer; None when the sandbox says that the bot is away."""
        channel = self._channels[wish.number % len(self._channels)]
        options = {"prompt": wish.prompt, "seed": wish.seed, "images": wish.images, "steps": wish.steps}
        sent = time.monotonic()
        try:
            interaction = self._sandbox.interactions.command(Call(user, channel, "imagine", None, options))
        except SandboxRefusal:
            return None
        asked = self._by_interaction[interaction.id] = Asked(wish, interaction.id, sent)
        await asked.answered.wait()
        return asked

    def enough(self) -> None:
        """Nobody wishes for anything more; what was asked for goes on."""
        self._wishes.clear()
        self._jobs = 0

    async def rush(self, users: int) -> list[Asked]:
        """As many newcomers press in one moment; returns when all of them were answered."""
        guests = [self._join(self._jobs + number) for number in range(users)]
        own = [_wish(self._jobs + number, self._rng) for number in range(users)]
        self._jobs += users
        self.allowed += users
        found = await asyncio.gather(*(self.press(guest, wish) for guest, wish in zip(guests, own, strict=True)))
        asked = [one for one in found if one is not None]
        taken = {one.wish.number for one in asked if one.acknowledged is not None}
        self._wishes.extend(wish for wish in own if wish.number not in taken)
        return asked

    def _join(self, number: int) -> User:
        world = self._sandbox.world
        user = User(world.snowflake(), f"user{number}", f"User {number}", "#888888")
        world.users[user.id] = user
        world.guild.members[user.id] = Member(user, (), next(iter(world.guild.members.values())).joined_at)
        return user

    # --- what they see ----------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        match event:
            case Created(message) if asked := self._asked_by(message):
                if message.visible_to is not None:
                    asked.refused = _text(message)
                else:
                    asked.messages.append(message)
                    self._by_message[message.id] = asked
            case MessageUpdated(message) if asked := self._by_message.get(message.id):
                self._look(asked, message)
            case MessageDeleted(message) if asked := self._by_message.get(message.id):
                asked.deleted = True
            case InteractionAcknowledged(interaction_id, _, _, message):
                if asked := self._by_interaction.get(interaction_id):
                    private = message is not None and message.visible_to is not None
                    asked.acknowledged = None if private else time.monotonic()
                    self.taken += not private
                    asked.answered.set()
            case InteractionFailed(interaction_id, _, sentence):
                if asked := self._by_interaction.get(interaction_id):
                    asked.refused = sentence
                    asked.answered.set()

    def _asked_by(self, message: Message) -> Asked | None:
        if message.interaction is None:
            return None
        return self._by_interaction.get(int(message.interaction["id"]))

    def _look(self, asked: Asked, message: Message) -> None:
        ended = how_it_ended(message)
        if ended is not None:
            asked.ends += 1
        elif asked.ended is not None:
            asked.reverted += 1
        asked.ended = ended


def how_it_ended(message: Message) -> str | None:
    """`posted`, `failed` or `cancelled`; None while the message offers no Delete."""
    labels = {component.get("label") for component in walk(message.components)}
    if MessageFlag.LOADING in message.flags or "Delete" not in labels:
        return None
    if "Try again" not in labels:
        return "posted"
    return "cancelled" if "Cancelled." in _text(message) else "failed"


def wishes(rng: random.Random, jobs: int) -> list[Wish]:
    return [_wish(number, rng) for number in range(jobs)]


def _wish(number: int, rng: random.Random) -> Wish:
    seed = number * 1000 + rng.randrange(900)  # pictures of one job have the seeds that follow
    return Wish(number, f"thing {number}", seed, rng.choice((1, 1, 2, 4)), rng.randint(4, 14))


def _channels(sandbox: Sandbox) -> list[Channel]:
    by_name = {channel.name: channel for channel in sandbox.world.guild.channels.values()}
    return [by_name[name] for name in CHANNELS]


def _text(message: Message) -> str:
    parts = [message.content, *(component.get("content", "") for component in walk(message.components))]
    return "\n".join(filter(None, parts))
