"""Environment variables of the programs that we start: which are removed and which are set. Declared here only.

A job's Python imports only from the interpreter's own folders and from the one that holds this program. So no file in
the working folder or on an inherited PYTHONPATH can shadow a module of ours, Python's or PyTorch's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath

import runner

# Python's own variables that change neither what it imports nor how fast it runs.
PYTHON_KEPT = frozenset(
    {
        *("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"),
        *("PYTHONUSERBASE", "PYTHONNOUSERSITE"),  # for a program installed by `pip install --user`
    }
)

# The cache's folder below HF_HOME.
HUB = "hub"
# Each variable overrides a folder that otherwise derives from HF_HOME; the value is that folder's name.
# Sources: huggingface_hub/constants.py (0.16 to 2.4), transformers/utils/hub.py (4.20 to 5), diffusers/utils (0.15 on).
HUB_CACHES = {
    "HF_HUB_CACHE": HUB,
    "HUGGINGFACE_HUB_CACHE": HUB,
    "TRANSFORMERS_CACHE": HUB,
    "PYTORCH_TRANSFORMERS_CACHE": HUB,
    "PYTORCH_PRETRAINED_BERT_CACHE": HUB,
    "DIFFUSERS_CACHE": HUB,
}
# A job writes to these, so in a container they point into the job's own folder.
WORK_CACHES = {
    "HF_MODULES_CACHE": "modules",
    "HF_XET_CACHE": "xet",
    "HF_ASSETS_CACHE": "assets",
    "HUGGINGFACE_ASSETS_CACHE": "assets",
    "HF_DATASETS_CACHE": "datasets",
}
# Each of these can turn off access to the hub.
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def own_python(ours: Mapping[str, str], working: PurePath | None = None) -> dict[str, str]:
    """Returns an environment in which Python finds only its own modules and ours.

    Python 3.10 has no PYTHONSAFEPATH: there the process's working folder must also hold no modules.
    working: our own working folder.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("PYTHON") or name in PYTHON_KEPT}
    home = _found_by_chance(ours, working or Path.cwd())
    return {**kept, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": home} if home else {})}


def _found_by_chance(ours: Mapping[str, str], working: PurePath) -> str | None:
    """Returns the folder with this program's packages if only PYTHONPATH or the working folder led to it, else None."""
    home = Path(runner.__path__[0]).resolve().parent
    named = [Path(entry) for entry in ours.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return str(home) if home in {path.resolve() for path in (*named, Path(working))} else None


def hub_folders(home: str, work: str) -> dict[str, str]:
    """Returns every variable that sets a folder of Hugging Face's libraries. home: HF_HOME; work: the job's folder.

    The libraries look for a stored login (`token`, `stored_tokens`) in `work`, so they do not find the one in `home`.
    """
    return {
        "HF_HOME": home,
        **{name: f"{home}/{folder}" for name, folder in HUB_CACHES.items()},
        **{name: f"{work}/{folder}" for name, folder in WORK_CACHES.items()},
        **no_login(work),
    }


def hub_environment(home: str, work: str, *, online: bool) -> dict[str, str]:
    """Returns all of a container's hub variables. Each one is set, because the image's own ENV may set it otherwise."""
    return {**hub_folders(home, work), **dict.fromkeys(OFFLINE, "0" if online else "1")}


def no_login(work: str) -> dict[str, str]:
    """Returns variables that hide the stored login of the machine's owner: a job uses only the token it is given."""
    return {"HF_TOKEN_PATH": f"{work}/login/token", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
