#!/usr/bin/env bash
# Makes .venv ready for timecell: tools/venv.sh [extra]      ("" = core, "dev" = tests, lint and types)
# Idempotent: does nothing when pyproject.toml and constraints.txt have not changed since the last time.
#   PYTHON=python3.12   which Python makes the environment
#   TORCH=cpu|cuda      torch's CPU build (default, some 200 MB) or the registry's own (on Linux: CUDA, gigabytes)
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:-}
python=${PYTHON:-python3}
torch=${TORCH:-cpu}

fail() { printf '\ntimecell setup: %s\n  Remedy: %s\n\n' "$1" "$2" >&2; exit 1; }

command -v "$python" >/dev/null || fail "found no '$python'." "install Python 3.11 or newer, or say which: PYTHON=python3.12 make demo"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "found Python $version, expected 3.11 or newer." "PYTHON=python3.12 make demo"
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python $version has no module venv." "sudo apt-get install python$version-venv"

stamp=".venv/.timecell-${extra:-core}-$torch-$(cat pyproject.toml constraints.txt | cksum | tr -dc 0-9)"
[ -e "$stamp" ] && exit 0

[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
echo "timecell setup: installing into .venv (once; a minute or two)"
pinned=$(grep '^torch==' constraints.txt)
case "$torch" in
  cpu) "${pip[@]}" --retries 1 --timeout 10 --extra-index-url https://download.pytorch.org/whl/cpu "$pinned" ;;
  cuda) "${pip[@]}" "$pinned" ;;
  *) fail "found TORCH=$torch, expected cpu or cuda." "TORCH=cpu make demo" ;;
esac
"${pip[@]}" --constraint constraints.txt --editable ".${extra:+[$extra]}"
touch "$stamp"
