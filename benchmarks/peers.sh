#!/usr/bin/env bash
# Makes an environment with timecell and every peer it is measured against:
#
#     benchmarks/peers.sh .venv-peers                     # two or three minutes, 2.5 GB
#     python -m benchmarks --peers .venv-peers/bin/python # see benchmarks/README.md
#
# PYTHON=python3.12 says which Python makes it. Torch goes in first, as its CPU build, and the constraints keep it:
# nothing below may replace it. Versions are those of the published table.
set -euo pipefail
place=${1:?usage: benchmarks/peers.sh FOLDER}
root=$(cd "$(dirname "$0")/.." && pwd)

[ -x "$place/bin/python" ] || "${PYTHON:-python3}" -m venv "$place"
pip=("$place/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$root/constraints.txt")

"${pip[@]}" --retries 1 --timeout 10 --extra-index-url https://download.pytorch.org/whl/cpu torch
"${pip[@]}" --editable "$root[bench]"

# These ask for torchvision and torchaudio, whose registry builds do not load beside torch's CPU build, and which neurons
# do not need: without dependencies, and then those that they do need. (pip remarks on it.)
"${pip[@]}" --no-deps spikingjelly==2.0.0 norse==1.1.0
"${pip[@]}" loguru tensorboard

for module in snntorch spikingjelly.activation_based.neuron norse.torch DCLS.construct.modules spyx.nn reservoirpy.nodes \
    mambapy.pscan; do
    "$place/bin/python" -W ignore -c "import $module" || { echo "peers: $module does not load" >&2; exit 1; }
done
