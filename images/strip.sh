#!/bin/sh
# Removes from a venv what no run reads: the packages' own tests, PyTorch's test programs, pip.
# Bytecode stays: a container's root is read-only, so each start would compile it again (docs/images.md has the figures).
set -eu
venv=$1
"$venv/bin/pip" uninstall --quiet --yes pip
find "$venv/lib" -type d \( -name tests -o -path '*/torch/test' -o -path '*/onnx/backend/test' \) -prune -exec rm -rf {} +
find "$venv/lib" -path '*/torch/bin/*' -type f \( -iname '*test*' -o -name 'protoc*' \) -delete
