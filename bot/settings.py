"""Settings from the environment (prefix `IMAGINE_`) or an `.env` file. Secrets come from here and are never logged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSetting

from bot.errors import SettingsError
from t2i.api import Hardware


class Settings(BaseSettings):
    """Everything an operator can set, each with its default."""

    model_config = SettingsConfigDict(env_prefix="IMAGINE_", env_file=".env", extra="ignore")

    discord_token: SecretStr | None = Field(None, description="The bot's token from the Discord developer portal.")
    discord_token_file: Path | None = Field(None, description="A file that holds the token; read when no token is set.")
    discord_api_base: str | None = Field(
        None,
        description="Base address of a local Discord sandbox (loopback only), such as http://127.0.0.1:8080/api/v10.",
    )
    data_dir: Path = Field(Path("data"), description="Folder of the database and the pictures.")
    database_url: str | None = Field(None, description="SQLAlchemy URL; by default a SQLite file in the data folder.")
    checkpoint: str = Field("embedded", description="Checkpoint used where a server chose none.")
    checkpoints_dir: Path | None = Field(None, description="Folder with further checkpoints, one folder each.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1 or mps.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field("auto", description="Precision of the networks.")
    text_device: str | None = Field(None, description="Where text encoders compute, if not where the denoiser does.")
    vae_device: str | None = Field(None, description="Where autoencoders compute, if not where the denoiser does.")
    offload: bool = Field(
        False, description="Keep text encoders and autoencoders in main memory while they rest, for small cards."
    )
    progress_interval: float = Field(2.0, ge=0.2, description="Seconds between two progress edits of one message.")
    running_per_user: int = Field(2, ge=1, description="Jobs of one user that may be drawn at once.")
    queued_per_user: int = Field(50, ge=1, description="Jobs of one user that may wait.")
    role_weights: dict[int, Annotated[float, Field(gt=0)]] = Field(
        {}, description='Shares of the queue by role id (JSON, such as {"81384788765712384": 2}); 1 without a role.'
    )
    quota_per_user: float | None = Field(
        None, gt=0, description="GPU seconds a day for each person; unlimited if unset."
    )
    quota_per_role: dict[int, Annotated[float, Field(gt=0)]] = Field(
        {}, description="GPU seconds a day for each wearer of a role, instead of the above (JSON by role id)."
    )
    quota_per_server: float | None = Field(None, gt=0, description="GPU seconds a day for each server as a whole.")
    blocked_words: tuple[str, ...] = Field((), description="Further words the prompt filter refuses (JSON list).")
    classifier: str = Field(
        "open-nsfw",
        pattern=r"^(open-nsfw|nudenet|none|[\w.]+:\w+)$",
        description="What judges pictures: open-nsfw, nudenet (an extra, AGPL-3.0), module:name of your own, or none.",
    )
    accept_unjudged: Literal["I accept the risk"] | None = Field(
        None, description='Write "I accept the risk" to show pictures outside age-restricted channels unjudged.'
    )
    certificate_dir: Path | None = Field(
        None, description="Folder of the certificate that pictures are signed with; by default in the data folder."
    )
    retention_days: int | None = Field(
        None,
        ge=1,
        description="After how many days prompts and pictures are deleted where a server set nothing else, in direct "
        "messages too; they stay if unset.",
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @property
    def hardware(self) -> Hardware:
        return Hardware(**{name: getattr(self, name) for name in Hardware.__struct_fields__})

    @property
    def certificate_folder(self) -> Path:
        return self.certificate_dir or self.data_dir / "certificate"

    def token(self) -> str:
        """Raises SettingsError that says where a token comes from."""
        if self.discord_token is not None and (token := self.discord_token.get_secret_value().strip()):
            return token
        if self.discord_token_file is None:
            raise SettingsError(
                "There is no Discord token: set IMAGINE_DISCORD_TOKEN to the one from the Discord developer portal, "
                "or try the bot without any by `imagine-bot sandbox`."
            )
        try:
            return self.discord_token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"IMAGINE_DISCORD_TOKEN_FILE cannot be read: {error}.") from None


def load() -> Settings:
    """Settings of this process. Raises SettingsError with one sentence for every mistake."""
    try:
        return Settings()
    except ValidationError as invalid:
        mistakes = (f"IMAGINE_{str(e['loc'][0]).upper()}: {e['msg']}." for e in invalid.errors(include_input=False))
        raise SettingsError(" ".join(mistakes)) from None
    except UnreadableSetting as unreadable:
        raise SettingsError(
            f'{unreadable}. Lists are written as JSON, such as ["one", "two"], and tables as {{"1": 2}}.'
        ) from None
