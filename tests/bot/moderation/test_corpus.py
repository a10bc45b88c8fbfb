"""The floor, measured on prompts that mean to get past it and on prompts that only look like it."""

from __future__ import annotations

from tests.bot.moderation.measure import Measured, measure

LEAST = {"recall": 0.89, "precision": 0.95, "passing": 0.95}
"""docs/moderation.md has the figures; whoever changes the floor measures anew and puts both right."""


def test_the_floor_is_as_sharp_as_the_docs_say() -> None:
    measured: Measured = measure()
    assert sum(len(set(group.prompts)) for group in measured.evasions) >= 300
    assert sum(len(set(group.prompts)) for group in measured.innocent) >= 300
    found = {"recall": measured.recall, "precision": measured.precision, "passing": measured.passing}
    assert {name for name, share in found.items() if share < LEAST[name]} == set(), found


def test_whatever_only_looks_like_a_forbidden_word_passes() -> None:
    groups = {group.name: group.refused for group in measure().innocent if not group.name.startswith("hard")}
    assert groups == {name: [] for name in groups}
