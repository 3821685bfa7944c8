"""Where a model comes from: the words of `model`, told apart without loading anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from runner.engines import LoadError

SYNTHETIC = ("tiny", "small", "sd-v1-4", "sdxl")


@dataclass(frozen=True)
class Source:
    """where: a hub id or a folder; synthetic: the size of a model made on the spot, else empty."""

    where: str
    synthetic: str = ""
    revision: str | None = None
    is_folder: bool = False

    @property
    def is_hub(self) -> bool:
        return not self.synthetic and not self.is_folder

    @classmethod
    def parse(cls, model: str) -> Source:
        """Raises LoadError where it is neither `synthetic:SIZE` nor a folder nor `owner/name[@revision]`."""
        if model.startswith("synthetic:"):
            size = model.removeprefix("synthetic:")
            if size not in SYNTHETIC:
                raise LoadError(f"there is no model {model!r}; synthetic are {', '.join(SYNTHETIC)}")
            return cls(model, synthetic=size)
        folder = Path(model).expanduser()
        if model and folder.is_dir():
            return cls(str(folder), is_folder=True)
        match = re.fullmatch(r"([\w.-]+/[\w.-]+|[\w-]+)(?:@([\w./-]+))?", model)
        if model.startswith(("/", ".", "~")) or not match:
            raise LoadError(f"there is no folder {model!r}, and it is no hub id (owner/name) either")
        return cls(match[1], revision=match[2])
