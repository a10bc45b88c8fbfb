"""One browser window at the sandbox's page, in the words of somebody who uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """On a person's machine a reason to skip; where changes are judged, a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must run the browser tests.")
    pytest.skip(f"{what} is missing.", allow_module_level=True)


try:
    from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect
except ImportError:
    missing("The Python package playwright")

__all__ = ["Browser", "Chat", "Locator", "async_playwright", "expect", "look", "missing"]

LOOK = """async image => {
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const deviations = [0, 1, 2].map(channel => {
        const shades = pixels.filter((_, index) => index % 4 === channel);
        const mean = shades.reduce((sum, shade) => sum + shade, 0) / shades.length;
        return Math.sqrt(shades.reduce((sum, shade) => sum + (shade - mean) ** 2, 0) / shades.length);
    });
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", pixels));
    return { width: canvas.width, height: canvas.height, deviations, digest: [...digest].join(" ") };
}"""
FLAT = 4.0
"""Standard deviation of a colour, of 255, below which a picture shows nothing."""


@dataclass(frozen=True)
class Look:
    """What the pixels of a picture are like, of the file itself and not of how it is shown."""

    width: int
    height: int
    deviations: list[float]
    """Standard deviations of red, green and blue, of 255."""
    digest: str

    @property
    def flat(self) -> bool:
        return min(self.deviations) < FLAT


class Chat:
    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.composer = page.get_by_role("textbox", name="Message #")
        self.suggestions = page.get_by_role("listbox", name="Suggestions")
        self.messages = page.locator(".message")
        self.errors: list[str] = []
        """What the page logged as an error, exceptions included."""
        self.strangers: list[str] = []
        """Addresses asked for that are not the sandbox's."""
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._saw(request.url))
        page.on("websocket", lambda socket: self._saw(socket.url.replace("ws", "http", 1)))

    def _heard(self, entry: ConsoleMessage) -> None:
        if entry.type == "error":
            self.errors.append(entry.text)

    def _saw(self, url: str) -> None:
        if not url.startswith(f"{self.url}/"):
            self.strangers.append(url)

    async def open(self, user_id: int) -> None:
        await self.page.goto(f"{self.url}/#user={user_id}")
        await expect(self.composer).to_be_editable()

    async def commands_arrived(self) -> None:
        await expect(self.page.locator(".offer").first).to_be_attached()

    async def send(self, text: str) -> None:
        """Type the line and press Enter, as one does who knows what to write."""
        await self.commands_arrived()
        await self.composer.fill(text)
        await self.composer.press("Enter")
        await expect(self.composer).to_have_value("")

    async def ask(self, text: str) -> Locator:
        """Send the line and wait for what comes back; the new message, which stays that one when newer ones come."""
        before = await self.messages.count()
        await self.send(text)
        await expect(self.messages).not_to_have_count(before)
        return await self._pinned(self.messages.last)

    async def message(self, text: str) -> Locator:
        """The newest message that has this text somewhere now."""
        return await self._pinned(self.messages.filter(has_text=text).last)

    async def _pinned(self, message: Locator) -> Locator:
        await expect(message).to_be_visible()
        return self.page.locator(f"[data-message-id='{await message.get_attribute('data-message-id')}']")

    async def act_as(self, name: str) -> None:
        await self.page.get_by_role("button", name="Acting as").click()
        await self.page.get_by_role("option", name=name).click()
        await expect(self.page.get_by_role("button", name=f"Acting as {name}")).to_be_visible()


async def look(images: Locator) -> list[Look]:
    return [Look(**await image.evaluate(LOOK)) for image in await images.all()]
