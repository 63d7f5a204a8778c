#!/usr/bin/env python3
"""Accuracy against the factor on the vectors: 0 is the base model, 1 the vectors as trained.

    scripts/plot/magnitude.py results/experiments/magnitude/<Model>/<dataset> [--out magnitude.png]
"""
import argparse

from common import BLUE, GREY, accuracy, grid, plt, problems, save, spread, style, variants


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--out", help="default magnitude.png in the folder")
    args = parser.parse_args()
    rows = sorted((variant["magnitude"], seeds) for variant, seeds in variants(args.folder))

    style()
    figure, axis = plt.subplots(figsize=(7.4, 3.8))
    points = [accuracy(seeds) for _, seeds in rows]
    x, y = [f for f, _ in rows], [p[0] for p in points]
    axis.fill_between(x, [p[1] for p in points], [p[2] for p in points], color=BLUE, alpha=0.18, linewidth=0)
    axis.plot(x, y, "o-", color=BLUE, markersize=3.5, linewidth=1.8)
    for f, name in ((0, "base model"), (1, "as trained")):
        axis.axvline(f, color=GREY, linewidth=0.9, linestyle=":")
        axis.annotate(name, (f, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8.5, color="#555555")
    best = max(range(len(y)), key=lambda i: y[i])
    axis.annotate(f"{y[best]:.1f} % at {x[best]:g}", (x[best], y[best]), xytext=(-8, 0), textcoords="offset points", ha="right", fontsize=9)
    if max(x) > 3:
        axis.set_xscale("symlog", linthresh=1.5, linscale=1.1)  # the factors near 1 are the interesting ones
    ticks = [t for t in (-1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 5, 10) if min(x) <= t <= max(x)]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_ylim(bottom=0)
    axis.set_xlabel("factor on all vectors")
    axis.set_ylabel("accuracy (%)")
    grid(axis)
    seeds = rows[0][1]
    axis.set_title(f"{args.folder.rstrip('/').split('/')[-2]}: {problems(seeds)}, band: {spread(seeds)}", pad=18)
    save(figure, args.out or f"{args.folder}/magnitude.png")


if __name__ == "__main__":
    main()
