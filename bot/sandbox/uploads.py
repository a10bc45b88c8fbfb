"""Files on their way in (multipart bodies) and out again (the content network under /cdn)."""

from __future__ import annotations

import io
import json
import mimetypes
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web
from PIL import Image, ImageDraw, UnidentifiedImageError

from bot.sandbox.errors import DiscordError, Refusal
from bot.sandbox.model import Attachment, Json
from bot.sandbox.world import World

FILES_PER_MESSAGE = 10
_RETIRED_KEPT = 64
_FILE_FIELD = re.compile(r"files?\[(\d+)\]|file(\d*)")


@dataclass(frozen=True, slots=True)
class Upload:
    """One `files[n]` part; `key` is the n that `attachments[].id` refers to."""

    key: str
    filename: str
    data: bytes


async def read_json(request: web.Request) -> Any:
    """Raises DiscordError 50109."""
    return _parse(await request.text())


async def read_body(request: web.Request, file_limit: int) -> tuple[Json, list[Upload]]:
    """The JSON of a request and its files. Raises DiscordError 40005 for a file over `file_limit` bytes."""
    if request.content_type != "multipart/form-data":
        text = await request.text()
        return _object(_parse(text)) if text else {}, []

    payload: Json = {}
    uploads: list[Upload] = []
    too_large = False
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        if part.name == "payload_json":
            payload = _object(_parse(await part.text()))
        elif match := _FILE_FIELD.fullmatch(part.name or ""):
            # An oversize body is read to its end: the client would otherwise see a broken pipe, not the refusal.
            data = await _read_part(part, file_limit)
            too_large = too_large or data is None or len(uploads) == FILES_PER_MESSAGE
            if data is not None and not too_large:
                uploads.append(Upload(match[1] or match[2] or "0", _safe_name(part.filename or "unknown"), data))
    if too_large:
        raise DiscordError(Refusal.ENTITY_TOO_LARGE)
    return payload, uploads


async def _read_part(part: BodyPartReader, limit: int) -> bytes | None:
    """The bytes of one part; None, read to its end all the same, when there are more than `limit`."""
    kept = io.BytesIO()
    size = 0
    while chunk := await part.read_chunk(64 * 1024):
        size += len(chunk)
        if size <= limit:
            kept.write(chunk)
    return kept.getvalue() if size <= limit else None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise DiscordError(Refusal.INVALID_JSON) from None


def _object(body: Any) -> Json:
    if not isinstance(body, dict):
        raise DiscordError(Refusal.INVALID_JSON)
    return body


def _safe_name(filename: str) -> str:
    """Discord keeps letters, digits, dots, dashes and underscores of a file's name."""
    return re.sub(r"[^\w.\-]", "_", filename)[-260:] or "unknown"


class ContentNetwork:
    """Attachments by id, served at /cdn. What a message no longer shows stays for a while, then goes."""

    def __init__(self, world: World) -> None:
        self.base_url = ""
        self._world = world
        self._live: dict[int, Attachment] = {}
        self._retired: OrderedDict[int, Attachment] = OrderedDict()

    def store(self, upload: Upload, channel_id: int, description: str | None = None) -> Attachment:
        attachment_id = self._world.snowflake()
        width, height = _image_size(upload.data)
        attachment = Attachment(
            id=attachment_id,
            channel_id=channel_id,
            filename=upload.filename,
            data=upload.data,
            # Clients send application/octet-stream whatever the file is, so the name decides.
            content_type=mimetypes.guess_type(upload.filename)[0] or "application/octet-stream",
            width=width,
            height=height,
            url=f"{self.base_url}/cdn/attachments/{channel_id}/{attachment_id}/{upload.filename}",
            description=description,
        )
        self._live[attachment_id] = attachment
        return attachment

    def retire(self, attachment: Attachment) -> None:
        """A page may still be loading it, so it is kept until enough others have followed."""
        self._live.pop(attachment.id, None)
        self._retired[attachment.id] = attachment
        while len(self._retired) > _RETIRED_KEPT:
            self._retired.popitem(last=False)

    def find(self, attachment_id: int) -> Attachment | None:
        return self._live.get(attachment_id) or self._retired.get(attachment_id)

    def by_url(self, url: str) -> Attachment | None:
        """The attachment behind an address that this server gave out."""
        match = re.search(r"/cdn/attachments/\d+/(\d+)/", url)
        return self.find(int(match[1])) if match and url.startswith(self.base_url) else None

    async def serve_attachment(self, request: web.Request) -> web.Response:
        attachment = self.find(int(request.match_info["attachment_id"]))
        if attachment is None or attachment.channel_id != int(request.match_info["channel_id"]):
            raise web.HTTPNotFound
        # Ids never change their bytes, so a page may keep them.
        headers = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=attachment.data, content_type=attachment.content_type, headers=headers)

    async def serve_default_avatar(self, request: web.Request) -> web.Response:
        colours = ("#5865f2", "#747f8d", "#3ba55c", "#faa61a", "#ed4245", "#eb459e")
        image = Image.new("RGB", (128, 128), colours[int(request.match_info["index"]) % len(colours)])
        ImageDraw.Draw(image).ellipse((40, 28, 88, 76), fill="white")
        ImageDraw.Draw(image).ellipse((24, 84, 104, 164), fill="white")
        png = io.BytesIO()
        image.save(png, "PNG")
        return web.Response(body=png.getvalue(), content_type="image/png")


def _image_size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None, None
