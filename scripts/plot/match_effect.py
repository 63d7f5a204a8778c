#!/usr/bin/env python3
"""Does a vector at layer l change layer k as k's own vector would?

    scripts/plot/match_effect.py results/experiments/match_effect/<Model>/<dataset> [--pairs PAIR_SINGLE_FOLDER] [--out match_effect.png]

Above: the three L x L matrices. With --pairs (a folder of pair_single): diff_vector against the accuracy of the pair, that accuracy over the better
single one, and |l - k|, with Pearson's r. Below: cosines of the mean change after the last layer with the tokens, and the nearest of them.
"""
import argparse

from common import BLUE, DIVERGING, accuracy, fail, grid, load_json, plt, save, style, token_line, variants

NAMES = [("diff_vector", "change and own vector:\nmean cos(Δh, s_k)"), ("diff_diff", "the same at all positions?\nmean cos(Δh, mean Δh)"),
         ("mean_vector", "mean change and own vector:\ncos(mean Δh, s_k)")]


def pearson(x, y):
    n, mx, my = len(x), sum(x) / len(x), sum(y) / len(y)
    size = (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x) if n > 1 and any(a != mx for a in x) else 0
    return (sum((a - mx) * (b - my) for a, b in zip(x, y)) / size if size else float("nan")), slope, my - slope * mx


def scatter(axis, points, label):
    x, y = [p[0] for p in points], [p[1] for p in points]
    axis.plot(x, y, "o", color=BLUE, markersize=5, alpha=0.75)
    axis.set_xlabel(label)
    axis.set_ylabel("diff_vector")
    if len(points) > 2:
        r, slope, at = pearson(x, y)
        axis.plot([min(x), max(x)], [at + slope * min(x), at + slope * max(x)], color="#888888", linewidth=1)
        axis.set_title(f"r = {r:.2f}, n = {len(points)}")
    grid(axis)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--pairs", metavar="PAIR_SINGLE_FOLDER")
    parser.add_argument("--out", help="default match_effect.png in the folder")
    args = parser.parse_args()
    data = load_json(f"{args.folder}/match_effect.json")
    layers, final = data["layers"], data["final"]
    style()
    rows = 3 if args.pairs else 2
    figure = plt.figure(figsize=(12.5, 3.9 * (rows - 1) + max(2.4, 0.6 + 0.26 * len(layers))))
    parts = figure.add_gridspec(rows, 3, height_ratios=[3.6] * (rows - 1) + [max(2.2, 0.5 + 0.26 * len(layers))], hspace=0.45, wspace=0.45)
    for i, (key, title) in enumerate(NAMES):
        axis = figure.add_subplot(parts[0, i])
        matrix = [[v if v is not None else float("nan") for v in row] for row in data[key]]
        axis.set_facecolor("#f1f1f1")  # nothing changes below the vector
        image = axis.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1, aspect="equal" if len(layers) == len(matrix[0]) else "auto")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("layer k looked at")
        axis.set_ylabel("layer l of the vector")
        axis.set_yticks(range(len(layers)), layers)
        axis.set_xticks(range(len(matrix[0])) if len(matrix[0]) <= 14 else range(0, len(matrix[0]), 4))
        for a, row in enumerate(matrix if len(layers) <= 8 and len(matrix[0]) <= 12 else []):
            for b, value in enumerate(row):
                if value == value:
                    axis.text(b, a, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if abs(value) > 0.6 else "black")
        figure.colorbar(image, ax=axis, fraction=0.046)
    if args.pairs:
        row = next(iter(next(iter(variants(args.pairs)[0][1].values())).values()))
        differs = [key for key in ("model_sha256", "vectors_sha256") if data.get("made_with", {}).get(key) != row.get("made_with", {}).get(key)]
        if differs:
            fail(f"{args.folder} and {args.pairs} were not made alike: {', '.join(differs)}", "run pair_single with the model and the vectors of match_effect")
        found = {(v["i"], v["j"]): accuracy(seeds)[0] for v, seeds in variants(args.pairs)}
        pairs = [(data["diff_vector"][a][k], l, k) for a, l in enumerate(layers) for k in range(l + 1, len(data["diff_vector"][a])) if data["diff_vector"][a][k] is not None and (l, k) in found]
        scatter(figure.add_subplot(parts[1, 0]), [(found[l, k], d) for d, l, k in pairs], "accuracy of the pair (%)")
        scatter(figure.add_subplot(parts[1, 1]), [(found[l, k] - max(found[l, l], found[k, k]), d) for d, l, k in pairs if (l, l) in found and (k, k) in found],
                "accuracy of the pair over the better one (points)")
        scatter(figure.add_subplot(parts[1, 2]), [(k - l, d) for d, l, k in pairs], "distance k − l")
    axis = figure.add_subplot(parts[rows - 1, 0])
    for i, row in enumerate(final):
        h = row["histogram"]
        width = (h["high"] - h["low"]) / len(h["counts"])
        top = max(h["counts"])
        x = [h["low"] + (k + 0.5) * width for k in range(len(h["counts"]))]
        axis.fill_between(x, [len(final) - 1 - i] * len(x), [len(final) - 1 - i + 0.85 * c / top for c in h["counts"]], color=BLUE, alpha=0.7, linewidth=0)
    axis.set_yticks(range(len(final)), [row["layer"] for row in reversed(final)])
    axis.set_ylabel("layer of the vector")
    axis.set_xlabel("cosine of the final mean Δh with each token")
    axis.axvline(0, color="#888888", linewidth=0.8)
    table = figure.add_subplot(parts[rows - 1, 1:])
    table.axis("off")
    table.set_title("tokens nearest to it, then farthest from it")
    table.set_ylim(len(final), 0)
    for i, row in enumerate(final):
        table.text(0, i + 0.5, f"{row['layer']}", va="center", weight="bold", fontsize=9)
        for side, (key, colour) in enumerate((("top_cosine", "#1b5e96"), ("bottom_cosine", "#9c2f3f"))):
            table.text(0.04 + 0.49 * side, i + 0.5, token_line(row[key], 38), va="center", fontsize=8, color=colour, family=["DejaVu Sans Mono"], clip_on=True)
    figure.suptitle(f"One vector's effect on later layers, {data['problems']} problems", x=0.09, y=0.94 if rows == 3 else 0.96, ha="left", fontsize=10.5)
    save(figure, args.out or f"{args.folder}/match_effect.png")


if __name__ == "__main__":
    main()
