"""Components V2 and V1: the rules Discord holds a message or a modal to, and media resolved to addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from bot.sandbox.errors import FormErrors
from bot.sandbox.model import Json

MAX_COMPONENTS = 40
MAX_TEXT = 4000
MAX_ALT_TEXT = 1024

ResolveMedia = Callable[[str], Json | None]
"""Maps an address, `attachment://NAME` included, to resolved media; None when no such file was sent."""


class Kind(IntEnum):
    ACTION_ROW = 1
    BUTTON = 2
    STRING_SELECT = 3
    TEXT_INPUT = 4
    USER_SELECT = 5
    ROLE_SELECT = 6
    MENTIONABLE_SELECT = 7
    CHANNEL_SELECT = 8
    SECTION = 9
    TEXT_DISPLAY = 10
    THUMBNAIL = 11
    MEDIA_GALLERY = 12
    FILE = 13
    SEPARATOR = 14
    CONTAINER = 17
    LABEL = 18
    FILE_UPLOAD = 19
    RADIO_GROUP = 21
    CHECKBOX_GROUP = 22
    CHECKBOX = 23


SELECTS = frozenset(
    {Kind.STRING_SELECT, Kind.USER_SELECT, Kind.ROLE_SELECT, Kind.MENTIONABLE_SELECT, Kind.CHANNEL_SELECT}
)
_IN_CONTAINER = frozenset(
    {Kind.ACTION_ROW, Kind.SECTION, Kind.TEXT_DISPLAY, Kind.MEDIA_GALLERY, Kind.FILE, Kind.SEPARATOR}
)
_TOP_LEVEL_V2 = _IN_CONTAINER | {Kind.CONTAINER}
_IN_ROW = SELECTS | {Kind.BUTTON}
_IN_LABEL = SELECTS | {Kind.TEXT_INPUT, Kind.FILE_UPLOAD, Kind.RADIO_GROUP, Kind.CHECKBOX_GROUP, Kind.CHECKBOX}
_LINK, _PREMIUM = 5, 6


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component of a tree, parents before children."""
    for component in components:
        yield component
        yield from walk(component.get("components", []))
        for key in ("accessory", "component"):
            if key in component:
                yield component[key]


def check_message(components: Any, *, v2: bool, media: ResolveMedia) -> list[Json]:
    """The components as Discord stores them: ids given, media resolved. Raises DiscordError 50035."""
    checker = _Checker(media)
    if not isinstance(components, list):
        checker.errors.add("components", "BASE_TYPE_BAD_TYPE", "Only iterables may be used in a ListType.")
        checker.errors.raise_if_any()
    allowed = _TOP_LEVEL_V2 if v2 else frozenset({Kind.ACTION_ROW})
    if not v2:
        checker.errors.count("components", len(components), 0, 5)
    checked = checker.children("components", components, allowed)
    if v2:
        checker.check_totals(checked)
    checker.errors.raise_if_any()
    return checked


def check_modal(modal: Json) -> Json:
    """Raises DiscordError 50035."""
    checker = _Checker(lambda _: None)
    checker.text("title", modal, "title", 1, 45)
    checker.text("custom_id", modal, "custom_id", 1, 100)
    components = modal.get("components", [])
    checker.errors.count("components", len(components), 1, 5)
    checker.in_modal = True
    allowed = frozenset({Kind.ACTION_ROW, Kind.LABEL, Kind.TEXT_DISPLAY})
    checked = checker.children("components", components, allowed)
    checker.errors.raise_if_any()
    return modal | {"components": checked}


class _Checker:
    def __init__(self, media: ResolveMedia) -> None:
        self.errors = FormErrors()
        self.in_modal = False
        self._media = media
        self._custom_ids: set[str] = set()
        self._next_id = 1

    def children(self, path: str, components: list[Any], allowed: frozenset[Kind]) -> list[Json]:
        return [self._component(f"{path}.{index}", child, allowed) for index, child in enumerate(components)]

    def text(self, path: str, component: Json, key: str, low: int, high: int) -> None:
        value = component.get(key)
        if value is None and low > 0:
            self.errors.required(path)
        elif value is not None:
            self.errors.length(path, str(value), low, high)

    def check_totals(self, components: list[Json]) -> None:
        nodes = list(walk(components))
        if len(nodes) > MAX_COMPONENTS:
            self.errors.add(
                "components", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_COMPONENTS} or fewer in total, nested ones too."
            )
        text = sum(len(node["content"]) for node in nodes if node["type"] == Kind.TEXT_DISPLAY)
        if text > MAX_TEXT:
            self.errors.add(
                "components",
                "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED",
                f"The total displayable text size exceeds the maximum of {MAX_TEXT}.",
            )

    def _component(self, path: str, given: Any, allowed: frozenset[Kind]) -> Json:
        kind = given.get("type") if isinstance(given, dict) else None
        if kind not in allowed:
            choices = ", ".join(str(int(kind)) for kind in sorted(allowed))
            self.errors.add(f"{path}.type", "UNION_TYPE_CHOICES", f'Value of field "type" must be one of ({choices}).')
            return {"type": -1}
        component = {key: value for key, value in given.items() if value is not None}
        component["id"] = component.get("id") or self._next_id
        self._next_id = max(self._next_id, component["id"]) + 1
        if "custom_id" in component:
            self._custom_id(path, component)
        if check := _CHECKS.get(Kind(kind)):
            check(self, path, component)
        return component

    def _custom_id(self, path: str, component: Json) -> None:
        custom_id = component["custom_id"]
        self.errors.length(f"{path}.custom_id", custom_id, 1, 100)
        if custom_id in self._custom_ids:
            self.errors.add(
                f"{path}.custom_id", "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated"
            )
        self._custom_ids.add(custom_id)

    def _row(self, path: str, row: Json) -> None:
        children = row.get("components", [])
        self.errors.count(f"{path}.components", len(children), 1, 5)
        row["components"] = self.children(
            f"{path}.components", children, frozenset({Kind.TEXT_INPUT}) if self.in_modal else _IN_ROW
        )
        if len(children) > 1 and any(child["type"] != Kind.BUTTON for child in row["components"]):
            self.errors.add(
                f"{path}.components",
                "COMPONENT_LAYOUT_WIDTH_EXCEEDED",
                "The specified component exceeds the maximum width",
            )

    def _button(self, path: str, button: Json) -> None:
        style = button.get("style")
        self.text(f"{path}.label", button, "label", 0, 80)
        if not isinstance(style, int) or not 1 <= style <= _PREMIUM:
            choices = "(1, 2, 3, 4, 5, 6)"
            self.errors.add(f"{path}.style", "BASE_TYPE_CHOICES", f"Value must be one of {choices}.")
        elif style == _LINK:
            self.text(f"{path}.url", button, "url", 1, 512)
            if "custom_id" in button:
                self.errors.add(path, "BUTTON_COMPONENT_INVALID_CUSTOM_ID", "A link button has no custom id")
        elif style != _PREMIUM:
            if "custom_id" not in button:
                self.errors.add(f"{path}.custom_id", "BUTTON_COMPONENT_CUSTOM_ID_REQUIRED", "A custom id is required")
            if not button.get("label") and not button.get("emoji"):
                self.errors.add(path, "BUTTON_COMPONENT_INVALID_LABEL", "A button needs a label or an emoji")

    def _select(self, path: str, select: Json) -> None:
        if "custom_id" not in select:
            self.errors.required(f"{path}.custom_id")
        self.text(f"{path}.placeholder", select, "placeholder", 0, 150)
        for key, low in (("min_values", 0), ("max_values", 1)):
            if not low <= select.get(key, 1) <= 25:
                self.errors.add(f"{path}.{key}", "NUMBER_TYPE_RANGE", f"int value should be between {low} and 25.")
        if select["type"] == Kind.STRING_SELECT:
            self._options(f"{path}.options", select.get("options", []))

    def _options(self, path: str, options: list[Json]) -> None:
        self.errors.count(path, len(options), 1, 25)
        seen = set()
        for index, option in enumerate(options):
            self.text(f"{path}.{index}.label", option, "label", 1, 100)
            self.text(f"{path}.{index}.value", option, "value", 1, 100)
            self.text(f"{path}.{index}.description", option, "description", 0, 100)
            if option.get("value") in seen:
                self.errors.add(
                    f"{path}.{index}.value",
                    "SELECT_COMPONENT_OPTION_VALUE_DUPLICATED",
                    "The specified option value is already used",
                )
            seen.add(option.get("value"))

    def _text_input(self, path: str, field: Json) -> None:
        if "custom_id" not in field:
            self.errors.required(f"{path}.custom_id")
        self.text(f"{path}.label", field, "label", 0, 45)
        self.text(f"{path}.placeholder", field, "placeholder", 0, 100)
        self.text(f"{path}.value", field, "value", 0, 4000)

    def _text_display(self, path: str, component: Json) -> None:
        self.text(f"{path}.content", component, "content", 1, MAX_TEXT)
        component.setdefault("content", "")

    def _thumbnail(self, path: str, component: Json) -> None:
        self.text(f"{path}.description", component, "description", 0, MAX_ALT_TEXT)
        component["media"] = self._resolved(f"{path}.media", component.get("media"))

    def _section(self, path: str, section: Json) -> None:
        children = section.get("components", [])
        self.errors.count(f"{path}.components", len(children), 1, 3)
        section["components"] = self.children(f"{path}.components", children, frozenset({Kind.TEXT_DISPLAY}))
        section["accessory"] = self._component(
            f"{path}.accessory", section.get("accessory"), frozenset({Kind.BUTTON, Kind.THUMBNAIL})
        )

    def _gallery(self, path: str, gallery: Json) -> None:
        items = gallery.get("items", [])
        self.errors.count(f"{path}.items", len(items), 1, 10)
        gallery["items"] = [self._gallery_item(f"{path}.items.{index}", item) for index, item in enumerate(items)]

    def _gallery_item(self, path: str, item: Json) -> Json:
        self.text(f"{path}.description", item, "description", 0, MAX_ALT_TEXT)
        return item | {
            "media": self._resolved(f"{path}.media", item.get("media")),
            "description": item.get("description"),
            "spoiler": bool(item.get("spoiler")),
        }

    def _file(self, path: str, file: Json) -> None:
        url = (file.get("file") or {}).get("url", "")
        file["file"] = self._resolved(f"{path}.file", file.get("file"))
        if "attachment_id" not in file["file"]:
            self.errors.add(f"{path}.file.url", "URL_TYPE_INVALID_SCHEME", "Must be an attachment:// address.")
        file["name"] = url.rpartition("/")[2]

    def _container(self, path: str, container: Json) -> None:
        children = container.get("components", [])
        self.errors.count(f"{path}.components", len(children), 1, MAX_COMPONENTS)
        container["components"] = self.children(f"{path}.components", children, _IN_CONTAINER)
        if not 0 <= container.get("accent_color", 0) <= 0xFFFFFF:
            self.errors.add(f"{path}.accent_color", "NUMBER_TYPE_MAX", "int value should be <= 16777215.")

    def _label(self, path: str, label: Json) -> None:
        self.text(f"{path}.label", label, "label", 1, 45)
        self.text(f"{path}.description", label, "description", 0, 100)
        label["component"] = self._component(f"{path}.component", label.get("component"), _IN_LABEL)

    def _resolved(self, path: str, media: Any) -> Json:
        url = media.get("url") if isinstance(media, dict) else None
        if not isinstance(url, str):
            self.errors.required(f"{path}.url")
            return {"url": ""}
        if not url.startswith(("attachment://", "http://", "https://")):
            self.errors.add(
                f"{path}.url", "URL_TYPE_INVALID_SCHEME", "Scheme must be one of ('http', 'https', 'attachment')."
            )
            return {"url": url}
        resolved = self._media(url)
        if resolved is None:
            self.errors.add(
                f"{path}.url",
                "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND",
                "The referenced attachment was not found",
            )
            return {"url": url}
        return resolved


_CHECKS: dict[Kind, Callable[[_Checker, str, Json], None]] = {
    Kind.ACTION_ROW: _Checker._row,
    Kind.BUTTON: _Checker._button,
    **dict.fromkeys(SELECTS, _Checker._select),
    Kind.TEXT_INPUT: _Checker._text_input,
    Kind.SECTION: _Checker._section,
    Kind.TEXT_DISPLAY: _Checker._text_display,
    Kind.THUMBNAIL: _Checker._thumbnail,
    Kind.MEDIA_GALLERY: _Checker._gallery,
    Kind.FILE: _Checker._file,
    Kind.CONTAINER: _Checker._container,
    Kind.LABEL: _Checker._label,
}
"""What each kind must satisfy beyond its place in the tree and its custom id."""
