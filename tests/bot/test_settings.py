"""Settings that people and roles depend on, as an operator writes them."""

from __future__ import annotations

import pytest

from bot.errors import SettingsError
from bot.settings import load


def test_weights_and_quotas_are_tables_by_role_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGINE_ROLE_WEIGHTS", '{"81384788765712384": 2, "2": 0.5}')
    monkeypatch.setenv("IMAGINE_QUOTA_PER_ROLE", '{"81384788765712384": 600}')
    monkeypatch.setenv("IMAGINE_QUOTA_PER_USER", "60")
    settings = load()
    assert settings.role_weights == {81384788765712384: 2.0, 2: 0.5}
    assert settings.quota_per_role == {81384788765712384: 600.0}
    assert (settings.quota_per_user, settings.quota_per_server) == (60.0, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ROLE_WEIGHTS", '{"1": 0}'), ("ROLE_WEIGHTS", '{"moderators": 2}'), ("QUOTA_PER_USER", "-1")],
)
def test_a_mistake_in_them_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"IMAGINE_{name}", value)
    with pytest.raises(SettingsError, match=f"IMAGINE_{name}: "):
        load()


def test_a_table_that_is_no_json_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGINE_ROLE_WEIGHTS", "moderators=2")
    with pytest.raises(SettingsError, match=r'tables as \{"1": 2\}'):
        load()
