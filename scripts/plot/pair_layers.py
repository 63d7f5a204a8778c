#!/usr/bin/env python3
"""Do two single-layer vectors add up? For every pair, the gain over the better one of the two, as a share of what all layers gain over it.

    scripts/plot/pair_layers.py results/experiments/pair_single/<Model>/<dataset> --all PATH|NUMBER [--by max|row|column] [--out pair_layers.png]

(acc_ij - max(acc_ii, acc_jj)) / (A_all - max(acc_ii, acc_jj)), A_all the accuracy of the vectors trained together; with --by row or column
the diagonal of the row or the column stands for the maximum. A cross: 0.99 or more. Percent are accuracies, of the single vector on the
diagonal. Where a single vector is about as good as all layers the share means little: see the accuracies.
"""
import argparse

from common import DIVERGING, accuracy, alike, evaluation, fail, plt, problems, save, style, variants


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--all", required=True, metavar="PATH|NUMBER", help="accuracy of the vectors of all layers, trained together")
    parser.add_argument("--by", choices=["max", "row", "column"], default="max")
    parser.add_argument("--out", help="default pair_layers.png in the folder")
    args = parser.parse_args()
    try:
        everything = float(args.all)
    except ValueError:
        alike([("pairs", variants(args.folder)[0][1]), ("all", evaluation(args.all))])
        point = accuracy(evaluation(args.all))
        everything = point[0] if point else fail(f"{args.all} holds no eval_seed-*/metrics.json")
    found = {(v["i"], v["j"]): accuracy(seeds)[0] for v, seeds in variants(args.folder)}
    layers = sorted({l for pair in found for l in pair})
    missing = [l for l in layers if (l, l) not in found]
    if missing:
        fail(f"{args.folder} lacks the single vectors of layers {missing}", "run pair_single over them too")
    n = len(layers)
    values = [[float("nan")] * n for _ in range(n)]
    for a, i in enumerate(layers):
        for b, j in enumerate(layers):
            pair = found.get((min(i, j), max(i, j)))
            best = {"max": max(found[i, i], found[j, j]), "row": found[i, i], "column": found[j, j]}[args.by]
            if i != j and pair is not None and everything != best:
                values[a][b] = (pair - best) / (everything - best)

    style()
    figure, axis = plt.subplots(figsize=(2.2 + 0.55 * max(n, 4), 1.6 + 0.5 * max(n, 4)))
    image = axis.imshow(values, cmap=DIVERGING, vmin=-1, vmax=1)
    for a in range(n):
        for b in range(n):
            if a == b:
                axis.text(b, a, f"{found[layers[a], layers[a]]:.0f} %", ha="center", va="center", fontsize=8, color="#555555")
            elif values[a][b] >= 0.99:
                axis.text(b, a, "×", ha="center", va="center", color="white", fontsize=13)
            elif n <= 10 and values[a][b] == values[a][b]:
                share = f"{values[a][b]:.2f}" if abs(values[a][b]) < 10 else "≪ 0" if values[a][b] < 0 else "≫ 1"
                pair = found[min(layers[a], layers[b]), max(layers[a], layers[b])]
                axis.text(b, a, f"{share}\n{pair:.0f} %", ha="center", va="center", fontsize=8, color="white" if abs(values[a][b]) > 0.6 else "black")
    axis.set_xticks(range(n), layers)
    axis.set_yticks(range(n), layers)
    axis.set_xlabel("layer j")
    axis.set_ylabel("layer i")
    axis.spines[:].set_visible(False)
    over = {"max": "the better of the two", "row": "the row's vector", "column": "the column's vector"}[args.by]
    figure.colorbar(image, label=f"gain over {over}\n(1: as all layers together)", shrink=0.9, extend="both")
    seeds = variants(args.folder)[0][1]
    axis.set_title(f"Pairs of vectors; diagonal and percent: accuracy\nall layers together: {everything:.1f} %; {problems(seeds)}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
    save(figure, args.out or f"{args.folder}/pair_layers.png")


if __name__ == "__main__":
    main()
