"""A server's rules for prompts, as its managers see them."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui

from bot.moderation.prompt_rules import Rule, RuleKind
from bot.views import text

SHOWN_PATTERN = 80
SHOWN = 25
"""Rules on one page; a message holds 4,000 characters."""


def render(rules: Sequence[Rule]) -> ui.LayoutView:
    """The newest of them, as far as a message holds them."""
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    lines = ["### Rules for prompts", *map(line, rules[-SHOWN:])]
    if not rules:
        lines.append("This server has none; what the bot refuses everywhere it refuses here.")
    if len(rules) > SHOWN:
        lines.append(f"-# and {len(rules) - SHOWN} older ones, which `/rules remove` finds by their words")
    body.add_item(ui.TextDisplay("\n".join(lines)))
    view = ui.LayoutView()
    view.add_item(body)
    return view


def line(rule: Rule) -> str:
    kind = "regular expression " if rule.kind is RuleKind.REGEX else ""
    reason = "" if rule.reason is None else f" — {text.quoted(rule.reason, SHOWN_PATTERN)}"
    return f"rule {rule.id} · {rule.action} · {kind}“{text.quoted(rule.pattern, SHOWN_PATTERN)}”{reason}"
