"""A button's meaning survives as its custom_id, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.views.buttons import JobButton, Press, Verb

pattern = JobButton.__discord_ui_compiled_template__
presses = st.builds(Press, st.sampled_from(Verb), st.integers(0, 10**18 - 1), st.integers(0, 9))


@given(presses)
def test_a_press_survives_the_round_trip(press: Press) -> None:
    match = pattern.fullmatch(press.custom_id)

    assert match is not None
    assert Press(Verb(match["verb"]), int(match["job"]), int(match["index"])) == press
    assert len(press.custom_id) <= 100


@pytest.mark.parametrize(
    "custom_id", ["", "u:1", "u:1:1:1", "x:1:1", "u:-1:1", "u:1:12", "u::1", "U:1:1", "u:1:1 ", "u:" + "1" * 19 + ":1"]
)
def test_a_foreign_custom_id_is_no_button(custom_id: str) -> None:
    assert pattern.fullmatch(custom_id) is None


def test_labels_read_as_people_say_them() -> None:
    presses = [Press(Verb.UPSCALE, 1, 3), Press(Verb.VARY, 1, 2), Press(Verb.REROLL, 1), Press(Verb.CANCEL, 1)]

    assert [press.label for press in presses] == ["U3", "V2", "Reroll", "Cancel"]
