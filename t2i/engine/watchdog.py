"""Telling a worker that hangs in the middle of a step from one that is slow."""

from __future__ import annotations

from t2i.api import EngineError, Heartbeat, Hello
from t2i.engine.protocol import HEARTBEAT_SECONDS

PATIENCE = 10
"""A step may take so many times longer than the longest before: it may have more rows, or larger ones."""
CPU_STALL, STALL = 600.0, 120.0
"""Seconds; one step of a large model takes minutes on a CPU."""


class Watchdog:
    """Counts the heartbeats in which a worker was busy and did no step.

    The worker's own heartbeats are the clock, so that a parent that was stopped for a while blames nobody.
    """

    def __init__(self, hello: Hello, stall: float | None) -> None:
        """`stall`: seconds that a step may take in any case; None for what suits the worker's device."""
        self._stall = stall or (CPU_STALL if hello.device == "cpu" else STALL)
        self._ticks = 0
        self._still = 0.0
        self._longest = 0.0

    def hear(self, heartbeat: Heartbeat) -> None:
        """Raises EngineError when the worker has been in one step for too long."""
        if heartbeat.busy and heartbeat.ticks == self._ticks:
            self._still += HEARTBEAT_SECONDS
            if self._still > max(self._stall, PATIENCE * self._longest):
                raise EngineError(f"The engine process has been in one step for {self._still:g} s.")
            return
        if heartbeat.ticks != self._ticks:
            self._longest = max(self._longest, self._still)
        self._ticks = heartbeat.ticks
        self._still = 0.0
