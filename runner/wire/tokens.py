"""The environment variables that may hold a Hugging Face token: the one declaration of them.

The first that is set is taken. No other process is given any of them: `orchestrator.children` takes them out.
Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables; ACCESS_TOKEN is the Lambda
benchmark's, HF_AUTH_TOKEN and HUGGINGFACE_TOKEN are those of other tools' documents.
"""

from __future__ import annotations

TOKEN_VARIABLES = ("HF_TOKEN", "ACCESS_TOKEN", "HF_AUTH_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
