"""Parses `model`: hub id, folder or synthetic model. Loads nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from runner.catalog import MODELS, SYNTHETIC
from runner.errors import LoadError

# Relative paths start here, for a runner whose working folder is its own.
FOLDER_VARIABLE = "RUNNER_FOLDER"


@dataclass(frozen=True)
class Source:
    """where: a hub id or a folder. synthetic: the size of a synthetic model, else empty."""

    where: str
    synthetic: str = ""
    revision: str | None = None
    is_folder: bool = False

    @property
    def is_hub(self) -> bool:
        return not self.synthetic and not self.is_folder

    @classmethod
    def parse(cls, model: str) -> Source:
        """Raises LoadError where the text is neither `synthetic:SIZE` nor a folder nor `owner/name[@revision]`.

        A text in the form of a hub id is a hub id on every host, whatever the working folder holds. A relative folder
        must begin with `.`.
        """
        if model.startswith(SYNTHETIC):
            size = model.removeprefix(SYNTHETIC)
            if size not in MODELS:
                raise LoadError(f"there is no model {model!r}; synthetic are {', '.join(MODELS)}")
            return cls(model, synthetic=size)
        if model in MODELS:
            raise LoadError(f"there is no model {model!r}; did you mean '{SYNTHETIC}{model}'?")
        match = re.fullmatch(r"([\w.-]+/[\w.-]+|[\w-]+)(?:@([\w./-]+))?", model)
        if match and not model.startswith(("/", ".", "~")):
            return cls(match[1], revision=match[2])
        folder = Path(os.environ.get(FOLDER_VARIABLE, "")) / Path(model).expanduser()
        if model and folder.is_dir():
            return cls(str(folder), is_folder=True)
        raise LoadError(f"there is no folder {model!r}, and it is not a hub id (owner/name)")
