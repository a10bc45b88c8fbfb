"""A network made quicker for CPUs computes what it did before."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from t2i.families.cpu import RowShares, quicken
from t2i.families.model import Rows, TextStates
from t2i.families.networks import NetworkShape, build_network
from tests.t2i.oracle import error


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    shape = NetworkShape(block_out_channels=[32, 64], attention=[False, True], patch=4)
    return build_network(shape, resolution=32, text_dim=16).eval().requires_grad_(False)


def answer(unet: UNet2DConditionModel, dtype: torch.dtype = torch.float32) -> Tensor:
    """With a mask that hides half of the tokens of one row and none of the other's."""
    generator = torch.Generator().manual_seed(1)
    latents, tokens, pooled = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((2, 64, 8, 8), (2, 6, 16), (2, 16))
    )
    mask = torch.tensor([[True] * 3 + [False] * 3, [True] * 6])
    (output,) = unet(
        latents,
        torch.tensor([500.0, 3.0]),
        encoder_hidden_states=tokens,
        encoder_attention_mask=mask,
        class_labels=pooled,
        return_dict=False,
    )
    return output.float()


def test_the_answer_stays_the_same_and_so_do_the_names_of_weights(unet: UNet2DConditionModel) -> None:
    quick = copy.deepcopy(unet)
    quicken(quick)
    assert error(answer(quick), answer(unet)) < 1e-6
    assert quick.state_dict().keys() == unet.state_dict().keys()


def test_in_bfloat16_it_stays_close(unet: UNet2DConditionModel) -> None:
    quick = copy.deepcopy(unet)
    quicken(quick)
    nn.Module.to(quick, torch.bfloat16)
    assert 0 < error(answer(quick, torch.bfloat16), answer(unet)) < 0.02


def test_rows_come_back_in_order_whatever_the_shares_and_other_threads_keep_theirs() -> None:
    threads = torch.get_num_threads()
    share = RowShares()
    for count in (1, 2, 3, 7):
        numbers = torch.arange(float(count))
        text = TextStates(numbers[:, None, None], None, None)
        rows = Rows("base", numbers[:, None, None, None], numbers, text, numbers)
        seen = share(
            lambda part: part.latents + part.timesteps[:, None, None, None] + part.text.tokens[..., None], rows
        )
        assert seen.flatten().tolist() == (3 * numbers).tolist()
    assert torch.get_num_threads() == threads
