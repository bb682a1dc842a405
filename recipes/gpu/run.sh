#!/usr/bin/env bash
# Check sarstack on a GPU, then train with the time that is left. See README.md.
#
#     recipes/gpu/run.sh SECONDS OUT           # on a machine with a GPU
#     recipes/gpu/run.sh SECONDS OUT --small   # the same steps on a CPU, in two minutes
#
# Environment: PYTHON (python3), DATA (file of packed_data.py), SCHEDULES (despecknet despecknet-mt),
# STEPS (of check.py; default: all).
set -u
if [ $# -lt 2 ]; then sed -n '2,9p' "$0"; exit 2; fi
began=$(date +%s)
budget=$1 out=$2 small=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$out" && out=$(cd "$out" && pwd)
export PYTHONUNBUFFERED=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

left() { echo $((budget - $(date +%s) + began)); }

if compgen -G "$here/wheels/*.whl" > /dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$here"/wheels/*.whl || exit 1
    export PYTHONPATH="$root:$site${PYTHONPATH#"$root"}"
fi

"$python" "$here/check.py" "$out" --seconds "$(left)" ${STEPS:+--only "$STEPS"} $small
failed=$?

# Brought back even if the machine is taken away: checkpoints and curves are written while training.
train=$root/recipes/train_despecknet
if [ -n "$small" ]; then
    "$python" "$train/train_on_device.py" "$out/smoke" --schedule "$train/schedules/smoke.yaml" \
        --processes 1 --device cpu --set training.steps=4 || failed=1
else
    set -- ${SCHEDULES:-despecknet despecknet-mt}
    while [ $# -gt 0 ]; do
        seconds=$(( $(left) / $# ))
        # To start and to compile takes more than half a minute.
        if [ $seconds -lt 60 ]; then echo "no time is left to train $*"; break; fi
        timeout $((seconds + 30)) "$python" "$train/train_on_device.py" "$out/$1" \
            --schedule "$train/schedules/$1.yaml" --seconds $seconds ${DATA:+--data "$DATA"} || failed=1
        shift
    done
fi
echo "results in $out"
exit $failed
