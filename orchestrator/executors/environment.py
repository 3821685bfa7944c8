"""The environment of what we start: which variables may not reach it, and which it must have. Declared here once.

A job's Python imports from the interpreter's own folders and from the one that holds this program, so that no file of
the working folder or of an inherited PYTHONPATH runs in place of ours, Python's or PyTorch's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePath

import runner

# Of the variables that Python reads: those that change neither what it imports nor how fast it is.
PYTHON_KEPT = frozenset(
    {
        *("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"),
        *("PYTHONUSERBASE", "PYTHONNOUSERSITE"),  # where `pip install --user` put this program
    }
)

# The folder of the cache below HF_HOME.
HUB = "hub"
# Each names a folder that goes before the one that follows from HF_HOME; the value is the folder's name there.
# Sources: huggingface_hub/constants.py (0.16 to 2.4), transformers/utils/hub.py (4.20 to 5), diffusers/utils (0.15 on).
HUB_CACHES = {
    "HF_HUB_CACHE": HUB,
    "HUGGINGFACE_HUB_CACHE": HUB,
    "TRANSFORMERS_CACHE": HUB,
    "PYTORCH_TRANSFORMERS_CACHE": HUB,
    "PYTORCH_PRETRAINED_BERT_CACHE": HUB,
    "DIFFUSERS_CACHE": HUB,
}
# Written to by a job, so that in a container they are the job's own.
WORK_CACHES = {
    "HF_MODULES_CACHE": "modules",
    "HF_XET_CACHE": "xet",
    "HF_ASSETS_CACHE": "assets",
    "HUGGINGFACE_ASSETS_CACHE": "assets",
    "HF_DATASETS_CACHE": "datasets",
}
# Whether the hub may be asked: each of them can forbid it.
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def own_python(ours: Mapping[str, str], working: PurePath | None = None) -> dict[str, str]:
    """The environment in which a Python that we start finds its own modules and ours alone.

    Python 3.10 knows no PYTHONSAFEPATH: there the process must also work in a folder that holds no modules.
    working: our own working folder.
    """
    kept = {name: value for name, value in ours.items() if not name.startswith("PYTHON") or name in PYTHON_KEPT}
    home = _found_by_chance(ours, working or Path.cwd())
    return {**kept, "PYTHONSAFEPATH": "1", **({"PYTHONPATH": home} if home else {})}


def _found_by_chance(ours: Mapping[str, str], working: PurePath) -> str | None:
    """The folder with this program's packages, where it was found by PYTHONPATH or in the working folder alone."""
    home = Path(runner.__path__[0]).resolve().parent
    named = [Path(entry) for entry in ours.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return str(home) if home in {path.resolve() for path in (*named, Path(working))} else None


def hub_folders(home: str, work: str) -> dict[str, str]:
    """Every variable that says where Hugging Face's libraries keep things. home: HF_HOME; work: a folder of the job's.

    The login of the machine's owner (`token` and `stored_tokens` beside it) is looked for in `work`, and not there.
    """
    return {
        "HF_HOME": home,
        **{name: f"{home}/{folder}" for name, folder in HUB_CACHES.items()},
        **{name: f"{work}/{folder}" for name, folder in WORK_CACHES.items()},
        **no_login(work),
    }


def hub_environment(home: str, work: str, *, online: bool) -> dict[str, str]:
    """All that a container must be told of the hub: what it leaves out, its image's own ENV may say otherwise."""
    return {**hub_folders(home, work), **dict.fromkeys(OFFLINE, "0" if online else "1")}


def no_login(work: str) -> dict[str, str]:
    """What keeps a stored login of the machine's owner from being looked for: a job has the token it is given."""
    return {"HF_TOKEN_PATH": f"{work}/login/token", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
