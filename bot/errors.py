"""Every failure a user can meet, as a named exception whose text is the one sentence the user reads."""

from __future__ import annotations


class UserFacingError(Exception):
    """Base class: `str(error)` goes to the user as it is, so it says what happened and what to do."""


class SettingsError(UserFacingError):
    """The operator's settings cannot work; the process ends with this sentence and exit code 2."""


class PromptRefused(UserFacingError):
    """The prompt holds something this bot does not draw."""


class RuleRefused(UserFacingError):
    """A server's rule for prompts that cannot work; nothing was changed."""


class RuleNotFound(UserFacingError):
    """The server has no such rule."""


class NotAllowed(UserFacingError):
    """The person lacks the permission for what they pressed or typed."""


class JobNotFound(UserFacingError):
    """The job behind a button is gone."""


class UnknownCheckpoint(UserFacingError):
    """No checkpoint has that name."""


class CheckpointNotAllowed(UserFacingError):
    """The server's managers do not let anybody draw with that checkpoint here."""


class CheckpointRefused(UserFacingError):
    """A checkpoint or a LoRA could not be added or removed; nothing was changed."""


class CheckpointInUse(UserFacingError):
    """A checkpoint cannot be removed while somebody draws with it."""


class SwitchFailed(UserFacingError):
    """The server draws with the same checkpoint as before."""


class NothingToUndo(UserFacingError):
    """There is no earlier checkpoint to go back to."""


class ChangeNotFound(UserFacingError):
    """What a button is about is not known any more."""


class NotATime(UserFacingError):
    """Somebody wrote when a checkpoint's time is over, and it could not be read."""


class ShuttingDown(UserFacingError):
    """The bot is stopping; jobs already queued keep their place."""


class QueueFull(UserFacingError):
    """The person has as many jobs waiting as one person may have."""


class QueueClosed(UserFacingError):
    """A moderator lets the queue run empty."""


class QuotaUsedUp(UserFacingError):
    """The job would take more GPU time than its user or its server has left for today."""


class AlreadyRunning(UserFacingError):
    """Another instance works on the same data folder; the process ends with this sentence and exit code 2."""


class BotLacksPermission(UserFacingError):
    """The bot itself lacks a permission in this channel."""


class PressedTwice(UserFacingError):
    """The same button was pressed a moment ago and its job is on its way."""


class PicturesGone(UserFacingError):
    """The pictures that a button is about, or that a job starts from, were deleted."""


class DiscordRefused(UserFacingError):
    """Discord does not let the bot in, and trying again would not help; the process ends with exit code 3."""


class DiscordUnreachable(UserFacingError):
    """Discord cannot be reached right now; the process ends with exit code 4 and may be started again."""


class DatabaseUnusable(UserFacingError):
    """The database does not answer, or not as this version needs; the process ends with exit code 5."""


class PicturesNotSaved(UserFacingError):
    """The pictures were drawn, but the disk did not take them."""


class NotJudged(UserFacingError):
    """Nothing could judge the pictures, and where they would go they may not be shown unjudged."""


class PictureHidden(UserFacingError):
    """A picture is held or was removed, so that nothing is made of it."""


class CaseNotFound(UserFacingError):
    """The case behind a button is gone."""


class Restricted(UserFacingError):
    """A moderator took the right to draw here from this person, for a while or for good."""


class CaseDecided(UserFacingError):
    """Somebody else has decided a case, or there is nothing left to decide; nothing was changed."""


class ReportRefused(UserFacingError):
    """A report that would change nothing."""


class AppealRefused(UserFacingError):
    """There is no decision that this person could still appeal."""


class SettingRefused(UserFacingError):
    """A server's managers set something that cannot hold; what was set before stays."""


class TooLarge(UserFacingError):
    """A file would be larger than Discord takes."""


class TermsNotAccepted(UserFacingError):
    """The server has terms that this person has to accept first; whoever reports it shows them with a button."""

    def __init__(self, guild_id: int, terms: str, version: int) -> None:
        super().__init__(f"This server asks you to accept its terms before you draw.\n\n{terms}")
        self.guild_id = guild_id
        self.version = version
