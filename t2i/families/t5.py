"""T5's encoder, as Stable Diffusion 3 and FLUX read it: token states."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

from t2i.families.model import TextStates
from t2i.families.windows import Splitter, Windows, tokenize_by


class T5Text:
    """A text encoder, wherever it lives, with its tokenizer; `max_length` tokens, the end included, make a window."""

    def __init__(self, model: T5EncoderModel, tokenizer: T5Tokenizer, max_length: int) -> None:
        self._model = model
        self._split = Splitter(
            tokenize_by(tokenizer), max_length, start=(), end=tokenizer.eos_token_id, pad=tokenizer.pad_token_id
        )

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> TextStates:
        """Tokens [n, max_length k, dim], k being the windows that the longest prompt needs, in the model's dtype, on
        its device. Padding is read like text, as the denoisers were trained; there is no pooled vector."""
        windows = self._split(prompts)
        states = self._read(windows)
        if windows.weighted:
            states = windows.weigh(states, self._read(self._split([""])))
        return TextStates(windows.join(states), None, None)

    def _read(self, windows: Windows) -> Tensor:
        states: Tensor = self._model(windows.ids.flatten(0, 1).to(self._model.device)).last_hidden_state
        return states
