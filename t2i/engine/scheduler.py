"""Which requests take part in the next tick.

A tick is one denoiser forward, so only requests of one group (same model, same shapes) share it. Every request has a
deadline in ticks, `admitted at + steps`, and earlier deadlines go first. That is shortest-remaining-first with aging
where a tick waited counts as much as a step done: short requests pass long ones, yet whatever arrives more than
`steps` ticks later never passes, so nothing starves. The order is settled at admission, so groups do not thrash.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Protocol, TypeVar


class Schedulable(Protocol):
    @property
    def group(self) -> Hashable:
        """Items of equal group may share a forward."""

    @property
    def rows(self) -> int:
        """Rows of the batch that a forward of it takes."""

    @property
    def deadline(self) -> int:
        """Tick by which it would be done if it never had to wait."""


S = TypeVar("S", bound=Schedulable)


def choose(items: Iterable[S], row_cap: int) -> list[S]:
    """The items to step next, most urgent first: one group, and `row_cap` rows at most.

    The most urgent item always goes, however many rows it takes; whoever still fits behind it comes along. Of equal
    deadlines the earlier in `items` goes first. Empty only when `items` is.
    """
    chosen: list[S] = []
    rows = 0
    for item in sorted(items, key=lambda item: item.deadline):
        if not chosen or (item.group == chosen[0].group and rows + item.rows <= row_cap):
            chosen.append(item)
            rows += item.rows
    return chosen
