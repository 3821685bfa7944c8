"""Finds, checks and loads models."""

import logging

# While diffusers is imported, these warn of features that no job uses: torchao's kernels for other GPUs and its enums,
# transformers' image processors without torchvision. Their errors are still printed.
for _name in ("torchao", "torch.utils._pytree", "transformers.utils.import_utils", "diffusers.quantizers.torchao"):
    logging.getLogger(_name).setLevel(logging.ERROR)
