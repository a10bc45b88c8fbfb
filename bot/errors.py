"""Every failure a user can meet, as a named exception whose text is the one sentence the user reads."""

from __future__ import annotations


class UserFacingError(Exception):
    """Base class: `str(error)` goes to the user as it is, so it says what happened and what to do."""


class SettingsError(UserFacingError):
    """The operator's settings cannot work; the process ends with this sentence and exit code 2."""


class PromptRefused(UserFacingError):
    """The prompt holds something this bot does not draw."""


class NotAllowed(UserFacingError):
    """The person lacks the permission for what they pressed or typed."""


class JobNotFound(UserFacingError):
    """The job behind a button is gone."""


class UnknownCheckpoint(UserFacingError):
    """No checkpoint has that name."""


class ShuttingDown(UserFacingError):
    """The bot is stopping; jobs already queued keep their place."""
