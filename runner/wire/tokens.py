"""Declares the environment variables that may hold a Hugging Face token.

The first one that is set is used. No other process inherits any of them: `executors.children` removes them.
Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables; ACCESS_TOKEN is the Lambda
benchmark's, HF_AUTH_TOKEN and HUGGINGFACE_TOKEN are those of other tools' documents.
"""

from __future__ import annotations

TOKEN_VARIABLES = ("HF_TOKEN", "ACCESS_TOKEN", "HF_AUTH_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
