"""Settings from the environment (prefix `IMAGINE_`) or an `.env` file. Secrets come from here and are never logged."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    device: str = Field("auto", description="auto, cpu, cuda or mps.")
    progress_interval: float = Field(2.0, ge=0.2, description="Seconds between two progress edits of one message.")
    running_per_user: int = Field(2, ge=1, description="Jobs of one user that may be drawn at once.")
    queued_per_user: int = Field(50, ge=1, description="Jobs of one user that may wait.")
    blocked_words: tuple[str, ...] = Field((), description="Further words the prompt filter refuses (JSON list).")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
