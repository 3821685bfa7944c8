"""Command-line flags that several commands share, and the types of their values."""

from __future__ import annotations

import argparse

from runner.catalog import DEVICES, MODEL_FORMS, MODELS, SCHEDULERS, known_model


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def pixels(text: str) -> int:
    if positive(text) % 8:
        raise argparse.ArgumentTypeError(f"expected a multiple of 8, got {text}")
    return int(text)


def guidance_and_scheduler(flags: argparse.Namespace) -> tuple[float, str]:
    """Those of the flags, else the model's own, else Stable Diffusion's."""
    own = known_model(flags.model) or MODELS["sd-v1-4"]
    return own.guidance if flags.guidance is None else flags.guidance, flags.scheduler or own.scheduler


def add_image_flags(group: argparse._ActionsContainer) -> None:
    """Adds the flags that say which image is generated, and on what."""
    group.add_argument("--device", choices=DEVICES, help="default: cuda where there is a GPU")
    group.add_argument(
        "--model",
        default="CompVis/stable-diffusion-v1-4",
        metavar="M",
        help=f"{MODEL_FORMS}; of a hub id also ID@REVISION",
    )
    group.add_argument("--prompt", default="a photo of an astronaut riding a horse on mars", help="default: Lambda's")
    group.add_argument("--height", type=pixels, metavar="PX", help="default: the model's own")
    group.add_argument("--width", type=pixels, metavar="PX", help="default: the model's own")
    group.add_argument(
        "--guidance", type=float, metavar="G", help="guidance scale (default: the model's own, else 7.5)"
    )
    group.add_argument("--scheduler", choices=tuple(SCHEDULERS), help="default: the model's own, else pndm")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the latents (default 0)")
    group.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: the library's choice)")
