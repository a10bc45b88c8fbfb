"""Finding, describing and loading checkpoints."""

from t2i.checkpoints.info import describe
from t2i.checkpoints.registry import EMBEDDED, available, load, resolve

__all__ = ["EMBEDDED", "available", "describe", "load", "resolve"]
