"""The runner's images: their content, their build, and how each host gets the ones it needs."""

from orchestrator.images.build import build, find
from orchestrator.images.ensure import ensure
from orchestrator.images.image import ImageEvent, ImageInfo, ImageStep
from orchestrator.images.publish import publish
from orchestrator.images.recipe import CUSTOM_BASE, FLAVOURS, context, reference
from orchestrator.images.shipping import ship, ship_to_all
from orchestrator.images.transfer import pull, push

__all__ = [
    "CUSTOM_BASE",
    "FLAVOURS",
    "ImageEvent",
    "ImageInfo",
    "ImageStep",
    "build",
    "context",
    "ensure",
    "find",
    "publish",
    "pull",
    "push",
    "reference",
    "ship",
    "ship_to_all",
]
