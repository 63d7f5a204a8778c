#!/usr/bin/env python3
"""Accuracy with 95 % intervals, one group of bars a benchmark, one bar an evaluation (base, trained, control ...).

    scripts/plot/accuracy.py base=results/eval/... trained=results/eval/... [--out accuracy.png]

Each argument is NAME=PATH; the path is a metrics.json of `eval_steer eval` or a folder with exactly one in it.
"""
import argparse
import json
import sys
from pathlib import Path

from common import plt

from results import alike, put

COLOURS = ["#a3a9b2", "#2f6db3", "#d9822b", "#4f9d69", "#9a5fb0", "#b04a5a"]


def read_metrics(path):
    """Benchmark name -> its metrics."""
    files = sorted(Path(path).rglob("metrics.json")) if Path(path).is_dir() else [Path(path)]
    if len(files) != 1:
        sys.exit(f"error: {path} holds {len(files)} metrics.json, wanted one" + "".join(f"\n  {f}" for f in files))
    try:
        return {row["benchmark"]: row for row in json.loads(files[0].read_text(encoding="utf-8"))}
    except OSError as error:
        sys.exit(f"error: cannot read {files[0]}: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {files[0]} is not a metrics.json of eval_steer: {error!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("evaluations", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--out", default="accuracy.png")
    parser.add_argument("--title", default="Accuracy, with 95 % intervals")
    args = parser.parse_args()

    names = [e.partition("=")[0] for e in args.evaluations]
    metrics = [read_metrics(e.partition("=")[2] or e) for e in args.evaluations]
    alike([(name, {0: metric}) for name, metric in zip(names, metrics)], free={"model_sha256"}, some=True)
    benchmarks = list(dict.fromkeys(b for m in metrics for b in m))

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888"})
    width = 0.8 / len(names)
    figure, axis = plt.subplots(figsize=(max(4.2, 1.2 + 0.75 * len(benchmarks) * len(names)), 4))
    for i, (name, metric) in enumerate(zip(names, metrics)):
        at = [(x + (i - (len(names) - 1) / 2) * width, metric[b]) for x, b in enumerate(benchmarks) if b in metric]
        heights = [row["accuracy"] for _, row in at]
        errors = [[max(0, row["accuracy"] - row["ci_low"]) for _, row in at], [max(0, row["ci_high"] - row["accuracy"]) for _, row in at]]
        axis.bar([x for x, _ in at], heights, 0.94 * width, color=COLOURS[i % len(COLOURS)], label=name)
        axis.errorbar([x for x, _ in at], heights, errors, fmt="none", ecolor="#333333", elinewidth=1.2, capsize=4)
        for x, row in at:
            axis.annotate(f"{row['accuracy']:.1f}", (x, row["ci_high"]), xytext=(0, 3), textcoords="offset points", ha="center")
    axis.set_xticks(range(len(benchmarks)))
    sizes = [next((m[b]["n"], m[b].get("num_generations", 1)) for m in metrics if b in m) for b in benchmarks]
    axis.set_xticklabels([f"{b}\n{n} problems" + (f" × {g}" if g > 1 else "") for b, (n, g) in zip(benchmarks, sizes)])
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel("accuracy (%)")
    axis.set_ylim(0, min(108, 1.2 * max([row["ci_high"] for m in metrics for row in m.values()] + [5])))
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_title(args.title, loc="left", fontsize=11)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    put(args.out, lambda path: figure.savefig(path, dpi=160, bbox_inches="tight"))
    print(args.out)


if __name__ == "__main__":
    main()
