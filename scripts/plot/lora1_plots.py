#!/usr/bin/env python3
"""How strongly a rank-one LoRA acts: layer by token for one completion, and over all of them.

    scripts/plot/lora1_plots.py results/experiments/lora1_plots/<Model>/<dataset> [--sample 0] [--out lora1_plots.png]

Strength: (a . x)|b| over the mean length of down_proj's own output. The upper panel is one completion with the borders of its segments.
"""
import argparse

from common import BLUE, DIVERGING, GREY, ORANGE, fail, grid, load_json, plt, save, style, visible


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--out", help="default lora1_plots.png in the folder")
    args = parser.parse_args()
    data = load_json(f"{args.folder}/lora1_plots.json")
    if not 0 <= args.sample < len(data["samples"]):
        fail(f"--sample {args.sample}: the file holds {len(data['samples'])} samples")
    sample, layers = data["samples"][args.sample], data["layers"]
    numbers = [row["layer"] for row in layers]

    style()
    figure = plt.figure(figsize=(12.5, 7.6))
    parts = figure.add_gridspec(2, 3, height_ratios=[1.15, 1], hspace=0.55, wspace=0.3)
    top = figure.add_subplot(parts[0, :])
    flat = sorted(abs(v) for row in sample["strength"] for v in row)
    limit = flat[int(0.99 * (len(flat) - 1))] or 1
    image = top.imshow(sample["strength"], aspect="auto", cmap=DIVERGING, vmin=-limit, vmax=limit, interpolation="nearest")
    figure.colorbar(image, ax=top, fraction=0.02, pad=0.01, label="strength", extend="both")
    at = 0
    for name, count in sample["segments"]:
        top.axvline(at - 0.5, color="black", linewidth=1)
        if count > 0.03 * len(sample["tokens"]):
            top.annotate(name, (at - 0.3, 1.02), xycoords=("data", "axes fraction"), fontsize=8.5)
        at += count
    tokens = sample["tokens"]
    if len(tokens) <= 90:
        top.set_xticks(range(len(tokens)), [visible(t) for t in tokens], fontsize=7, rotation=0 if max(map(len, tokens)) < 3 else 90)
    top.set_yticks(range(len(numbers)) if len(numbers) <= 14 else range(0, len(numbers), 4))
    top.set_ylabel("layer")
    top.set_title(f"Completion {args.sample}: strength of the LoRA at each layer and token", pad=20)

    curve = figure.add_subplot(parts[1, 0])
    curve.plot(numbers, [row["mean"] for row in layers], "o-", color=BLUE, markersize=4, label="mean")
    curve.plot(numbers, [row["median"] for row in layers], "s--", color=ORANGE, markersize=4, label="median")
    curve.axhline(0, color="#888888", linewidth=0.8)
    curve.set_xlabel("layer")
    rank = data["stable_rank_b"]
    curve.set_title("strength over layers" + (f"; stable rank of b {rank:.2f} of {len(layers)}" if rank is not None else ""), fontsize=9.5)
    curve.legend(fontsize=8.5)
    grid(curve)

    histogram = figure.add_subplot(parts[1, 1])
    for i, row in enumerate(layers):
        width, most, base = (row["high"] - row["low"]) / len(row["counts"]), max(row["counts"]), len(layers) - 1 - i
        x = [row["low"] + (k + 0.5) * width for k in range(len(row["counts"]))]
        histogram.fill_between(x, [base] * len(x), [base + 0.9 * c / most for c in row["counts"]], color=BLUE, alpha=0.7, linewidth=0)
    histogram.set_yticks([len(layers) - 1 - i for i in range(len(layers))][:: 1 if len(layers) <= 14 else 4], numbers[:: 1 if len(layers) <= 14 else 4])
    histogram.axvline(0, color="#888888", linewidth=0.8)
    histogram.set_ylabel("layer")
    histogram.set_xlabel("strength")
    histogram.set_title(f"all {layers[0]['tokens']} tokens of {data['problems']} completions", fontsize=9.5)

    scatter = figure.add_subplot(parts[1, 2])
    chosen = max((row for row in layers if row["r"] is not None), key=lambda row: abs(row["r"]), default=layers[0])
    scatter.plot([p[0] for p in chosen["pairs"]], [p[1] for p in chosen["pairs"]], ".", color=GREY, markersize=3, alpha=0.6)
    scatter.set_xlabel("cos(hidden state, b)")
    scatter.set_ylabel("strength")
    r = ", ".join(f"{row['layer']}: {row['r']:.2f}" for row in layers if row["r"] is not None) if len(layers) <= 6 else ""
    scatter.set_title(f"layer {chosen['layer']}, r = {chosen['r'] if chosen['r'] is not None else float('nan'):.2f}" + (f"   (r by layer {r})" if r else ""), fontsize=9)
    grid(scatter)
    save(figure, args.out or f"{args.folder}/lora1_plots.png")


if __name__ == "__main__":
    main()
