"""What the bot can do, on one page."""

from __future__ import annotations

from discord import ui

from t2i.api import MAX_IMAGES

DRAWING = f"""### Drawing
`/imagine prompt: a red apple` draws {MAX_IMAGES} pictures and shows them as they form.
Options: **negative** (what to leave out), **images** (1–{MAX_IMAGES}), **steps** (more is slower and finer), \
**guidance** (how literally to take the prompt), **seed** (the same seed draws the same pictures), **checkpoint** \
(which model draws)."""

BUTTONS = """### Under the pictures
**U1–U4** enlarge one picture · **V1–V4** draw variations of it · **Reroll** draws the prompt anew
**Info** shows every parameter · **Cancel** and **Delete** are for whoever asked, and for moderators"""

CHECKPOINTS = """### Checkpoints
`/checkpoint list` shows what can draw · `/checkpoint info` shows samples of it · `/lora list` shows LoRAs
Managers of the server: `/checkpoint use` tries one and switches to it, for good or **until** a time · `rollback` goes \
back · `add`, `reload`, `remove` · `allow` and `forbid` choose what members may draw with"""

QUEUE = """### The queue
`/queue mine` lists your jobs that wait · `/usage` shows the GPU time you used today
Moderators: `/queue all`, `pause`, `resume`, `drain` (take nothing new) and `clear`"""

SAFETY = """### Safety and your data
**Report** under a picture or in a message's Apps menu tells the moderators · `/verify` says where a picture comes from
`/privacy statement` says what is kept about you · `/privacy export` copies it · `/privacy erase` deletes it
Moderators: `/review list`, `/restrict`, `/unrestrict`, `/purge user`
Managers: `/moderation`, `/rules`, `/terms`, `/audit`"""


def render() -> ui.LayoutView:
    body: ui.Container[ui.LayoutView] = ui.Container(accent_colour=0x3B82F6)
    for section in (DRAWING, BUTTONS, QUEUE, SAFETY, CHECKPOINTS):
        body.add_item(ui.TextDisplay(section))
    view = ui.LayoutView()
    view.add_item(body)
    return view
