#!/usr/bin/env bash
# Fetch the wheels that a bare GPU machine lacks (Python 3.12, torch, numpy and scipy are there).
# Run it where there is a network. The wheels travel in recipes/gpu/wheels.
#
# Environment: PYTHON (python3), VERSION of Python there (3.12), SKIP: names that are there already,
# separated by blanks, for instance SKIP="pandas pillow fonttools matplotlib".
set -eu
here=$(cd "$(dirname "$0")" && pwd)
wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
names=" ${SKIP:-} "
while read -r line; do
    case "$names" in *" ${line%%==*} "*) ;; *) echo "$line" ;; esac
done < "$here/wheels.txt" > "$wanted"
mkdir -p "$here/wheels"
"${PYTHON:-python3}" -m pip download -q --no-deps --only-binary=:all: --dest "$here/wheels" \
    --python-version "${VERSION:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --requirement "$wanted"
du -sh "$here/wheels"
