#!/usr/bin/env bash
# Fetch the wheels that a bare GPU machine lacks (Python 3.12, torch, numpy and scipy are there).
# Run it where there is a network. The wheels travel in recipes/gpu/wheels, some 50 MB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python3}" -m pip download --no-deps --only-binary=:all: --dest "$here/wheels" \
    --python-version "${VERSION:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --requirement "$here/wheels.txt"
