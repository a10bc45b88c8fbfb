"""Finding, describing and loading checkpoints."""

from t2i.checkpoints.registry import EMBEDDED, available, describe, load, resolve

__all__ = ["EMBEDDED", "available", "describe", "load", "resolve"]
