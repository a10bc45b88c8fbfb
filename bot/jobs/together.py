"""What is asked for while the same work is under way is done together: many presses, one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DataError, IntegrityError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

MOST = 100
"""Of what was asked, done at once."""
ANSWERED = 20
"""Of those who get their answers together: all go on in the same turn of the event loop, which holds up the rest."""


class Together(Generic[Asked, Answer]):
    """Calls `work` with everything that was asked while it was under way before; it never overlaps itself.

    `work` answers each in order, by a result or by the exception that its asker gets; whoever went before it began is
    left out. What it raises itself, all get; but for one row that the database refuses, which harms nobody else.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer | Exception]]]) -> None:
        self._work = work
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._working: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work_off(), name="what was asked together")
        return await answer

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                asked_for = [(asked, future) for asked, future in self._waiting if not future.done()]
                batch, self._waiting = asked_for[:MOST], asked_for[MOST:]
                answers = await self._answers([asked for asked, _ in batch])
                for number, ((_, future), answer) in enumerate(zip(batch, answers, strict=True), 1):
                    if number % ANSWERED == 0:
                        await asyncio.sleep(0)
                    if future.done():  # whoever asked has gone
                        continue
                    if isinstance(answer, Exception):
                        future.set_exception(answer)
                    else:
                        future.set_result(answer)
        finally:
            self._working = None

    async def _answers(self, batch: Sequence[Asked]) -> Sequence[Answer | Exception]:
        try:
            return await self._work(batch)
        except (DataError, IntegrityError) as error:
            if len(batch) == 1:
                return [error]
            return [answer for asked in batch for answer in await self._answers([asked])]
        except Exception as error:
            return [error] * len(batch)
