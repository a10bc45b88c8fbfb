"""Which requests take part in the next tick: soon done, and fair between users.

A tick is one denoiser forward, so only requests of one group (same model, same shapes) share it. Imagine a device that
divides itself equally, at every moment, among all users who wait, and takes their requests one after another. Requests
are served in the order in which they would end there: that is shortest remaining work first, as in the Fair Sojourn
Protocol (Friedman & Henderson 2003), with aging, since time passes there with the work that is done here, as in WF2Q
(Bennett & Zhang 1996): with n users waiting, whoever came before PACE / n of the device has done its work is passed by
nobody who comes after.

A flood of requests delays its own user. What follows while others of a user are under way costs more, and but for its
first step never makes the ticks of others longer when its user got an equal share already: who comes once in a while
hardly notices who always has something queued. First steps come first where there is room: a newcomer joins the very
next tick, which costs the others no more than one, and soon shows something.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

DRAFT_CHARGE = 0.25
"""What the work of a draft counts, so that a first look comes before other pictures."""
FOLLOW_UP_CHARGE = 3.0
"""What work counts that its user asks for while others of the user's requests are under way."""
PACE = 0.7
"""Of the imagined device: at 1 requests age the faster, at less short ones pass for longer."""


class Schedulable(Protocol):
    @property
    def group(self) -> Hashable:
        """Items of equal group may share a forward."""

    @property
    def rows(self) -> int:
        """Rows of the batch that its next step takes."""

    @property
    def work(self) -> int:
        """Work that is left to do, in any unit that is the same for all."""


@dataclass(frozen=True, slots=True)
class Room:
    """Rows that are worth a shared forward, and rows that cost no more than one, which are nobody's loss."""

    rows: int
    free: int = 1


S = TypeVar("S", bound=Schedulable)


@dataclass(eq=False, slots=True)
class _User(Generic[S]):
    """`begin`: when the imagined device is done with what this user asked for before its `entries`. `served`: when it
    would be as far as the steps that were done really."""

    begin: float
    served: float
    entries: list[_Entry[S]] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.begin + sum(entry.total for entry in self.entries)


@dataclass(eq=False, slots=True)
class _Entry(Generic[S]):
    item: S
    user: _User[S]
    number: int
    follows: bool
    """Whether its user was at work already when it came."""
    charge: float
    total: float
    left: float
    """Work, as it is charged."""
    turn: float
    """Its place among those of its user: short ones first, and later ones later."""
    end: float = 0.0
    """When the imagined device is done with it."""

    @property
    def is_new(self) -> bool:
        return self.left == self.total


class Scheduler(Generic[S]):
    """The requests in flight and who asked for them. Not thread-safe."""

    def __init__(self) -> None:
        self._now = 0.0
        """The imagined device's time, in work for each user."""
        self._users: dict[Hashable, _User[S]] = {}
        self._entries: dict[int, _Entry[S]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item: S) -> bool:
        return id(item) in self._entries

    def add(self, item: S, *, user: str = "", draft: bool = False) -> None:
        """Let an item take part; without a name, its user has nothing else."""
        account = self._users.setdefault(user or object(), _User(self._now, self._now))
        follows = bool(account.entries) or account.end > self._now
        charge = (FOLLOW_UP_CHARGE if follows else 1.0) * (DRAFT_CHARGE if draft else 1.0)
        if not account.entries:
            # Whole numbers: equal work must stay equal, however it is added up.
            now = float(math.floor(self._now))
            account.begin, account.served = max(account.begin, now), max(account.served, now)
        work = item.work * charge
        entry = _Entry(item, account, next(self._numbers), follows, charge, work, work, turn=self._now + work)
        insort(account.entries, entry, key=lambda entry: entry.turn)
        self._entries[id(item)] = entry

    def remove(self, item: S) -> None:
        """Take out an item that is done, or not wanted any more; does nothing for one that is not in."""
        if entry := self._entries.pop(id(item), None):
            entry.user.entries.remove(entry)
            entry.user.begin += entry.total - entry.left
        if not self._entries:
            # Nobody waits, so nobody is owed anything.
            self._users.clear()
            self._now = 0.0

    def choose(self, room: Callable[[S], Room]) -> list[S]:
        """The items to step next, most urgent first: one group, and as many rows as `room` has beside the first one.

        The first always goes, however many rows it takes; whoever still fits comes along, those first that never
        stepped. Of items that would end together the earlier goes first. Empty only when there are none.
        """
        queue = self._queue()
        if not queue:
            return []
        first = queue[0]
        # Where everybody got more than the imagined device has given, it has to hurry.
        self._now = max(self._now, min(entry.user.served for entry in queue))
        limits = room(first.item)
        mates = [entry for entry in queue if entry.item.group == first.item.group]
        alone = all(entry.user is first.user for entry in mates)
        chosen, rows = [first.item], first.item.rows
        for entry in sorted(mates[1:], key=lambda entry: not entry.is_new):
            limit = limits.rows if alone or self._is_due(entry) else limits.free
            if rows + entry.item.rows <= limit:
                chosen.append(entry.item)
                rows += entry.item.rows
        return chosen

    def charge(self, items: Iterable[S]) -> None:
        """Have users pay for a step of each of these items, which was done."""
        paid = 0.0
        for item in items:
            if entry := self._entries.get(id(item)):
                left = item.work * entry.charge
                paid += entry.left - left
                entry.user.served += entry.left - left
                entry.left = left
        if paid:
            self._pass_time(paid)

    def _queue(self) -> list[_Entry[S]]:
        for user in self._users.values():
            end = user.begin
            for entry in user.entries:
                end += entry.total
                entry.end = end
        return sorted(self._entries.values(), key=lambda entry: (entry.end, entry.number))

    def _is_due(self, entry: _Entry[S]) -> bool:
        """What follows has to wait after its first step, while its user got more than an equal share."""
        return entry.is_new or not entry.follows or entry.user.served <= self._now

    def _pass_time(self, work: float) -> None:
        waiting = sum(1 for user in self._users.values() if user.entries)
        self._now += PACE * work / waiting
        self._users = {name: user for name, user in self._users.items() if user.entries or user.end > self._now}
