"""Which requests step next: one group, earliest deadline first, never more rows than the cap."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from t2i.engine.scheduler import choose


@dataclass(eq=False)
class Item:
    deadline: int
    rows: int = 1
    group: str = "a"
    left: int = 1


items = st.builds(Item, deadline=st.integers(0, 50), rows=st.integers(1, 8), group=st.sampled_from("abc"))


@given(st.lists(items, min_size=1), st.integers(1, 16))
def test_a_batch_is_one_group_within_the_cap_and_holds_the_most_urgent(waiting: list[Item], cap: int) -> None:
    batch = choose(waiting, cap)
    assert {item.group for item in batch} == {batch[0].group}
    assert len(batch) == 1 or sum(item.rows for item in batch) <= cap
    assert batch[0].deadline == min(item.deadline for item in waiting)


@given(st.lists(items, min_size=1), st.integers(1, 16))
def test_nobody_who_still_fits_is_left_behind(waiting: list[Item], cap: int) -> None:
    batch = choose(waiting, cap)
    spare = cap - sum(item.rows for item in batch)
    left_behind = [item for item in waiting if item not in batch and item.group == batch[0].group]
    assert all(item.rows > spare for item in left_behind)


def test_nothing_waiting_gives_an_empty_batch() -> None:
    assert choose([], 16) == []


def test_a_request_larger_than_the_cap_goes_alone_rather_than_never() -> None:
    large, small = Item(deadline=1, rows=40), Item(deadline=2)
    assert choose([small, large], 16) == [large]


def test_a_short_request_passes_a_long_one_that_came_first() -> None:
    long, short = Item(deadline=0 + 200, rows=8), Item(deadline=5 + 20, rows=8)
    assert choose([long, short], 8) == [short]


def test_of_two_equal_requests_the_first_goes_first() -> None:
    first, second = Item(deadline=27, rows=8), Item(deadline=27, rows=8)
    assert choose([first, second], 8) == [first]


def test_a_long_request_ends_although_short_ones_never_stop_coming() -> None:
    long = Item(deadline=100, rows=8, left=100)
    waiting = [long]
    for tick in range(300):
        if len(waiting) < 3:
            waiting.append(Item(deadline=tick + 10, rows=8, group="b", left=10))
        for item in choose(waiting, 8):
            item.left -= 1
        waiting = [item for item in waiting if item.left]
        if long.left == 0:
            return
    raise AssertionError("the long request starved")
