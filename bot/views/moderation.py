"""What a server set about moderation, on one page."""

from __future__ import annotations

from collections.abc import Collection

from discord import ui

from bot.moderation import policy
from bot.moderation.reports import HIDE_AFTER
from bot.moderation.servers import ServerSettings
from bot.views import text


def render(settings: ServerSettings, role_ids: Collection[int]) -> ui.LayoutView:
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    rows = {
        "Review channel": _channel(settings.review_channel_id),
        "Moderators": ", ".join(["Manage Messages", *(f"<@&{role_id}>" for role_id in sorted(role_ids))]),
        "Scores outside age-restricted channels": _thresholds(settings),
        "Reports that hide a picture": _reports(settings.hide_after_reports),
        "Pictures that nothing judged": _unjudged(settings.unjudged_accepted),
        "Prompts and pictures are kept": _retention(settings.retention_days),
        "Terms": f"version {settings.terms_version}, see `/terms show`" if settings.terms else "none",
    }
    lines = [f"**{name}**: {value}" for name, value in rows.items()]
    body.add_item(ui.TextDisplay("\n".join(["### Moderation", *lines])))
    view = ui.LayoutView()
    view.add_item(body)
    return view


def _channel(channel_id: int | None) -> str:
    return f"<#{channel_id}>" if channel_id is not None else "none: moderators see cases by `/review list`"


def _thresholds(settings: ServerSettings) -> str:
    scores = policy.thresholds(settings)
    told = f"spoiler from {scores.spoiler_at:g}, held from {scores.hold_at:g}, not shown from {scores.block_at:g}"
    return told if settings.spoiler_at is not None else f"{told} (the bot's own)"


def _reports(number: int | None) -> str:
    return str(number) if number is not None else f"{HIDE_AFTER} (the bot's own)"


def _unjudged(words: str | None) -> str:
    return f"are shown (“{text.quoted(words)}”)" if words else "are not shown outside age-restricted channels"


def _retention(days: int | None) -> str:
    return "until somebody deletes them" if days is None else f"for {text.counted(days, 'day')}"
