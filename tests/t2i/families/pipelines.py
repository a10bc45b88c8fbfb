"""Pipelines that no family knows, with random weights, and what is known of them once they are saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    KandinskyV22CombinedPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    UMT5Config,
    UMT5EncoderModel,
)

from t2i.api import CheckpointInfo
from t2i.checkpoints import tiny_latent as tiny
from t2i.families.parts import Placement
from t2i.families.pipeline import WholePipeline, read_call

SIZE = 64


def pixart() -> PixArtSigmaPipeline:
    """Calls back the old way; its multistep scheduler keeps its own history of the run."""
    torch.manual_seed(0)
    return PixArtSigmaPipeline(
        tokenizer=tiny.t5_tokenizer(),
        text_encoder=tiny.t5_encoder(),
        vae=tiny.autoencoder(),
        transformer=PixArtTransformer2DModel(
            # The pipeline draws in buckets around this size, and scales the picture to what was asked for.
            sample_size=32,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=tiny.WIDTH,
            cross_attention_dim=24,
            out_channels=8,
            use_additional_conditions=False,
        ).eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )


def aura_flow(scheduler: type = FlowMatchEulerDiscreteScheduler) -> AuraFlowPipeline:
    torch.manual_seed(0)
    text = UMT5Config(vocab_size=98, d_model=tiny.WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return AuraFlowPipeline(
        tokenizer=tiny.t5_tokenizer(),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=tiny.autoencoder(),
        transformer=AuraFlowTransformer2DModel(
            sample_size=32,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=tiny.WIDTH,
            caption_projection_dim=32,
            pos_embed_max_size=256,
        ).eval(),
        scheduler=scheduler(),
    )


def kandinsky() -> KandinskyV22CombinedPipeline:
    """Two pipelines in one, each with its own scheduler."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32, image_size=28, projection_dim=32, num_attention_heads=4, num_hidden_layers=1, patch_size=14
    )
    return KandinskyV22CombinedPipeline(
        unet=UNet2DConditionModel(
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(32, 64),
            layers_per_block=1,
            encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=32,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
        ).eval(),
        scheduler=DDPMScheduler(),
        movq=VQModel(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=8,
            norm_type="spatial",
            vq_embed_dim=4,
        ).eval(),
        prior_prior=PriorTransformer(
            num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1
        ).eval(),
        prior_image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        prior_text_encoder=CLIPTextModelWithProjection(tiny.clip_text_config()).eval(),
        prior_tokenizer=tiny.clip_tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0
        ),
        prior_image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
    )


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "pixart": pixart,
    "aura-flow": aura_flow,
    "aura-flow-heun": lambda: aura_flow(FlowMatchHeunDiscreteScheduler),
    "kandinsky": kandinsky,
}


def info_of(path: Path) -> CheckpointInfo:
    call = read_call(path)
    return CheckpointInfo(
        name=path.name,
        family="pipeline",
        description="Untrained weights for tests.",
        licence="MIT",
        sha256="",
        parameters=0,
        sizes=(SIZE,),
        default_size=SIZE,
        steps=call.steps,
        sampler="own",
        guidance_scale=call.guidance_scale,
        samplers=("own",),
    )


def load(path: Path) -> WholePipeline:
    return WholePipeline(path, info_of(path), Placement.on(torch.device("cpu")))
