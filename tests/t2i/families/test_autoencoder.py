"""Pictures to latents and back, held to what diffusers' own pipelines do with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from torch import Tensor, nn

from t2i.api import EngineError
from t2i.checkpoints import tiny_latent as tiny
from t2i.families.autoencoder import TILE, Autoencoder, mask_to_latents

CPU = torch.device("cpu")
PIPELINES = {"sd": tiny.stable_diffusion, "sdxl": tiny.sdxl, "sd3": tiny.sd3, "flux": tiny.flux}


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request: pytest.FixtureRequest) -> DiffusionPipeline:
    return PIPELINES[request.param]()


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    torch.manual_seed(1)
    with torch.inference_mode():
        yield


def picture(width: int = 64, height: int = 48) -> Image.Image:
    noise = np.random.default_rng(2).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def colours(vae: AutoencoderKL) -> AutoencoderKL:
    """A network whose latents are the mean colours of 8 px squares, and whose pictures are those squares."""
    for name, part in vae.named_modules():
        if name.endswith(("conv2", "to_out.0")):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        elif name.endswith("conv_norm_out"):
            nn.init.constant_(part.bias, 4)  # Where SiLU is a line.
        elif isinstance(part, nn.Conv2d):
            nn.init.zeros_(part.bias)
            nn.init.dirac_(part.weight)
            if name.endswith("conv_out"):
                part.weight *= 0.4
                nn.init.constant_(part.bias, 0.4 * -4)
            if "downsamplers" in name:
                part.weight[:] = torch.eye(len(part.weight))[:, :, None, None] * F.pad(
                    torch.ones(2, 2) / 4, (0, 1, 0, 1)
                )
    return vae


def fail_for(half: nn.Module, too_large: Callable[[Tensor], bool]) -> None:
    """A device on which `half` runs out of memory."""

    def refuse(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if too_large(inputs[0]):
            raise torch.OutOfMemoryError("out of memory")

    half.register_forward_pre_hook(refuse)


def test_decoded_pictures_are_those_of_the_pipeline(pipeline: DiffusionPipeline) -> None:
    vae = pipeline.vae
    latents = torch.randn(3, vae.config.latent_channels, 8, 6)
    unscaled = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)
    expected = pipeline.image_processor.postprocess(vae.decode(unscaled).sample)
    pictures = Autoencoder(vae, CPU, torch.float32).decode(latents)
    assert [drawn.size for drawn in pictures] == [(48, 64)] * 3
    for drawn, oracle in zip(pictures, expected, strict=True):
        assert np.abs(array(drawn) - array(oracle)).max() <= 1


def test_encoded_latents_are_the_mode_that_the_pipeline_would_scale(pipeline: DiffusionPipeline) -> None:
    vae = pipeline.vae
    mode = vae.encode(pipeline.image_processor.preprocess(picture())).latent_dist.mode()
    expected = (mode - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    latents = Autoencoder(vae, CPU, torch.float32).encode(picture())
    assert latents.dtype == torch.float32 and latents.shape == (1, vae.config.latent_channels, 6, 8)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)


def test_latents_with_a_mean_and_a_deviation_of_each_channel_are_scaled_by_them() -> None:
    mean, deviation = [0.1, -0.2, 0.3, 0.4], [0.5, 1.5, 2.0, 0.7]
    vae = tiny.autoencoder(latents_mean=mean, latents_std=deviation, scaling_factor=0.5)
    column = torch.tensor([mean, deviation]).view(2, 1, 4, 1, 1)
    latents = torch.randn(1, 4, 8, 8)
    pixels = vae.decode(latents * column[1] / 0.5 + column[0]).sample
    autoencoder = Autoencoder(vae, CPU, torch.float32)
    expected = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(array(autoencoder.decode(latents)[0]) - expected).max() <= 1
    mode = vae.encode(torch.tensor(array(picture())).permute(2, 0, 1)[None] / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(
        autoencoder.encode(picture()), (mode - column[0]) * 0.5 / column[1], rtol=1e-4, atol=1e-5
    )


def test_a_picture_of_colours_survives_the_way_there_and_back() -> None:
    autoencoder = Autoencoder(colours(tiny.autoencoder()), CPU, torch.float32)
    (back,) = autoencoder.decode(autoencoder.encode(picture()))
    assert back.size == picture().size
    for channel in range(3):
        assert np.corrcoef(array(picture())[..., channel].ravel(), array(back)[..., channel].ravel())[0, 1] > 0.8


def test_a_preview_shows_the_colours_of_the_picture_with_a_pixel_a_latent() -> None:
    autoencoder = Autoencoder(colours(tiny.autoencoder()), CPU, torch.float32)
    latents = autoencoder.encode(picture(128, 96))
    (preview,), (drawn,) = autoencoder.preview(latents), autoencoder.decode(latents)
    assert preview.size == (16, 12)
    small = drawn.reduce(8)
    for channel in range(3):
        assert np.corrcoef(array(small)[..., channel].ravel(), array(preview)[..., channel].ravel())[0, 1] > 0.9
    again = Autoencoder(colours(tiny.autoencoder()), CPU, torch.float32)
    assert array(again.preview(latents)[0]).tolist() == array(preview).tolist()


def test_a_picture_that_tiles_rolls_with_its_latents_in_one_piece_and_in_tiles() -> None:
    autoencoder, latents = Autoencoder(tiny.autoencoder(), CPU, torch.float32), torch.randn(1, 4, 32, 3 * TILE // 2)
    for whole_pixels, by in ((2**30, 5), (0, 3 * TILE // 4)):
        autoencoder.whole_pixels = whole_pixels
        (drawn,) = autoencoder.decode(latents, tile=True)
        (rolled,) = autoencoder.decode(latents.roll(by, 3), tile=True)
        assert np.abs(np.roll(array(drawn), 8 * by, 1) - array(rolled)).max() <= 1
        (plain,) = autoencoder.decode(latents.roll(by, 3))
        assert np.abs(np.roll(array(drawn), 8 * by, 1) - array(plain)).max() > 1


def test_latents_of_a_picture_that_tiles_roll_with_it() -> None:
    autoencoder = Autoencoder(tiny.autoencoder(), CPU, torch.float32)
    rolled = Image.fromarray(np.roll(np.asarray(picture()), 8, 1))
    latents = autoencoder.encode(picture(), tile=True)
    torch.testing.assert_close(autoencoder.encode(rolled, tile=True), latents.roll(1, 3), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(autoencoder.encode(rolled), autoencoder.encode(picture()).roll(1, 3), rtol=1e-2)


def test_large_pictures_pass_in_tiles_and_differ_less_than_in_those_of_diffusers() -> None:
    vae, latents = tiny.autoencoder(), F.interpolate(torch.randn(1, 4, 5, 4), (100, 72), mode="bicubic")
    autoencoder = Autoencoder(vae, CPU, torch.float32)
    (whole,) = autoencoder.decode(latents)
    sizes: set[int] = set()
    vae.decoder.register_forward_pre_hook(lambda _, inputs: sizes.update(inputs[0].shape[2:]))
    autoencoder.whole_pixels = whole.width * whole.height - 1
    (tiled,) = autoencoder.decode(latents)
    assert sizes == {TILE} and tiled.size == whole.size
    vae.enable_tiling()
    vae.tile_latent_min_size, vae.tile_sample_min_size = TILE, 8 * TILE
    pixels = vae.decode(latents / vae.config.scaling_factor).sample
    oracle = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert 0 < np.abs(array(tiled) - array(whole)).mean() < np.abs(oracle - array(whole)).mean()


def test_tiles_fade_into_each_other() -> None:
    autoencoder = Autoencoder(colours(tiny.autoencoder()), CPU, torch.float32)
    # A brightness that rises from tile to tile is evened out within each, which would show as a step between them.
    latents = autoencoder.encode(Image.linear_gradient("L").rotate(90).convert("RGB").resize((1024, 64)))
    autoencoder.whole_pixels = 0
    (tiled,) = autoencoder.decode(latents)
    line = array(tiled)[32, :, 0]
    assert np.abs(line.max() - line.min()) > 100
    assert np.abs(np.diff(line)).max() < 10


def test_a_picture_too_large_for_memory_is_decoded_and_encoded_in_tiles() -> None:
    vae = tiny.autoencoder()
    autoencoder = Autoencoder(vae, CPU, torch.float32)
    large = picture(8 * TILE + 64, 64)
    latents = autoencoder.encode(large)
    (whole,) = autoencoder.decode(latents)
    fail_for(vae.decoder, lambda inputs: inputs.shape[3] > TILE)
    fail_for(vae.encoder, lambda inputs: inputs.shape[3] > 8 * TILE)
    (tiled,) = autoencoder.decode(latents)
    assert tiled.size == whole.size and np.abs(array(tiled) - array(whole)).mean() < 8
    assert (autoencoder.encode(large) - latents).norm() < 0.3 * latents.norm()


def test_a_device_too_small_even_for_tiles_says_so() -> None:
    vae = tiny.autoencoder()
    autoencoder = Autoencoder(vae, CPU, torch.float32)
    fail_for(vae.decoder, lambda _: True)
    with pytest.raises(EngineError, match="too little memory") as failure:
        autoencoder.decode(torch.randn(1, 4, 8, 8))
    assert failure.value.code == "memory"


def test_several_pictures_pass_together_only_as_far_as_memory_goes() -> None:
    vae, latents = tiny.autoencoder(), torch.randn(4, 4, 8, 8)
    batches: list[int] = []
    vae.decoder.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    autoencoder = Autoencoder(vae, CPU, torch.float32)
    together = autoencoder.decode(latents)
    autoencoder.whole_pixels = 64 * 64
    apart = autoencoder.decode(latents)
    assert batches == [4, 1, 1, 1, 1]
    for one, other in zip(together, apart, strict=True):
        assert np.abs(array(one) - array(other)).max() <= 1


def test_what_overflows_half_precision_is_computed_in_float32() -> None:
    vae, latents = tiny.autoencoder(), torch.randn(1, 4, 8, 8)
    # The group norm at the end takes any scale, so in float32 the picture is what it was.
    vae.decoder.conv_in.weight *= 3e4
    vae.half()
    (expected,) = Autoencoder(vae, CPU, torch.float32).decode(latents)
    (drawn,) = Autoencoder(vae.half(), CPU, torch.float16).decode(latents)
    assert np.abs(array(drawn) - array(expected)).max() <= 1
    assert array(drawn).std() > 1


def test_half_precision_is_kept_where_it_suffices() -> None:
    vae, latents = tiny.autoencoder(), torch.randn(1, 4, 8, 8)
    (expected,) = Autoencoder(vae, CPU, torch.float32).decode(latents)
    autoencoder = Autoencoder(vae, CPU, torch.float16)
    (drawn,) = autoencoder.decode(latents)
    assert vae.dtype == torch.float16
    assert np.abs(array(drawn) - array(expected)).max() <= 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_an_answer_that_is_no_number_is_an_error_and_not_a_black_picture(dtype: torch.dtype) -> None:
    vae = tiny.autoencoder()
    autoencoder = Autoencoder(vae, CPU, dtype)
    vae.decoder.conv_out.bias[0] = torch.nan
    with pytest.raises(EngineError) as failure:
        autoencoder.decode(torch.randn(1, 4, 8, 8))
    assert failure.value.code == "numerics"


def test_encoding_and_decoding_in_two_threads_gives_what_each_gives_alone() -> None:
    autoencoder, latents = Autoencoder(tiny.autoencoder(), CPU, torch.float32, offload=True), torch.randn(1, 4, 16, 16)
    expected_latents, (expected,) = autoencoder.encode(picture()), autoencoder.decode(latents)
    wrong: list[str] = []

    def encode() -> None:
        for _ in range(10):
            autoencoder.encode(picture(), tile=True)
            if not torch.equal(autoencoder.encode(picture()), expected_latents):
                wrong.append("encode")

    def decode() -> None:
        for _ in range(10):
            autoencoder.decode(latents, tile=True)
            if not np.array_equal(array(autoencoder.decode(latents)[0]), array(expected)):
                wrong.append("decode")

    threads = [Thread(target=work) for work in (encode, decode, decode)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_offloaded_autoencoder_is_in_main_memory_whenever_it_rests() -> None:
    vae, latents = tiny.autoencoder(), torch.randn(1, 4, 8, 8)
    (expected,) = Autoencoder(vae, CPU, torch.float32).decode(latents)
    (drawn,) = Autoencoder(vae, torch.device("cuda"), torch.float32, offload=True).decode(latents)
    assert vae.device == CPU
    assert np.abs(array(drawn) - array(expected)).max() <= 2


def test_a_mask_becomes_what_the_inpainting_pipeline_makes_of_it() -> None:
    parts = tiny.stable_diffusion().components | {"image_encoder": None}
    pipeline = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    mask = Image.fromarray(np.random.default_rng(3).integers(124, 132, (48, 64), np.uint8))
    pixels = pipeline.mask_processor.preprocess(mask)
    expected, _ = pipeline.prepare_mask_latents(
        pixels, torch.zeros(1, 3, 48, 64), 1, 48, 64, torch.float32, CPU, None, do_classifier_free_guidance=False
    )
    assert torch.equal(mask_to_latents(mask, (4, 6, 8)), expected)
