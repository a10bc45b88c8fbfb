"""Networks that wrap around: rolling what goes in rolls what comes out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from t2i.checkpoints import tiny_latent as tiny
from t2i.families.circular import circular

STRIDE = 2
"""Latents that the tiny U-Net halves once."""


def change_by_rolling(network: Callable[[Tensor], Tensor], inputs: Tensor, into: int, out: int) -> float:
    """Relative distance between the answer for rolled inputs and the rolled answer."""
    expected = network(inputs).roll((out, -out), (2, 3))
    answer = network(inputs.roll((into, -into), (2, 3)))
    return float((answer - expected).norm() / expected.norm())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@torch.inference_mode()
def test_a_unet_wraps_around_while_it_is_told_to() -> None:
    unet, text = tiny.unet(), torch.randn(1, 7, tiny.WIDTH)

    def predict(latents: Tensor) -> Tensor:
        return unet(latents, 500, text).sample

    latents = torch.randn(1, 4, 16, 24)
    with circular(unet, True):
        assert change_by_rolling(predict, latents, STRIDE, STRIDE) < 1e-5
    with circular(unet, False):
        assert change_by_rolling(predict, latents, STRIDE, STRIDE) > 1e-2


@torch.inference_mode()
def test_a_decoder_wraps_around_by_eight_pixels_a_latent() -> None:
    vae, latents = tiny.autoencoder(), torch.randn(1, 4, 8, 12)

    def decode(latents: Tensor) -> Tensor:
        return vae.decode(latents).sample

    with circular(vae, True):
        assert change_by_rolling(decode, latents, 1, 8) < 1e-5
    assert change_by_rolling(decode, latents, 1, 8) > 1e-2


@torch.inference_mode()
def test_an_encoder_wraps_around_though_it_pads_right_and_bottom_only() -> None:
    vae, pixels = tiny.autoencoder(), torch.rand(1, 3, 64, 96)

    def encode(pixels: Tensor) -> Tensor:
        return vae.encode(pixels).latent_dist.mode()

    with circular(vae, True):
        assert change_by_rolling(encode, pixels, 8, 1) < 1e-5
    assert change_by_rolling(encode, pixels, 8, 1) > 1e-3


@torch.inference_mode()
def test_a_network_is_as_it_was_afterwards_even_after_an_error() -> None:
    vae, pixels = tiny.autoencoder(), torch.rand(1, 3, 64, 64)
    before = vae(pixels).sample
    with pytest.raises(KeyError), circular(vae, True):
        assert not torch.equal(vae(pixels).sample, before)
        raise KeyError
    assert torch.equal(vae(pixels).sample, before)


@torch.inference_mode()
def test_patches_that_touch_no_edge_stay_what_they_are() -> None:
    patches, inputs = nn.Conv2d(4, 8, 2, stride=2), torch.randn(1, 4, 8, 8)
    before = patches(inputs)
    with circular(patches, True):
        assert torch.equal(patches(inputs), before)
