"""How a person reads a message: its text, its pictures, its buttons, and whether the bot is done with it."""

from __future__ import annotations

from bot.sandbox.components import SELECTS, Kind, walk
from bot.sandbox.model import Json, MessageFlag

CANCEL = "cancel"


def settled(message: Json) -> bool:
    """Whether the bot is done with a message: no longer thinking, and nothing left to cancel."""
    loading = bool(message["flags"] & MessageFlag.LOADING)
    buttons = (c for c in walk(message["components"]) if c["type"] == Kind.BUTTON and not c.get("disabled"))
    return not loading and all(label(button).casefold() != CANCEL for button in buttons)


def label(button: Json) -> str:
    """What a person calls a button: its words, else its emoji."""
    return str(button.get("label") or (button.get("emoji") or {}).get("name") or "")


def text(message: Json) -> str:
    """All text of a message, components included, one line each."""
    shown = (component["content"] for component in walk(message["components"]) if "content" in component)
    return "\n".join(part for part in [message["content"], *shown] if part)


def controls(message: Json) -> list[Json]:
    """Its buttons and menus, in reading order."""
    return [_control(c) for c in walk(message["components"]) if c["type"] == Kind.BUTTON or c["type"] in SELECTS]


def _control(component: Json) -> Json:
    described = {
        "type": Kind(component["type"]).name.lower(),
        "label": label(component) or component.get("placeholder"),
        "custom_id": component.get("custom_id"),
        "disabled": bool(component.get("disabled")),
    }
    if options := component.get("options"):
        described["options"] = [option["label"] for option in options]
    return described


def media(message: Json) -> list[Json]:
    """Every picture or file of a message with its alt text, wherever Discord lists it."""
    found: list[Json] = [attachment | {"alt": attachment.get("description")} for attachment in message["attachments"]]
    for component in walk(message["components"]):
        for item in component.get("items", []):
            found.append(item["media"] | {"alt": item.get("description")})
        for slot in ("media", "file"):
            if slot in component:
                found.append(component[slot] | {"alt": component.get("description")})
    return found


def fields(modal: Json) -> dict[str, str]:
    """Custom ids of a form's fields by what a person would call them: their label, or the custom id itself."""
    names: dict[str, str] = {}
    for component in walk(modal["components"]):
        inner = component.get("component", component)
        if "custom_id" in inner:
            names.setdefault(inner["custom_id"], inner["custom_id"])
            if words := component.get("label"):
                names[words] = inner["custom_id"]
    return names
