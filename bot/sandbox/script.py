"""Plays a person from a list of steps, through the same requests as the page, and reports what the bot answered.

    /imagine prompt: a red apple    a slash command
    press V2                        the button of that label on the newest message that has it
    select Balanced, Fast           options of the newest select menu that offers them
    fill Reason: too dark           the form that is open; fields by label or custom id
    menu Report picture             the bot's command of that name in the menu of the newest message with a picture
    see waits for a moderator       nothing but wait until the channel has a message with these words, or such a button
    say hello                       a plain message
    as bob                          go on as somebody else
    in #gallery                     go on in another channel, or in direct messages with the bot by its name
    begin press V2                  a command or a press, without waiting for what it leads to
    wait                            for what was begun first and was not waited for yet
    kill                            end the bot as a crash would, by SIGKILL; it is started again

After a command, a press, a selection or a form the script waits until the message it led to has settled: no longer
"thinking", and without a button that cancels.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bot.errors import UserFacingError
from bot.sandbox import reading
from bot.sandbox.components import SELECTS, Kind
from bot.sandbox.errors import SandboxRefusal
from bot.sandbox.model import Json, MessageFlag
from bot.sandbox.typed import named_values, parse_command
from bot.sandbox.view import View, now

FIRST_USER = "bob"
FIRST_CHANNEL = "imagine"


class StepFailed(UserFacingError):
    """A step could not be done, or the bot did not answer it."""

    def __init__(self, number: int, step: str, sentence: str) -> None:
        super().__init__(f"Step {number} ({step}) failed: {sentence}")


async def run_script(
    url: str,
    steps: Sequence[str],
    *,
    out: Path | None = None,
    step_seconds: float = 300.0,
    kill: Callable[[], None] | None = None,
) -> AsyncIterator[Json]:
    """Do the steps on the sandbox at `url`, one after the other; yields one object for each settled message.

    Pictures are saved under `out`; `kill` ends the bot. Raises StepFailed at the first step that fails or takes longer
    than `step_seconds`.
    """
    async with aiohttp.ClientSession(url) as http:
        player = _Player(http, out, kill)
        try:
            for number, step in enumerate(steps, start=1):
                try:
                    async with asyncio.timeout(step_seconds):
                        report = await player.play(number, step)
                except SandboxRefusal as refusal:
                    raise StepFailed(number, step, str(refusal)) from None
                except TimeoutError:
                    raise StepFailed(number, step, f"nothing settled within {step_seconds:g} s.") from None
                except aiohttp.ClientError as error:
                    raise StepFailed(number, step, f"the sandbox does not answer: {error}.") from None
                if report is not None:
                    yield {"step": step, **report}
        finally:
            await player.leave()


@dataclass(frozen=True, slots=True)
class _Begun:
    """What somebody did, before it is known what it leads to; `source` is the message acted on."""

    view: View
    source: Json | None
    interaction_id: str
    at: float


class _Player:
    """One person at a time; remembers what happened since they came."""

    def __init__(self, http: aiohttp.ClientSession, out: Path | None, kill: Callable[[], None] | None) -> None:
        self._http = http
        self._out = out
        self._kill = kill
        self._view: View | None = None
        self._channel = FIRST_CHANNEL
        self._views: dict[str, View] = {}
        """Of everybody who acted so far: they stay at the page."""
        self._begun: deque[_Begun] = deque()

    async def play(self, number: int, step: str) -> Json | None:
        """Do one step; the report of what it led to, if it leads to anything. Raises SandboxRefusal."""
        verb, _, rest = step.strip().partition(" ")
        rest = rest.strip()
        view = await self._become(rest) if verb == "as" else self._view or await self._become(FIRST_USER)
        match verb:
            case "as":
                pass
            case "in":
                self._channel = rest.removeprefix("#")
                view.may_enter(self._channel)
            case "say":
                await self._act(view, "message", channel_id=view.channel_id(self._channel), content=rest)
            case "begin":
                self._begun.append(await self._begin(view, rest))
            case "kill":
                await self._end_bot(view)
            case "see":
                began = now()
                message = await view.says(rest, self._channel)
                return await self._reported(number, view, {"message": message}, began)
            case _:
                begun = await self._next(view, step.strip())
                outcome = await begun.view.outcome(begun.interaction_id, begun.source, begun.at)
                return await self._reported(number, begun.view, outcome, begun.at)
        return None

    async def _end_bot(self, view: View) -> None:
        if self._kill is None:
            raise SandboxRefusal("this bot is not for a script to end.")
        self._kill()
        await view.bot_gone()

    async def _next(self, view: View, step: str) -> _Begun:
        """What `step` begins, or what was begun first and is waited for now."""
        if step != "wait":
            return await self._begin(view, step)
        if not self._begun:
            raise SandboxRefusal("nothing was begun.")
        return self._begun.popleft()

    async def _begin(self, view: View, step: str) -> _Begun:
        verb, _, rest = step.partition(" ")
        await view.commands_known()
        began = now()
        source, interaction_id = await self._interact(view, step, verb, rest.strip())
        return _Begun(view, source, interaction_id, began)

    async def _interact(self, view: View, step: str, verb: str, rest: str) -> tuple[Json | None, str]:
        """The message acted on, if one was, and the id of the interaction."""
        if step.startswith("/"):
            return None, await self._command(view, step)
        match verb:
            case "press":
                return await self._press(view, rest)
            case "select":
                return await self._select(view, rest)
            case "fill":
                return view.modal_of, await self._fill(view, rest)
            case "menu":
                return None, await self._menu(view, rest)
        raise SandboxRefusal("a step is a /command, press, select, fill, menu, see, say, as, in, begin, wait or kill.")

    async def leave(self) -> None:
        while self._views:
            _, view = self._views.popitem()
            await view.close()

    async def _become(self, username: str) -> View:
        if username not in self._views:
            self._views[username] = await View.open(self._http, username)
        self._view = self._views[username]
        return self._view

    async def _act(self, view: View, action: str, **body: Any) -> str:
        """Raises SandboxRefusal with the sandbox's own sentence."""
        async with self._http.post(f"/sandbox/{action}", json={"user": view.user_id, **body}) as response:
            answer: Json = await response.json()
            if response.status != 200:
                raise SandboxRefusal(answer["error"])
            return str(answer.get("interaction_id", ""))

    async def _command(self, view: View, text: str) -> str:
        typed = parse_command(text, view.commands)
        return await self._act(
            view,
            "command",
            channel_id=view.channel_id(self._channel),
            command=typed.name,
            subcommand=typed.subcommand,
            options=typed.options,
        )

    async def _press(self, view: View, wanted: str) -> tuple[Json, str]:
        def fits(component: Json) -> bool:
            return component["type"] == Kind.BUTTON and reading.label(component).casefold() == wanted.casefold()

        message, button = view.newest(fits, f"there is no button {wanted}.", view.channel_id(self._channel))
        action = self._act(view, "component", message_id=message["id"], custom_id=button.get("custom_id"))
        return message, await action

    async def _select(self, view: View, wanted: str) -> tuple[Json, str]:
        labels = [choice.strip() for choice in wanted.split(",")]

        def fits(component: Json) -> bool:
            offered = {option["label"] for option in component.get("options", [])}
            return component["type"] in SELECTS and offered.issuperset(labels)

        message, menu = view.newest(fits, f"no menu offers {wanted}.", view.channel_id(self._channel))
        values = [option["value"] for option in menu["options"] if option["label"] in labels]
        action = self._act(view, "component", message_id=message["id"], custom_id=menu["custom_id"], values=values)
        return message, await action

    async def _menu(self, view: View, command: str) -> str:
        def shows_picture(component: Json) -> bool:
            return bool(component["type"] == Kind.MEDIA_GALLERY)

        channel_id = view.channel_id(self._channel)
        message, _ = view.newest(shows_picture, "there is no message with a picture.", channel_id)
        return await self._act(view, "menu", message_id=message["id"], command=command)

    async def _fill(self, view: View, typed: str) -> str:
        modal = view.modal
        if modal is None:
            raise SandboxRefusal("no form is open.")
        custom_ids = reading.fields(modal)
        free, values = named_values(typed, list(custom_ids))
        if free:
            raise SandboxRefusal(f"the form has no field for “{free}”, only {', '.join(custom_ids)}.")
        filled = {custom_ids[name]: value for name, value in values.items()}
        opener, custom_id = modal["interaction_id"], modal["custom_id"]
        interaction_id = await self._act(view, "modal", interaction_id=opener, custom_id=custom_id, fields=filled)
        view.modal = None
        return interaction_id

    async def _reported(self, number: int, view: View, outcome: Json, began: float) -> Json:
        report = {"user": view.username}
        if "message" not in outcome:
            return report | outcome | {"seconds": round(now() - began, 3)}
        message = outcome["message"]
        preview = view.first_preview.get(message["id"])
        return report | {
            "message_id": message["id"],
            "content": reading.text(message),
            "components": reading.controls(message),
            "attachments": [await self._saved(number, media) for media in reading.media(message)],
            "ephemeral": bool(message["flags"] & MessageFlag.EPHEMERAL),
            "edits": view.edits.get(message["id"], 0),
            "seconds_to_preview": round(preview - began, 3) if preview is not None else None,
            "seconds": round(now() - began, 3),
        }

    async def _saved(self, number: int, media: Json) -> Json:
        name = media["url"].rpartition("/")[2]
        described = {
            "filename": name,
            "content_type": media.get("content_type"),
            "width": media.get("width"),
            "height": media.get("height"),
            "alt": media.get("alt"),
        }
        if self._out is None:
            return described
        async with self._http.get(media["url"]) as response:
            data = await response.read()
        path = self._out / f"{number:02d}-{name}"
        await asyncio.to_thread(_write, path, data)
        return described | {"path": str(path)}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
