#!/usr/bin/env python3
"""How the cost grows: tokens per second over the batch, the lengths and the threads, from what `make bench` measured.

    scripts/plot/bench.py results/bench/<Model>/growth.jsonl [--out growth.png]

Solid lines are measured, thin dashed ones the machine's limit for the same work (see llmc/eval/bench.h).
"""
import argparse
import json
import math
import sys

from common import plt

from results import put

COLOURS = {"prefill": "#2f6db3", "decode": "#d9822b", "forward": "#4f9d69", "forward_backward": "#9a5fb0", "grpo_step": "#b04a5a"}
PANELS = [("batch", "batch", "sequences at once"), ("prompt_length", "prompt_length", "tokens of the prompt"),
          ("new_tokens", "new_tokens", "tokens of the completion"), ("threads", "threads", "threads")]


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    except OSError as error:
        sys.exit(f"error: cannot read {path}: {error.strerror}")
    except ValueError as error:
        sys.exit(f"error: {path}: not JSON lines: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", metavar="GROWTH.jsonl")
    parser.add_argument("--out", default="growth.png")
    args = parser.parse_args()
    rows = read(args.file)
    panels = [p for p in PANELS if any(r["sweep"] == p[0] for r in rows)]
    if not panels:
        sys.exit(f"error: {args.file} has no line of a known sweep\n  -> make it with `make bench`")

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888"})
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels), 3.6), squeeze=False)
    for axis, (sweep, key, label) in zip(axes[0], panels):
        here = [r for r in rows if r["sweep"] == sweep]
        if sweep == "new_tokens":  # a longer completion changes nothing before its first token
            here = [r for r in here if r["phase"] != "prefill"]
        for phase in dict.fromkeys(r["phase"] for r in here):
            points = sorted((r[key], r["tokens_per_s"], r["limit_tokens_per_s"]) for r in here if r["phase"] == phase)
            x, y, limit = zip(*points)
            axis.plot(x, y, "o-", color=COLOURS.get(phase, "#6b7280"), linewidth=2, markersize=4, label=phase)
            axis.plot(x, limit, "--", color=COLOURS.get(phase, "#6b7280"), linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        values = [r[k] for r in here for k in ("tokens_per_s", "limit_tokens_per_s")]
        axis.set_ylim(10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values))))  # or noise fills the panel
        ticks = sorted({r[key] for r in here})
        axis.set_xticks(ticks, [str(t) for t in ticks], rotation=45 if max(ticks) > 99 else 0)
        axis.minorticks_off()
        axis.set_xlabel(label)
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if axis is axes[0][-1] else {}
        axis.legend(frameon=False, fontsize=8, **beside)
    axes[0][0].set_ylabel("tokens per second")
    figure.tight_layout()
    put(args.out, lambda path: figure.savefig(path, dpi=160, bbox_inches="tight"))
    print(args.out)


if __name__ == "__main__":
    main()
