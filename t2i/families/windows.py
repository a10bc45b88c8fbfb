"""Long prompts in windows: what a text encoder reads at once, cut between words, with a weight for every token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import torch
from tokenizers import Encoding
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from t2i.families.prompt import parse_weights

Tokenize = Callable[[str], Encoding]
"""A tokenizer that neither truncates, nor pads, nor adds special tokens."""


def tokenize_by(tokenizer: PreTrainedTokenizerBase) -> Tokenize:
    """One of transformers' tokenizers as such."""
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False).encodings[0]


@dataclass(frozen=True, slots=True)
class Windows:
    """Prompts in k windows each: `ids` [n, k, length] int64, `weights` [n, k, length] float32, `padding` [n, k, length]
    bool, and `spare` [n, k] bool: windows that a prompt has only to be as long as the longest."""

    ids: Tensor
    weights: Tensor
    padding: Tensor
    spare: Tensor

    @property
    def count(self) -> int:
        """k, the same for all prompts."""
        return self.spare.shape[1]

    @property
    def weighted(self) -> bool:
        return bool((self.weights != 1).any())

    def weigh(self, states: Tensor, empty: Tensor) -> Tensor:
        """States [n * k, length, dim] moved from those of the empty window [1, length, dim] by their weights.

        A state of weight w becomes empty + w (state - empty): exactly itself where w is 1.
        """
        weights = self.weights.flatten(0, 1)[..., None].to(states)
        return torch.lerp(empty, states, weights)

    def join(self, states: Tensor) -> Tensor:
        """States [n * k, length, dim] with the windows of a prompt one after the other: [n, k * length, dim]."""
        return states.reshape(len(self.spare), -1, states.shape[-1])


@dataclass(frozen=True, slots=True)
class Splitter:
    """Makes windows of `start`, at most `room` tokens of a prompt, `end`, and `pad` up to `length`."""

    tokenize: Tokenize
    length: int
    start: tuple[int, ...]
    end: int
    pad: int

    @property
    def room(self) -> int:
        return self.length - len(self.start) - 1

    def __call__(self, prompts: list[str], least: int = 1) -> Windows:
        """All prompts in as many windows as the longest needs, `least` or more; start, end and padding count 1."""
        rows = [_cut(_tokens(prompt, self.tokenize), self.room) for prompt in prompts]
        count = max(least, *map(len, rows))
        full = [row + [[]] * (count - len(row)) for row in rows]
        used = torch.tensor([[len(tokens) for tokens in row] for row in full]) + len(self.start) + 1
        return Windows(
            ids=torch.tensor([[self._ids(tokens) for tokens in row] for row in full]),
            weights=torch.tensor([[self._weights(tokens) for tokens in row] for row in full]),
            padding=torch.arange(self.length) >= used[..., None],
            spare=torch.arange(count) >= torch.tensor([len(row) for row in rows])[:, None],
        )

    def _ids(self, tokens: list[_Token]) -> list[int]:
        return [*self.start, *(token.id for token in tokens), self.end, *[self.pad] * (self.room - len(tokens))]

    def _weights(self, tokens: list[_Token]) -> list[float]:
        return [*[1.0] * len(self.start), *(token.weight for token in tokens), *[1.0] * (1 + self.room - len(tokens))]


@dataclass(frozen=True, slots=True)
class _Token:
    id: int
    weight: float
    begins_word: bool
    after_comma: bool


def _tokens(prompt: str, tokenize: Tokenize) -> list[_Token]:
    """The tokens of the whole prompt without its weights, as if it had none; a token counts as its letters do."""
    spans = parse_weights(prompt)
    text = "".join(span.text for span in spans)
    weights = [span.weight for span in spans for _ in span.text]
    encoding = tokenize(text)
    tokens = []
    previous = 0
    for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
        letters = [weights[index] for index in range(start, stop) if not text[index].isspace()]
        begins_word = previous <= start and text[previous : previous + 1].isspace()
        after_comma = previous <= start and text[previous - 1 : previous] == ","
        tokens.append(_Token(number, fmean(letters or [1.0]), begins_word, after_comma))
        previous = stop
    return tokens


def _cut(tokens: list[_Token], room: int) -> list[list[_Token]]:
    """Windows of at most `room` tokens, and of at least three quarters of it where words allow."""
    windows = []
    while len(tokens) > room:
        places = range(room, room - room // 4 - 1, -1)
        stop = next((place for place in places if tokens[place].after_comma), None)
        stop = stop or next((place for place in places if tokens[place].begins_word), room)
        windows.append(tokens[:stop])
        tokens = tokens[stop:]
    return [*windows, tokens]
