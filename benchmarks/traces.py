"""Who asks for what, and when: Poisson arrivals of mixed requests, the same for every arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from t2i.api import GenerationRequest

DECK = (4,) * 5 + (8,) * 3 + (20,) * 5 + (28,) * 4 + (50,) * 3
"""Steps of twenty jobs: 25 % of 4, 15 % of 8, 25 % of 20, 20 % of 28 and 15 % of 50."""
STEP_CLASSES = tuple(sorted(set(DECK)))
GUIDANCE = (1.0, 2.0, 3.0, 5.0, 7.5)
"""Equally likely; 1 needs no unconditional half."""
PROMPTS = ("a red apple", "a cat with a hat", "a blue heart", "a rocket", "an old clock on a wall", "two green leaves")
USERS = 8
FLOOD = "flood"


@dataclass(frozen=True, slots=True)
class Job:
    """`arrival` in seconds from the beginning of the trace."""

    name: str
    user: str
    arrival: float
    request: GenerationRequest

    @property
    def steps(self) -> int:
        assert self.request.steps is not None
        return self.request.steps

    @property
    def images(self) -> int:
        return self.request.images

    @property
    def guided(self) -> bool:
        return self.request.guidance_scale != 1.0

    @property
    def rows(self) -> int:
        """Rows of the batch that a step takes."""
        return self.images * (2 if self.guided else 1)


@dataclass(frozen=True, slots=True)
class Mix:
    """What the jobs of a trace have in common."""

    size: int
    samplers: tuple[str, ...]
    images: int = 1
    deck: tuple[int, ...] = DECK
    guidance: tuple[float, ...] = GUIDANCE


def poisson(mix: Mix, jobs: int, rate: float, seed: int, *, users: int = USERS, name: str = "user") -> list[Job]:
    """`jobs` arrivals at `rate` a second, all at once for an infinite one, of users who ask equally often.

    Steps are dealt from shuffled decks, so that every twenty jobs have exactly the shares of `DECK`: a short trace is
    as heavy as a long one. Numbers are drawn in the same order whatever the rate, which only stretches the trace.
    """
    random = np.random.default_rng(seed)
    gaps = random.exponential(1.0, jobs)
    arrivals = np.cumsum(gaps) / rate
    decks = [random.permutation(mix.deck) for _ in range(-(-jobs // len(mix.deck)))]
    steps = np.concatenate(decks)[:jobs]
    return [
        Job(
            name=f"{name}-{index}",
            user=f"{name} {random.integers(users) + 1}" if users > 1 else name,
            arrival=float(arrivals[index]),
            request=GenerationRequest(
                prompt=PROMPTS[random.integers(len(PROMPTS))],
                images=mix.images,
                steps=int(steps[index]),
                sampler=mix.samplers[random.integers(len(mix.samplers))],
                guidance_scale=mix.guidance[random.integers(len(mix.guidance))],
                seed=int(random.integers(2**31)),
                width=mix.size,
            ),
        )
        for index in range(jobs)
    ]


def flooded(light: list[Job], mix: Mix, rate: float, seed: int) -> list[Job]:
    """The same trace and one more user, who asks at `rate` for as long as it lasts."""
    span = light[-1].arrival
    flood = poisson(mix, int(span * rate), rate, seed, users=1, name=FLOOD)
    return sorted([*light, *flood], key=lambda job: job.arrival)
