"""A pipeline's call, from token ids to the decoded image, in operations that a CUDA graph can capture.

One class per model family. Each computes what diffusers' pipeline of that family computes, without its waits for the
GPU: the timesteps and the scheduler's coefficients stay on the CPU, and so become constants of the graph.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from runner.engines import compile
from runner.engines.precompute import Modulations, Precomputed
from runner.errors import Unsupported
from runner.models import pipeline
from runner.models.networks import denoiser, unusual_inputs
from runner.schema import Job

# Tokens of SD 3.5's T5: the default of the pipeline's max_sequence_length.
LONG_PROMPT = 256


class Texts(NamedTuple):
    """The encoded prompts; with guidance, preceded by as many empty ones.

    states: shape (batch, tokens, width). pooled: shape (batch, width); None in Stable Diffusion 1 and 2.
    """

    states: torch.Tensor
    pooled: torch.Tensor | None = None


def of(pipe: Any, job: Job, size: tuple[int, int]) -> Call:
    """Prepares the pipeline's networks in place. size: height and width of the image. Raises Unsupported as `load`."""
    return _CALLS[pipeline.family_of(pipe)](pipe, job, size)


class Call:
    """size: height and width of the image in pixels."""

    # Whether the pipeline sets it, which matters where a scheduler's first two timesteps are equal.
    _sets_begin_index = False

    def __init__(self, pipe: Any, job: Job, size: tuple[int, int]) -> None:
        self.pipe, self._job, self.size = pipe, job, size
        self._guided = job.guidance > 1
        self._decode: Any = torch.compile(pipe.vae.decode, **compile.SETTINGS)

    def tokenizers(self) -> list[tuple[Any, int]]:
        """Each text encoder's tokenizer, and the number of tokens of a prompt."""
        return [(self.pipe.tokenizer, self.pipe.tokenizer.model_max_length)]

    def token_ids(self, samples: int) -> list[torch.Tensor]:
        """For each text encoder, the token ids of the prompts; with guidance, preceded by those of empty prompts."""
        texts = [self._job.prompt] * samples
        if self._guided and not self._blank_is_zero():
            texts = [""] * samples + texts
        kind: dict[str, Any] = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        # Repeats a word that stands for several vectors of a textual inversion; SD 3.5's pipeline does not.
        convert = getattr(self.pipe, "maybe_convert_prompt", lambda given, _: given)
        return [
            tokenizer(convert(texts, tokenizer), max_length=length, **kind).input_ids
            for tokenizer, length in self.tokenizers()
        ]

    def hold(self, samples: int, device: torch.device) -> None:
        """Puts on the device what no call changes."""
        self.schedule()
        self._timesteps = self.pipe.scheduler.timesteps.to(device)

    def schedule(self) -> None:
        self.pipe.scheduler.set_timesteps(self._job.steps, device="cpu")

    def encode(self, ids: list[torch.Tensor]) -> Texts:
        raise NotImplementedError

    def given(self, texts: Texts) -> Any:
        """What `predict` takes: computed once in a call, from the encoded prompts."""
        return texts

    def predict(self, latents: torch.Tensor, step: int, given: Any) -> torch.Tensor:
        """The scheduler's model output at a step, after guidance; shaped as the latents."""
        raise NotImplementedError

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        config = self.pipe.vae.config
        image: torch.Tensor = self._decode(self.shifted(latents / config.scaling_factor), return_dict=False)[0]
        return image

    def shifted(self, latents: torch.Tensor) -> torch.Tensor:
        shift: float = self.pipe.vae.config.shift_factor
        return latents + shift

    def compute(self, ids: list[torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """The decoded image: shape (samples, 3, height, width), values of -1 to 1 and beyond."""
        scheduler = self.pipe.scheduler
        self.schedule()
        if self._sets_begin_index and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        given = self.given(self.encode(ids))
        latents = noise * getattr(scheduler, "init_noise_sigma", 1)
        for step, timestep in enumerate(scheduler.timesteps):
            latents = scheduler.step(self.predict(latents, step, given), timestep, latents, return_dict=False)[0]
        return self.decode(latents)

    def _blank_is_zero(self) -> bool:
        """Whether an empty prompt is encoded as zeros, without the text encoders."""
        return False


class Denoiser(torch.nn.Module):
    """One evaluation of the UNet with guidance, so that the compiler fuses the operations around the network."""

    def __init__(self, unet: torch.nn.Module, guidance: float) -> None:
        super().__init__()
        self.unet, self.guidance = unet, guidance

    def forward(self, latents: torch.Tensor, moment: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        if self.guidance <= 1:
            plain: torch.Tensor = self.unet(latents, moment, states, return_dict=False)[0]
            return plain
        return guided(self.unet(torch.cat([latents] * 2), moment, states, return_dict=False)[0], self.guidance)


def guided(prediction: torch.Tensor, guidance: float) -> torch.Tensor:
    blank, text = prediction.chunk(2)
    mixed: torch.Tensor = blank + guidance * (text - blank)
    return mixed


class StableDiffusion(Call):
    """Versions 1 and 2."""

    _addition: str | None = None  # the UNet's addition_embed_type

    def __init__(self, pipe: Any, job: Job, size: tuple[int, int]) -> None:
        super().__init__(pipe, job, size)
        if absent := [name for name, each in pipe.components.items() if "text_encoder" in name and each is None]:
            raise Unsupported(f"graph needs all text encoders, and this model has no {' and '.join(absent)}")
        self._refuse_other_unets()
        unusual = [name for name in ("latents_mean", "latents_std") if getattr(pipe.vae.config, name, None)]
        if unusual := [*unusual, *unusual_inputs(pipe)]:
            raise Unsupported(f"graph has no {' and '.join(unusual)}, which this model is configured with")
        self._precomputed = Precomputed(pipe.unet, guided=self._guided)
        self._denoise = torch.compile(Denoiser(pipe.unet, job.guidance), **compile.SETTINGS)

    def encode(self, ids: list[torch.Tensor]) -> Texts:
        return Texts(self.pipe.text_encoder(ids[0])[0])

    def given(self, texts: Texts) -> tuple[torch.Tensor, torch.Tensor]:
        """Each block's shifts at each step, and each layer's keys and values."""
        states = self._precomputed.conditioning(texts.states)
        return self._precomputed.moments(self._timesteps, states.dtype, self.added(texts)), states

    def _refuse_other_unets(self) -> None:
        """Raises Unsupported for a UNet whose settings `Precomputed` does not know."""
        known = {
            "act_fn": ("silu", "swish"),
            "time_embedding_act_fn": (None,),
            "resnet_skip_time_act": (False,),
            "addition_embed_type": (self._addition,),
            "encoder_hid_dim_type": (None,),
        }
        config = self.pipe.unet.config
        if other := [f"{name}={config[name]}" for name, values in known.items() if config[name] not in values]:
            raise Unsupported(f"graph has no UNet with {', '.join(other)}")

    def shifted(self, latents: torch.Tensor) -> torch.Tensor:
        return latents  # these pipelines ignore the VAE's shift_factor

    def added(self, texts: Texts) -> dict[str, torch.Tensor] | None:
        """What the time embedding depends on besides the timestep."""
        return None

    def predict(self, latents: torch.Tensor, step: int, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        moments, states = given
        scheduler = self.pipe.scheduler
        scaled = scheduler.scale_model_input(latents, scheduler.timesteps[step])
        noise: torch.Tensor = self._denoise(scaled, moments[step], states)
        return noise


class StableDiffusionXL(StableDiffusion):
    _addition = "text_time"
    _sets_begin_index = True

    def __init__(self, pipe: Any, job: Job, size: tuple[int, int]) -> None:
        super().__init__(pipe, job, size)
        if pipe.vae.dtype is torch.float16 and pipe.vae.config.force_upcast:
            pipe.vae.to(torch.float32)  # the pipeline does so in each call: in half precision, the decoder overflows

    def tokenizers(self) -> list[tuple[Any, int]]:
        return [(each, each.model_max_length) for each in (self.pipe.tokenizer, self.pipe.tokenizer_2)]

    def hold(self, samples: int, device: torch.device) -> None:
        super().hold(samples, device)
        projected = self.pipe.text_encoder_2.config.projection_dim
        ids = self.pipe._get_add_time_ids(
            self.size, (0, 0), self.size, dtype=self.pipe.text_encoder_2.dtype, text_encoder_projection_dim=projected
        )
        self._sizes = ids.to(device).repeat(samples * (2 if self._guided else 1), 1)

    def encode(self, ids: list[torch.Tensor]) -> Texts:
        encoders = (self.pipe.text_encoder, self.pipe.text_encoder_2)
        encoded = [encoder(each, output_hidden_states=True) for encoder, each in zip(encoders, ids)]
        texts = torch.cat([each.hidden_states[-2] for each in encoded], dim=-1), encoded[1][0]
        if self._guided and self._blank_is_zero():
            return Texts(*(torch.cat([torch.zeros_like(each), each]) for each in texts))
        return Texts(*texts)

    def added(self, texts: Texts) -> dict[str, torch.Tensor] | None:
        assert texts.pooled is not None  # noqa: S101  # for the type checker
        return {"text_embeds": texts.pooled, "time_ids": self._sizes}

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return super().decode(latents.to(self.pipe.vae.dtype))

    def _blank_is_zero(self) -> bool:
        return bool(self.pipe.config.force_zeros_for_empty_prompt)


class StableDiffusion3(Call):
    def __init__(self, pipe: Any, job: Job, size: tuple[int, int]) -> None:
        super().__init__(pipe, job, size)
        compile.compile_blocks(denoiser(pipe))
        self._modulations = Modulations(denoiser(pipe))

    def tokenizers(self) -> list[tuple[Any, int]]:
        pipe = self.pipe
        clip = [(each, pipe.tokenizer_max_length) for each in (pipe.tokenizer, pipe.tokenizer_2)]
        return clip if pipe.text_encoder_3 is None else [*clip, (pipe.tokenizer_3, LONG_PROMPT)]

    def schedule(self) -> None:
        across = self.pipe.vae_scale_factor * self.pipe.transformer.config.patch_size
        tokens = (self.size[0] // across) * (self.size[1] // across)
        self.pipe.scheduler.set_timesteps(self._job.steps, device="cpu", **shift(self.pipe.scheduler, tokens))

    def encode(self, ids: list[torch.Tensor]) -> Texts:
        pipe = self.pipe
        clip = [
            encoder(each, output_hidden_states=True)
            for encoder, each in zip((pipe.text_encoder, pipe.text_encoder_2), ids)
        ]
        short = torch.cat([each.hidden_states[-2] for each in clip], dim=-1)
        if pipe.text_encoder_3 is None:  # a model without T5
            long = short.new_zeros(len(short), LONG_PROMPT, pipe.transformer.config.joint_attention_dim)
        else:
            long = pipe.text_encoder_3(ids[2])[0]
        short = torch.nn.functional.pad(short, (0, long.shape[-1] - short.shape[-1]))
        return Texts(torch.cat([short, long], dim=-2), torch.cat([each[0] for each in clip], dim=-1))

    def given(self, texts: Texts) -> tuple[torch.Tensor, torch.Tensor]:
        """Each norm's modulation at each step for one image (with guidance, two rows), and the prompts' states."""
        assert texts.pooled is not None  # noqa: S101  # for the type checker
        samples = len(texts.pooled) // (2 if self._guided else 1)
        return self._modulations.moments(self._timesteps, texts.pooled[::samples]), texts.states

    def predict(self, latents: torch.Tensor, step: int, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        moments, states = given
        batch = torch.cat([latents] * 2) if self._guided else latents
        velocity: torch.Tensor = self.pipe.transformer(
            hidden_states=batch,
            timestep=self._timesteps[step].expand(len(batch)),
            encoder_hidden_states=states,
            pooled_projections=moments[step].repeat_interleave(len(latents), 0),
            return_dict=False,
        )[0]
        return guided(velocity, self._job.guidance) if self._guided else velocity


class Flux(Call):
    _sets_begin_index = True

    def __init__(self, pipe: Any, job: Job, size: tuple[int, int]) -> None:
        super().__init__(pipe, job, size)
        self._guided = False  # guidance is an input of the network
        compile.compile_blocks(denoiser(pipe))
        self._modulations = Modulations(denoiser(pipe))

    def tokenizers(self) -> list[tuple[Any, int]]:
        pipe = self.pipe
        return [(pipe.tokenizer, pipe.tokenizer_max_length), (pipe.tokenizer_2, 512)]  # its max_sequence_length

    def hold(self, samples: int, device: torch.device) -> None:
        super().hold(samples, device)
        dtype = self.pipe.transformer.dtype
        height, width = (side // (2 * self.pipe.vae_scale_factor) for side in self.size)
        self._image_ids = self.pipe._prepare_latent_image_ids(samples, height, width, device, dtype)
        self._text_ids = torch.zeros(self.tokenizers()[1][1], 3, device=device, dtype=dtype)
        strength = torch.full([samples], self._job.guidance, device=device, dtype=torch.float32)
        self._guidance = strength if self.pipe.transformer.config.guidance_embeds else None

    def schedule(self) -> None:
        steps = self._job.steps
        tokens = (self.size[0] // (2 * self.pipe.vae_scale_factor)) * (self.size[1] // (2 * self.pipe.vae_scale_factor))
        sigmas = None if self.pipe.scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        self.pipe.scheduler.set_timesteps(
            steps if sigmas is None else None, device="cpu", sigmas=sigmas, **shift(self.pipe.scheduler, tokens)
        )

    def encode(self, ids: list[torch.Tensor]) -> Texts:
        return Texts(self.pipe.text_encoder_2(ids[1])[0], self.pipe.text_encoder(ids[0]).pooler_output)

    def given(self, texts: Texts) -> tuple[torch.Tensor, torch.Tensor]:
        """Each norm's modulation at each step for one image, and the prompts' states."""
        assert texts.pooled is not None  # noqa: S101  # for the type checker
        dtype = texts.states.dtype  # the pipeline divides in it, and the transformer multiplies
        timesteps = self._timesteps.to(dtype) / 1000 * 1000
        strength = () if self._guidance is None else (self._guidance[:1].to(dtype) * 1000,)
        return self._modulations.moments(timesteps, texts.pooled[:1], *strength), texts.states

    def predict(self, latents: torch.Tensor, step: int, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        moments, states = given
        velocity: torch.Tensor = self.pipe.transformer(
            hidden_states=latents,
            timestep=self._timesteps[step].expand(len(latents)),
            guidance=self._guidance,
            pooled_projections=moments[step].expand(len(latents), -1),
            encoder_hidden_states=states,
            txt_ids=self._text_ids,
            img_ids=self._image_ids,
            return_dict=False,
        )[0]
        return velocity

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return super().decode(self.pipe._unpack_latents(latents, *self.size, self.pipe.vae_scale_factor))


def shift(scheduler: Any, tokens: int) -> dict[str, float]:
    """The shift of the noise levels for an image of so many tokens, where the scheduler makes it depend on them."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
    return {"mu": calculate_shift(tokens, *(config[name] for name in names))}


_CALLS: dict[str, type[Call]] = {
    "sd": StableDiffusion,
    "sdxl": StableDiffusionXL,
    "sd3": StableDiffusion3,
    "flux": Flux,
}
