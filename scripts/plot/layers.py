#!/usr/bin/env python3
"""Accuracy of the vector trained alone at each layer, against the base model and the vectors of all layers.

    scripts/plot/layers.py results/eval/<Model>/<dataset> [--base PATH] [--all PATH] [--greedy PATH] [--benchmarks] [--out layers.png]

Reads steering_layer_<l>/seed-*/checkpoint-* below the folder (the last checkpoint of each, or --checkpoint N), or the diagonal of a folder of
pair_single. --benchmarks: one panel a benchmark instead of their mean.
"""
import argparse
import re
from pathlib import Path

from common import BLUE, GREY, ORANGE, accuracy, alike, evaluation, fail, grid, plt, problems, save, spread, style, variants


def single_layers(folder, checkpoint):
    """{layer: seeds}"""
    found = {}
    if list(Path(folder).glob("*/variant.json")):
        return {v["i"]: seeds for v, seeds in variants(folder) if v.get("i") == v.get("j")}
    for path in sorted(Path(folder).glob("steering_layer_*")):
        layer = re.fullmatch(r"steering_layer_(\d+)", path.name)
        checkpoints = sorted(path.glob("seed-*/checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        checkpoints = [c for c in checkpoints if checkpoint is None or c.name == f"checkpoint-{checkpoint}"]
        if layer and checkpoints:
            found[int(layer[1])] = evaluation(checkpoints[-1])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    for name, text in (("base", "the base model, sampled"), ("all", "vectors of all layers"), ("greedy", "the base model, greedy")):
        parser.add_argument(f"--{name}", metavar="PATH", help=text)
    parser.add_argument("--checkpoint", type=int)
    parser.add_argument("--benchmarks", action="store_true")
    parser.add_argument("--title")
    parser.add_argument("--out", help="default layers.png in the folder")
    args = parser.parse_args()
    layers = {l: s for l, s in sorted(single_layers(args.folder, args.checkpoint).items()) if s}
    if not layers:
        fail(f"{args.folder} holds no evaluated steering_layer_<l>", "evaluate the checkpoints first: ./eval_steer eval --checkpoint train_output/...")
    lines = [(name, evaluation(path), colour, dash) for name, path, colour, dash in
             (("base", args.base, GREY, "--"), ("base, greedy", args.greedy, GREY, ":"), ("all layers", args.all, ORANGE, "--")) if path]
    greedy = [(name, seeds) for name, seeds, _, _ in lines if name == "base, greedy"]
    alike([(f"layer {l}", seeds) for l, seeds in layers.items()] + [(name, seeds) for name, seeds, _, _ in lines if name != "base, greedy"])
    alike([("one layer", next(iter(layers.values())))] + greedy, free={"temperature"})

    style()
    names = list(next(iter(next(iter(layers.values())).values()))) if args.benchmarks else [None]
    figure, axes = plt.subplots(1, len(names), figsize=(max(4.6, 2 + 0.34 * len(layers), 2 + 0.21 * (max(layers) - min(layers))) * len(names), 3.6), squeeze=False)
    for axis, name in zip(axes[0], names):
        points = [(l, accuracy(seeds, name)) for l, seeds in layers.items()]
        points = [(l, p) for l, p in points if p]
        x, y = [l for l, _ in points], [p[0] for _, p in points]
        axis.errorbar(x, y, [[p[0] - p[1] for _, p in points], [p[2] - p[0] for _, p in points]], fmt="o-", color=BLUE, capsize=3, elinewidth=1, markersize=5, label="one layer")
        for label, seeds, colour, dash in lines:
            value = accuracy(seeds, name)
            if value:
                axis.axhline(value[0], color=colour, linestyle=dash, linewidth=1.4)
                axis.axhspan(value[1], value[2], color=colour, alpha=0.10, linewidth=0)
                axis.annotate(f"{label}  {value[0]:.1f}", (1.01, value[0]), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=colour)
        axis.set_xticks(x if len(x) <= 14 else x[::2])
        axis.set_xlabel("layer of the vector")
        axis.set_ylim(0, max([p[2] for _, p in points] + [accuracy(s, name)[2] for _, s, _, _ in lines if accuracy(s, name)]) * 1.06)
        grid(axis)
        if name:
            axis.set_title(name)
    axes[0][0].set_ylabel("accuracy (%)")
    seeds = next(iter(layers.values()))
    figure.suptitle(args.title or f"A vector for one layer alone: {problems(seeds)}, {spread(seeds)}", x=0.02, ha="left", fontsize=10.5)
    figure.tight_layout()
    save(figure, args.out or f"{args.folder}/layers.png")


if __name__ == "__main__":
    main()
