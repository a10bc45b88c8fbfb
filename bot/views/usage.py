"""How much GPU time was used today, and how much is left."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui, utils

from bot.jobs.quota import Usage
from bot.views import text


def render(mine: Usage, server: Usage | None = None, most: Sequence[tuple[int, float]] = ()) -> ui.LayoutView:
    """A private message: the person's own usage and, for managers of the server, the server's and its largest users."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay(f"### GPU time today\n{_usage(mine)}"))
    if server is not None:
        lines = [f"{place}. <@{user_id}> {text.duration(used)}" for place, (user_id, used) in enumerate(most, 1)]
        body.add_item(ui.Separator())
        body.add_item(ui.TextDisplay("\n".join([f"### This server\n{_usage(server)}", *lines])))
    resets = utils.format_dt(mine.resets_at, "R")
    body.add_item(
        ui.TextDisplay(f"-# Jobs that wait count by estimate; failed and cancelled ones not. Resets {resets}.")
    )
    view = ui.LayoutView()
    view.add_item(body)
    return view


def _usage(usage: Usage) -> str:
    if usage.limit is None:
        return f"**{text.duration(usage.used)}** used, no limit"
    left = max(0.0, usage.limit - usage.used)
    bar = text.bar(usage.used / usage.limit)
    return f"{bar} **{text.duration(usage.used)}** of {text.duration(usage.limit)} used, {text.duration(left)} left"
