"""Rate limits as Discord announces them: a bucket per route and major parameter, its state in each answer's headers."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from aiohttp import web

from bot.sandbox.rest import Handler, json_response

_MAJOR = ("channel_id", "guild_id", "application_id", "interaction_id", "token")
_DEFAULT = (50, 1.0)
_SPECIAL: dict[tuple[str, str], tuple[int, float]] = {
    ("POST", "/channels/{channel_id}/messages"): (5, 5.0),
    ("PATCH", "/channels/{channel_id}/messages/{message_id}"): (5, 5.0),
    ("POST", "/webhooks/{application_id}/{token}"): (5, 2.0),
    ("PATCH", "/webhooks/{application_id}/{token}/messages/{reference}"): (5, 2.0),
}
"""Requests and seconds, where Discord is stricter than elsewhere."""
_UNLIMITED = "/interactions/{interaction_id}/{token}/callback"


@dataclass(slots=True)
class _Window:
    resets_at: float
    used: int = 0


class RateLimits:
    """Counts requests in fixed windows. `enforce=False` still announces the limits but refuses nothing."""

    def __init__(self, *, enforce: bool = True) -> None:
        self._enforce = enforce
        self._windows: dict[str, _Window] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical.removeprefix("/api/v10") if resource is not None else _UNLIMITED
        if path == _UNLIMITED:
            return await handler(request)
        route = (request.method, path)
        limit, seconds = _SPECIAL.get(route, _DEFAULT)
        bucket = hashlib.md5(" ".join(route).encode(), usedforsecurity=False).hexdigest()
        major = "/".join(request.match_info.get(name, "") for name in _MAJOR)

        now = time.time()
        window = self._window(f"{bucket}:{major}", now, seconds)
        window.used += 1
        remaining = max(0, limit - window.used) if self._enforce else limit - 1
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": f"{window.resets_at:.3f}",
            "X-RateLimit-Reset-After": f"{window.resets_at - now:.3f}",
            "X-RateLimit-Bucket": bucket,
        }
        if self._enforce and window.used > limit:
            return too_many_requests(window.resets_at - now, headers)
        response = await handler(request)
        response.headers.update(headers)
        return response

    def _window(self, key: str, now: float, seconds: float) -> _Window:
        window = self._windows.get(key)
        if window is None or window.resets_at <= now:
            if len(self._windows) > 1000:
                self._windows = {name: kept for name, kept in self._windows.items() if kept.resets_at > now}
            window = self._windows[key] = _Window(now + seconds)
        return window


def too_many_requests(retry_after: float, headers: dict[str, str] | None = None) -> web.Response:
    """A 429; without `Via` discord.py takes it for a ban by Cloudflare."""
    scope = {"Via": "1.1 google", "Retry-After": str(max(1, round(retry_after))), "X-RateLimit-Scope": "user"}
    body = {"message": "You are being rate limited.", "retry_after": round(retry_after, 3), "global": False}
    return json_response(body, status=429, headers=(headers or {}) | scope)
