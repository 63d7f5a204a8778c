#!/usr/bin/env bash
# Makes .venv with what the picture scripts need (matplotlib). Does nothing where it works already; exit 1 where Python or the
# network is missing, after one line that says so.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -c 'import matplotlib' 2>/dev/null && exit 0
command -v python3 >/dev/null || { echo "no pictures: python3 is not installed" >&2; exit 1; }
python3 -m venv .venv >/dev/null 2>&1 || { echo "no pictures: python3 cannot make a virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }
.venv/bin/pip -q --disable-pip-version-check --retries 1 --timeout 15 install -r scripts/plot/requirements.txt >/dev/null 2>&1 ||
    { echo "no pictures: matplotlib could not be fetched (is there a network?)" >&2; exit 1; }
