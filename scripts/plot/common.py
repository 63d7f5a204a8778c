"""What the picture scripts of the experiments share: looks and colours, and by way of results.py the reading. Not a script."""
import os
import sys
from pathlib import Path

try:
    import matplotlib
except ImportError:  # it is in the repository's own environment, if anywhere
    python = Path(__file__).resolve().parents[2] / ".venv/bin/python"
    if Path(sys.prefix).resolve() == python.parents[1] or not python.exists():
        sys.exit("error: matplotlib is not installed\n  -> scripts/venv.sh puts it into .venv, where the picture scripts find it")
    os.execv(python, [str(python), *sys.argv])

matplotlib.use("Agg")  # draws to a file; no display needed
import matplotlib.pyplot as plt

from results import accuracy, alike, cosine, evaluation, fail, load_json, load_lines, load_vectors, problems, put, spread, token_line, unlike, variants, visible  # noqa: F401, for the scripts

GREY, BLUE, ORANGE, GREEN, PURPLE, RED = "#8a919c", "#2f6db3", "#d9822b", "#4f9d69", "#9a5fb0", "#b04a5a"
COLOURS = [BLUE, ORANGE, GREEN, PURPLE, RED, GREY]
SEQUENTIAL, DIVERGING = "viridis", "RdBu"  # the second around zero, blue above


def style():
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "axes.titlelocation": "left",
                         "axes.titlesize": 10.5, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 9})


def grid(axis, which="y"):
    axis.grid(axis=which, color="#dddddd", linewidth=0.6)


def save(figure, out):
    put(out, lambda path: figure.savefig(path, dpi=160, bbox_inches="tight"))
    print(out)
