"""What a file says of itself in plain words: that a model drew it, from which prompt, with which parameters.

In PNG as text and XMP, in WebP and JPEG as XMP. Anybody can write or remove such words; credentials prove them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from t2i.api import T2IError

MIME_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""Digital source type of the IPTC for what a model drew."""
TOOL = "Imagine Bot"
MOST_PIXELS = 64_000_000
"""Of a picture that somebody hands in; larger ones are not decoded."""

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
_PNG_XMP, _PNG_TEXT = "XML:com.adobe.xmp", "parameters"


class UnreadablePicture(T2IError):
    """What somebody handed in is no picture of a kind and size that is looked at."""


@dataclass(frozen=True, slots=True)
class Marks:
    prompt: str
    negative_prompt: str | None
    parameters: Mapping[str, str]
    """Such as Seed, Steps or Model, in the order in which they are to be read."""

    @property
    def text(self) -> str:
        """As image tools write it: the prompt, `Negative prompt: ...`, and a line of `Name: value` pairs."""
        lines = [self.prompt]
        if self.negative_prompt:
            lines.append(f"Negative prompt: {self.negative_prompt}")
        return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in self.parameters.items())])

    def saving(self, file_format: str) -> dict[str, Any]:
        """Arguments of `Image.save` in "png", "webp" or "jpeg" that put the marks into the file."""
        packet = self._xmp()
        if file_format != "png":
            return {"xmp": packet}
        chunks = PngInfo()
        chunks.add_itxt(_PNG_TEXT, self.text)
        chunks.add_itxt(_PNG_XMP, packet.decode())
        return {"pnginfo": chunks}

    def _xmp(self) -> bytes:
        spaces = " ".join(f'xmlns:{name}="{address}"' for name, address in _NAMESPACES.items())
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {spaces}><rdf:Description rdf:about="">'
            f"<xmp:CreatorTool>{TOOL}</xmp:CreatorTool>"
            f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
            f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(_printable(self.text))}</rdf:li>'
            "</rdf:Alt></dc:description>"
            '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
        ).encode()


def read_marks(data: bytes) -> str | None:
    """The text that this bot's marks in a PNG, WebP or JPEG hold; None when there are none.

    Raises UnreadablePicture when it is no such picture, or too large a one.
    """
    image = opened(data)
    try:
        packet = image.info.get("xmp") or image.info.get(_PNG_XMP) or b""
        root = ElementTree.fromstring(_element(packet))  # noqa: S314  # without a document type nothing expands
    except (ElementTree.ParseError, ValueError):
        return None
    if root.findtext(".//xmp:CreatorTool", namespaces=_NAMESPACES) != TOOL:
        return None
    return root.findtext(".//dc:description/rdf:Alt/rdf:li", namespaces=_NAMESPACES)


def opened(data: bytes) -> Image.Image:
    """The picture, wholly decoded. Raises UnreadablePicture for anything but a PNG, WebP or JPEG of a sane size."""
    try:
        image = Image.open(io.BytesIO(data), formats=[name.upper() for name in MIME_TYPES])
        if image.width * image.height > MOST_PIXELS:
            raise UnreadablePicture(f"The picture has more than {MOST_PIXELS // 1_000_000} million pixels.")
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UnreadablePicture("This is no PNG, WebP or JPEG that can be read.") from None
    return image


def _element(packet: bytes | str) -> str:
    text = packet.decode() if isinstance(packet, bytes) else packet
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("an XMP packet has no document type")
    return text[text.index("<x:xmpmeta") : text.index("</x:xmpmeta>") + len("</x:xmpmeta>")]


def _printable(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(char for char in text if char in "\n\t" or (ord(char) >= 32 and char.isprintable()) or char == " ")
