"""A text-to-image library: `t2i.load("embedded").generate(GenerationRequest(prompt="a red apple"))`.

torch is imported on the first use of `load`, `Pipeline` or `Result`, never by `import t2i` or `t2i.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from t2i.api import GenerationRequest

if TYPE_CHECKING:
    from t2i.pipeline import Pipeline, Result, load

__all__ = ["GenerationRequest", "Pipeline", "Result", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Pipeline", "Result", "load"):
        from t2i import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 't2i' has no attribute {name!r}")
