from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
import discord
import pytest
from PIL import Image

from bot.sandbox.server import Sandbox
from tests.bot.sandbox.conftest import Bot, RestClient, connected
from tests.bot.sandbox.person import Person

V2 = 1 << 15


def picture(colour: str, size: int = 64, kind: str = "PNG") -> io.BytesIO:
    data = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(data, kind)
    data.seek(0)
    return data


class Gallery(discord.ui.LayoutView):
    def __init__(self, *names: str, text: str = "done") -> None:
        super().__init__()
        gallery: discord.ui.MediaGallery[Gallery] = discord.ui.MediaGallery()
        for name in names:
            gallery.add_item(media=f"attachment://{name}", description=f"a picture named {name}")
        row: discord.ui.ActionRow[Gallery] = discord.ui.ActionRow(
            *(discord.ui.Button(label=f"U{i}", custom_id=f"u:{i}") for i in range(1, 3))
        )
        self.add_item(discord.ui.Container(discord.ui.TextDisplay(text), gallery, row, accent_colour=0x5865F2))


async def fetch(url: str) -> tuple[bytes, str]:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.read(), response.headers["Content-Type"]


async def test_a_gallery_shows_its_uploads_from_the_content_network(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        files = [discord.File(picture(colour), f"{colour}.png") for colour in ("red", "blue")]
        sent = await channel.send(view=Gallery("red.png", "blue.png"), files=files)
        message = await bob.sees("message_create")
        assert message["flags"] & V2
        # Discord lists files that a component shows there, and not as attachments.
        assert message["attachments"] == []
        (container,) = message["components"]
        text, gallery, row = container["components"]
        assert text["content"] == "done"
        assert [item["description"] for item in gallery["items"]] == [
            "a picture named red.png",
            "a picture named blue.png",
        ]
        media = gallery["items"][0]["media"]
        assert (media["width"], media["height"], media["content_type"]) == (64, 64, "image/png")
        body, content_type = await fetch(media["url"])
        assert content_type == "image/png"
        assert Image.open(io.BytesIO(body)).getpixel((0, 0)) == (255, 0, 0)
        assert [button["label"] for button in row["components"]] == ["U1", "U2"]
        assert len({component["id"] for component in (container, text, gallery, row)}) == 4

        fetched = await channel.fetch_message(sent.id)
        assert isinstance(fetched.components[0], discord.Container)


async def test_an_edit_with_a_new_file_of_the_old_name_replaces_it(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        sent = await channel.send(view=Gallery("p.webp"), file=discord.File(picture("red", kind="WEBP"), "p.webp"))
        first = (await bob.sees("message_create"))["components"][0]["components"][1]["items"][0]["media"]
        new = discord.File(picture("blue", kind="WEBP"), "p.webp")
        await sent.edit(view=Gallery("p.webp", text="50 %"), attachments=[new])
        second = (await bob.sees("message_update"))["components"][0]["components"][1]["items"][0]["media"]
        assert first["id"] != second["id"]
        pixel = Image.open(io.BytesIO((await fetch(second["url"]))[0])).convert("RGB").getpixel((0, 0))
        assert isinstance(pixel, tuple)
        assert pixel[2] > 200
        assert len(sandbox.world.message(channel.id, sent.id).attachments) == 1
        # A page may still be loading the picture that was replaced.
        await fetch(first["url"])


async def test_an_edit_of_the_text_keeps_the_pictures(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        sent = await channel.send(view=Gallery("red.png"), file=discord.File(picture("red"), "red.png"))
        await sent.edit(view=Gallery("red.png", text="other words"))
        message = await bob.sees("message_update")
        text, gallery, _ = message["components"][0]["components"]
        assert text["content"] == "other words"
        await fetch(gallery["items"][0]["media"]["url"])


async def test_an_edit_without_pictures_lets_go_of_them(sandbox: Sandbox) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        sent = await channel.send(view=Gallery("red.png"), file=discord.File(picture("red"), "red.png"))
        plain: discord.ui.LayoutView = discord.ui.LayoutView()
        plain.add_item(discord.ui.TextDisplay("cancelled"))
        await sent.edit(view=plain, attachments=[])
        assert sandbox.world.message(channel.id, sent.id).attachments == []


async def test_a_plain_attachment_is_listed_with_size_and_alt_text(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        file = discord.File(picture("red", 20), "my picture.png", description="all red")
        await bot.guilds[0].text_channels[0].send("look", file=file)
        (attachment,) = (await bob.sees("message_create"))["attachments"]
    assert attachment["filename"] == "my_picture.png"
    assert (attachment["width"], attachment["height"]) == (20, 20)
    assert attachment["description"] == "all red"


async def test_a_file_over_the_limit_is_refused_and_the_next_one_is_not(sandbox: Sandbox) -> None:
    bot = Bot()
    sandbox.world.guild.upload_limit = 100_000
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        with pytest.raises(discord.HTTPException) as refused:
            await channel.send(file=discord.File(io.BytesIO(bytes(2_000_000)), "big.bin"))
        assert (refused.value.status, refused.value.code) == (413, 40005)
        await channel.send(file=discord.File(io.BytesIO(bytes(100_000)), "fits.bin"))


async def test_a_deleted_message_is_unknown_from_then_on(sandbox: Sandbox, bob: Person) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[0]
        sent = await channel.send("soon gone")
        await sent.delete()
        assert (await bob.sees("message_delete"))["id"] == str(sent.id)
        for late in (sent.edit(content="too late"), sent.delete(), channel.fetch_message(sent.id)):
            with pytest.raises(discord.NotFound) as refused:
                await late
            assert refused.value.code == 10008


async def test_history_comes_newest_first_in_pages(sandbox: Sandbox) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[1]
        for number in range(4):
            await channel.send(str(number))
        assert [message.content async for message in channel.history(limit=3)] == ["3", "2", "1"]
        first = await anext(channel.history(limit=1, oldest_first=True))
        assert first.content == "0"
        assert [message.content async for message in channel.history(after=first, limit=2)] == ["1", "2"]
        assert [message.content async for message in channel.history(before=first)] == []


async def test_a_channel_lets_go_of_its_oldest_messages() -> None:
    bot = Bot()
    async with Sandbox(rate_limits=False, kept_messages=2) as sandbox, connected(bot, sandbox):
        channel = bot.guilds[0].text_channels[1]
        for number in range(4):
            await channel.send(str(number))
        assert [message.content async for message in channel.history()] == ["3", "2"]


async def test_a_nonce_makes_a_repeated_create_harmless(sandbox: Sandbox, rest: RestClient, bob: Person) -> None:
    path = f"/channels/{bob.channel_id}/messages"
    body = {"content": "once", "nonce": "job-7", "enforce_nonce": True}
    _, first = await rest("POST", path, body)
    _, second = await rest("POST", path, body)
    assert first["id"] == second["id"]


async def test_nobody_is_pinged_against_allowed_mentions(sandbox: Sandbox, rest: RestClient, bob: Person) -> None:
    path = f"/channels/{bob.channel_id}/messages"
    text = f"@everyone <@{bob.id}>"
    _, loud = await rest("POST", path, {"content": text})
    _, quiet = await rest("POST", path, {"content": text, "allowed_mentions": {"parse": []}})
    assert loud["mention_everyone"]
    assert [user["id"] for user in loud["mentions"]] == [bob.id]
    assert (quiet["mention_everyone"], quiet["mentions"]) == (False, [])


async def test_a_direct_message_reaches_the_page_of_its_person_alone(
    sandbox: Sandbox, bob: Person, alice: Person
) -> None:
    bot = Bot()
    async with connected(bot, sandbox):
        user = await bot.fetch_user(int(bob.id))
        await user.send("psst")
        assert (await bob.sees("message_create"))["content"] == "psst"
        assert any(channel["type"] == 1 for channel in (await bob.state())["channels"])
        assert not any(channel["type"] == 1 for channel in (await alice.state())["channels"])


# --- what Discord refuses -------------------------------------------------------------------------------------------


def text(content: str = "x") -> dict[str, Any]:
    return {"type": 10, "content": content}


def button(**fields: Any) -> dict[str, Any]:
    return {"type": 2, "style": 1, "label": "Go", "custom_id": "go", **fields}


def row(*components: dict[str, Any]) -> dict[str, Any]:
    return {"type": 1, "components": list(components)}


def gallery(count: int, url: str = "https://example.org/a.png") -> dict[str, Any]:
    return {"type": 12, "items": [{"media": {"url": url}} for _ in range(count)]}


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"content": "x" * 2001}, "content", "BASE_TYPE_MAX_LENGTH"),
        ({"embeds": [{"title": "x"}] * 11}, "embeds", "BASE_TYPE_MAX_LENGTH"),
        ({"components": [text()]}, "components.0.type", "UNION_TYPE_CHOICES"),
        ({"components": [row(button())] * 2, "content": "x"}, "components.1.components.0.custom_id", "DUPLICATED"),
        ({"components": [row(*(button(custom_id=str(i)) for i in range(6)))]}, "components.0.components", "LENGTH"),
        ({"components": [row(button(custom_id="x" * 101))]}, "components.0.components.0.custom_id", "LENGTH"),
        ({"components": [row(button(label="x" * 81))]}, "components.0.components.0.label", "LENGTH"),
        ({"components": [row(button(style=5))]}, "components.0.components.0.url", "REQUIRED"),
        ({"flags": V2, "content": "x", "components": [text()]}, "content", "CANNOT_USE_LEGACY_FIELDS"),
        ({"flags": V2, "components": [text("x" * 4001)]}, "components.0.content", "LENGTH"),
        ({"flags": V2, "components": [text("x" * 2001)] * 2}, "components", "TEXT_SIZE_EXCEEDED"),
        ({"flags": V2, "components": [text()] * 41}, "components", "LENGTH"),
        ({"flags": V2, "components": [{"type": 17, "components": [text()] * 40}]}, "components", "LENGTH"),
        ({"flags": V2, "components": [gallery(11)]}, "components.0.items", "LENGTH"),
        ({"flags": V2, "components": [gallery(0)]}, "components.0.items", "LENGTH"),
        (
            {"flags": V2, "components": [gallery(1, "attachment://gone.png")]},
            "components.0.items.0.media.url",
            "REFERENCED_ATTACHMENT_NOT_FOUND",
        ),
        ({"flags": V2, "components": [gallery(1, "file:///etc/passwd")]}, "components.0.items.0.media.url", "SCHEME"),
        ({"flags": V2, "components": [button()]}, "components.0.type", "UNION_TYPE_CHOICES"),
    ],
)
async def test_a_message_that_breaks_a_rule_is_refused_by_field(
    rest: RestClient, bob: Person, body: dict[str, Any], field: str, code: str
) -> None:
    status, error = await rest("POST", f"/channels/{bob.channel_id}/messages", body)
    assert (status, error["code"]) == (400, 50035)
    node = error["errors"]
    for key in field.split("."):
        node = node[key]
    assert code in node["_errors"][0]["code"]


@pytest.mark.parametrize(
    "components",
    [
        [text("x" * 4000)],
        [text()] * 40,
        [gallery(10)],
        [{"type": 17, "components": [text(), row(button()), gallery(1), {"type": 14}]}],
        [{"type": 9, "components": [text()], "accessory": button()}],
    ],
)
async def test_a_message_at_the_limit_is_taken(rest: RestClient, bob: Person, components: list[dict[str, Any]]) -> None:
    status, _ = await rest("POST", f"/channels/{bob.channel_id}/messages", {"flags": V2, "components": components})
    assert status == 200


async def test_components_v2_cannot_be_taken_back(rest: RestClient, bob: Person) -> None:
    path = f"/channels/{bob.channel_id}/messages"
    _, sent = await rest("POST", path, {"flags": V2, "components": [text()]})
    status, edited = await rest("PATCH", f"{path}/{sent['id']}", {"flags": 0, "components": [text("still")]})
    assert (status, edited["flags"] & V2) == (200, V2)
    status, error = await rest("PATCH", f"{path}/{sent['id']}", {"content": "plain again"})
    assert (status, list(error["errors"])) == (400, ["content"])


async def test_a_refused_edit_changes_nothing(rest: RestClient, bob: Person) -> None:
    path = f"/channels/{bob.channel_id}/messages"
    _, sent = await rest("POST", path, {"content": "before"})
    status, _ = await rest("PATCH", f"{path}/{sent['id']}", {"flags": V2, "content": "both", "components": [text()]})
    assert status == 400
    _, kept = await rest("GET", f"{path}/{sent['id']}")
    assert (kept["content"], kept["flags"], kept["edited_timestamp"]) == ("before", 0, None)


async def test_an_empty_message_is_refused(rest: RestClient, bob: Person) -> None:
    status, error = await rest("POST", f"/channels/{bob.channel_id}/messages", {"content": ""})
    assert (status, error["code"]) == (400, 50006)


async def test_the_bot_cannot_edit_what_a_person_wrote(rest: RestClient, bob: Person) -> None:
    message_id = (await bob.does("message", content="mine"))["message_id"]
    status, error = await rest("PATCH", f"/channels/{bob.channel_id}/messages/{message_id}", {"content": "yours"})
    assert (status, error["code"]) == (403, 50005)


async def test_broken_json_is_refused(rest: RestClient, bob: Person) -> None:
    broken = aiohttp.FormData({"payload_json": "{"})
    for data in ("{", broken):
        status, error = await rest("POST", f"/channels/{bob.channel_id}/messages", data=data)
        assert (status, error["code"]) == (400, 50109), json.dumps(error)


async def test_a_file_sent_along_with_an_edit_takes_the_place_of_its_namesake(
    sandbox: Sandbox, rest: RestClient, bob: Person
) -> None:
    def form(colour: str) -> aiohttp.FormData:
        body = {"flags": V2, "components": [gallery(1, "attachment://p.png")]}
        data = aiohttp.FormData({"payload_json": json.dumps(body)}, quote_fields=False)
        data.add_field("files[0]", picture(colour), filename="p.png", content_type="application/octet-stream")
        return data

    path = f"/channels/{bob.channel_id}/messages"
    _, sent = await rest("POST", path, data=form("red"))
    _, edited = await rest("PATCH", f"{path}/{sent['id']}", data=form("blue"))
    (item,) = edited["components"][0]["items"]
    assert Image.open(io.BytesIO((await fetch(item["media"]["url"]))[0])).getpixel((0, 0)) == (0, 0, 255)
    assert len(sandbox.world.message(int(bob.channel_id), int(sent["id"])).attachments) == 1
