"""Filled-in forms, read from the interaction alone: whoever wrote into one loses nothing by a restart meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import discord


def submitted(interaction: discord.Interaction, custom_id: str) -> tuple[re.Match[str], dict[str, str]] | None:
    """What identifies the form, where its custom_id fits the pattern, and what stands in its fields by their ids."""
    data: Any = interaction.data
    if interaction.type is not discord.InteractionType.modal_submit or data is None:
        return None
    match = re.fullmatch(custom_id, data["custom_id"])
    return None if match is None else (match, dict(_values(data["components"])))


def _values(components: list[Any]) -> Iterator[tuple[str, str]]:
    for component in components:
        inner = component.get("component", component)
        yield from _values(inner.get("components", []))
        if "value" in inner:
            yield inner["custom_id"], str(inner["value"]).strip()
        elif inner.get("values"):
            yield inner["custom_id"], str(inner["values"][0])
