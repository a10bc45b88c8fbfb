"""The audit log as its managers read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from discord import ui, utils

from bot.moderation.audit_log import Check, Entry
from bot.views import text

SHOWN = 12
"""Entries in one message."""
LONGEST_VALUE = 80
LONGEST_TEXT = 3500
"""Characters; Discord takes 4,000 in one message."""


def render(entries: Sequence[Entry], count: int) -> ui.LayoutView:
    """The newest of `count` entries."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    body.add_item(ui.TextDisplay("### Audit log" if entries else "### Audit log\nNothing of that kind was done."))
    lines = _fitting(map(_line, entries))
    if lines:
        body.add_item(ui.TextDisplay("\n".join(lines)))
    if count > len(lines):
        body.add_item(ui.TextDisplay(f"-# and {count - len(lines)} older: `/audit export` has all of them"))
    return _alone(body)


def verdict(check: Check) -> ui.LayoutView:
    whole = check.first_broken is None and check.known
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x23A559 if whole else 0xF23F43)
    lines = ["### Audit log"]
    if check.first_broken is None:
        lines.append("✅ Every entry fits the one before it: nothing was changed or taken out between them.")
    else:
        lines.append(f"❌ Entry {check.first_broken} does not fit: it was changed, or others before it were taken out.")
    if not check.known:
        lines.append("❌ The entry with that hash is not there any more: the end of the log was cut off.")
    lines.append(f"{check.entries} of the entries are of this server. Keep the newest hash to see later that it stays:")
    lines.append(f"`{check.newest or 'none yet'}`")
    body.add_item(ui.TextDisplay("\n".join(lines)))
    return _alone(body)


def _fitting(lines: Iterable[str]) -> list[str]:
    """As many as one message holds."""
    fitting: list[str] = []
    left = LONGEST_TEXT
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            break
        fitting.append(line)
    return fitting


def _line(entry: Entry) -> str:
    actor = "somebody forgotten" if entry.actor_id is None else f"<@{entry.actor_id}>"
    subject = f"<@{entry.subject_id}>" if entry.subject_id is not None else text.quoted(entry.subject, LONGEST_VALUE)
    values = [text.quoted(value, LONGEST_VALUE) for value in (entry.before, entry.after) if value is not None]
    changed = f" · {' → '.join(values)}" if values else ""
    return f"{utils.format_dt(entry.at, 'f')} · {actor} · **{entry.act}** · {subject}{changed}"


def _alone(body: ui.Container[ui.LayoutView]) -> ui.LayoutView:
    view = ui.LayoutView()
    view.add_item(body)
    return view
