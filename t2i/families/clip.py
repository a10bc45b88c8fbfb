"""CLIP's text encoders, as Stable Diffusion and FLUX read them: token states and a pooled vector."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from t2i.families.model import TextStates
from t2i.families.windows import Splitter, Windows, tokenize_by


class ClipText:
    """A text encoder, wherever it lives, with its tokenizer.

    States are those of the last layer behind the final layer norm (Stable Diffusion 1 and 2) or, `penultimate`, those
    of the layer before it as they are (SDXL, Stable Diffusion 3).
    """

    def __init__(
        self,
        model: CLIPTextModel | CLIPTextModelWithProjection,
        tokenizer: CLIPTokenizer,
        *,
        penultimate: bool = False,
    ) -> None:
        self._model = model
        self._penultimate = penultimate
        self._split = Splitter(
            tokenize_by(tokenizer),
            length=model.config.max_position_embeddings,
            start=(tokenizer.bos_token_id,),
            end=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )

    @torch.inference_mode()
    def encode(self, prompts: list[str], least: int = 1) -> TextStates:
        """Tokens [n, 77 k, dim], k being the windows that the longest prompt needs, `least` or more, and the pooled
        vector [n, dim] of the first window, projected where the model has a projection; in the model's dtype, on its
        device. Weights act on the tokens only.
        """
        windows = self._split(prompts, least)
        states, pooled = self._read(windows)
        if windows.weighted:
            empty, _ = self._read(self._split([""]))
            states = windows.weigh(states, empty)
        return TextStates(windows.join(states), None, pooled[:: windows.count])

    def count(self, prompts: list[str]) -> int:
        """The windows that the longest prompt needs."""
        return self._split(prompts).count

    def _read(self, windows: Windows) -> tuple[Tensor, Tensor]:
        ids = windows.ids.flatten(0, 1).to(self._model.device)
        output = self._model(ids, output_hidden_states=self._penultimate)
        states = output.hidden_states[-2] if self._penultimate else output.last_hidden_state
        return states, output.text_embeds if "text_embeds" in output else output.pooler_output


def encode_with_each(encoders: list[ClipText], prompts: list[str]) -> list[TextStates]:
    """As many windows by every encoder, although their tokenizers may not find the same tokens."""
    least = max(encoder.count(prompts) for encoder in encoders)
    return [encoder.encode(prompts, least) for encoder in encoders]
