"""Which requests take part in the next tick: soon done, and fair between users.

A tick is one denoiser forward, so only requests of one group (same model, same shapes) share it. Imagine the device
divided equally, at every moment, among all users who have something to do. Requests are served in the order in which
they would end there: short ones pass long ones, and nothing starves, for nobody is done later than under equal sharing
but for steps that cannot be split. That is the Fair Sojourn Protocol (Friedman & Henderson 2003), shortest remaining
work first with a bound; the imagined device keeps its time as WF2Q does (Bennett & Zhang 1996).

A user's requests go one after another there, so that a flood of them delays its own user. Whoever is already at work
pays more for what follows, and what is not due yet never makes the ticks of others longer: who comes once in a while
hardly notices who always has something queued.
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
    """Rows that are worth a shared forward, and rows that cost no more than one: what is not due yet may fill those."""

    rows: int
    free: int = 1


S = TypeVar("S", bound=Schedulable)


@dataclass(eq=False, slots=True)
class _User(Generic[S]):
    """`begin`: when the imagined device is done with what this user asked for before its `entries`."""

    begin: float
    entries: list[_Entry[S]] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.begin + sum(entry.total for entry in self.entries)


@dataclass(eq=False, slots=True)
class _Entry(Generic[S]):
    item: S
    user: _User[S]
    number: int
    charge: float
    total: float
    left: float
    """Work, as it is charged."""
    turn: float
    """Its place among those of its user: short ones first, and later ones later."""
    start: float = 0.0
    end: float = 0.0
    """When the imagined device begins and ends it."""


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
        account = self._users.setdefault(user or object(), _User(self._now))
        charge = (FOLLOW_UP_CHARGE if account.end > self._now else 1.0) * (DRAFT_CHARGE if draft else 1.0)
        if not account.entries:
            # Whole numbers: equal work must stay equal, however it is added up.
            account.begin = max(account.begin, float(math.floor(self._now)))
        work = item.work * charge
        entry = _Entry(item, account, next(self._numbers), charge, total=work, left=work, turn=self._now + work)
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

        The first always goes, however many rows it takes; whoever is due and still fits comes along. Of items that
        would end together the earlier goes first. Empty only when there are none.
        """
        queue = self._queue()
        if not queue:
            return []
        # Where everybody is ahead of the imagined device, it has to hurry.
        self._now = max(self._now, min(entry.start for entry in queue))
        first = queue[0]
        group, limits = first.item.group, room(first.item)
        chosen, rows, shared = [first.item], first.item.rows, False
        for entry in queue[1:]:
            if entry.item.group != group:
                continue
            stranger = entry.user is not first.user
            due = entry.start <= self._now or not (stranger or shared)
            if rows + entry.item.rows <= (limits.rows if due else limits.free):
                chosen.append(entry.item)
                rows += entry.item.rows
                shared |= stranger
        return chosen

    def charge(self, items: Iterable[S]) -> None:
        """Have users pay for a step of each of these items, which was done."""
        paid = 0.0
        for item in items:
            if entry := self._entries.get(id(item)):
                left = item.work * entry.charge
                paid += entry.left - left
                entry.left = left
        self._pass_time(paid)

    def _queue(self) -> list[_Entry[S]]:
        for user in self._users.values():
            time = user.begin
            for entry in user.entries:
                entry.start, entry.end = time, time + entry.total
                time = entry.end
        return sorted(self._entries.values(), key=lambda entry: (entry.end, entry.number))

    def _pass_time(self, work: float) -> None:
        """Let the imagined device do this much work, for all users at once."""
        ends = sorted(user.end for user in self._users.values() if user.end > self._now)
        for index, end in enumerate(ends):
            users = len(ends) - index
            passed = min(work / users, end - self._now)
            self._now += passed
            work -= passed * users
        self._users = {name: user for name, user in self._users.items() if user.entries or user.end > self._now}
