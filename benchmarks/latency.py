"""What people felt, from the records of a replay."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import numpy as np

from benchmarks.replay import Log, Record

PERCENTILES = (50, 95, 99)
DIGITS = 4


def summarise(log: Log) -> dict[str, Any]:
    """Seconds from the request to its last picture and to the first sight of it, as a whole, by steps and by user."""
    records = log.records
    return {
        "jobs": len(records),
        "images_per_second": round(log.images_per_second, DIGITS),
        "latency": _statistics(record.latency for record in records),
        "by_steps": _grouped(records, lambda record: record.job.steps),
        "by_user": _grouped(records, lambda record: record.job.user),
        "first_preview": _statistics(record.first_look for record in records),
        "first_image": _statistics(record.first_image for record in records),
    }


def join_delays(log: Log) -> dict[str, float]:
    """Steps of the device until a newcomer was in one: 1 when it was in the next."""
    return _statistics(float(record.joined) for record in log.records if record.joined is not None)


def mean(log: Log) -> float:
    return float(np.mean([record.latency for record in log.records]))


def percentile(log: Log, share: float, wanted: Callable[[Record], bool] = lambda _: True) -> float:
    return float(np.percentile([record.latency for record in log.records if wanted(record)], share))


def _grouped(records: list[Record], key: Callable[[Record], Hashable]) -> dict[str, dict[str, float]]:
    groups: dict[Hashable, list[float]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record.latency)
    return {str(name): _statistics(groups[name]) for name in sorted(groups)}  # type: ignore[type-var]


def _statistics(values: Iterable[float]) -> dict[str, float]:
    taken = np.array(list(values))
    shares = {f"p{share}": round(float(np.percentile(taken, share)), DIGITS) for share in PERCENTILES}
    return {"mean": round(float(taken.mean()), DIGITS), **shares}
