#!/usr/bin/env python3
"""Vectors of one model in another: accuracy of each recipient with each donor's vectors, raw and as a share of what its own vectors gain.

    scripts/plot/exchange_svs.py results/experiments/exchange_svs/<Model>/<dataset> [--own RECIPIENT=DONOR ...] [--out exchange_svs.png]

Right: (accuracy - base) / (own - base), row by row; a recipient's own vectors are the donor of the same name, or what --own says.
"""
import argparse

from common import DIVERGING, SEQUENTIAL, accuracy, plt, problems, save, style, variants


def heat(axis, values, texts, rows, columns, **look):
    image = axis.imshow(values, aspect="auto", **look)
    axis.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            red, green, blue, _ = image.cmap(image.norm(values[i][j]))
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
            axis.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--own", nargs="*", default=[], metavar="RECIPIENT=DONOR")
    parser.add_argument("--out", help="default exchange_svs.png in the folder")
    args = parser.parse_args()
    own = dict(pair.split("=", 1) for pair in args.own)
    found = {(v["recipient"], v["donor"]): seeds for v, seeds in variants(args.folder, free={"model_sha256"})}
    recipients = list(dict.fromkeys(r for r, _ in found))
    donors = sorted({d for _, d in found if d is not None})
    points = {key: accuracy(seeds) for key, seeds in found.items()}
    columns = ["(base)"] + donors
    nan = float("nan")
    raw = [[points.get((r, d), (nan,))[0] for d in [None] + donors] for r in recipients]
    texts = [[f"{p[0]:.1f}\n± {(p[2] - p[1]) / 2:.1f}" if (p := points.get((r, d))) else "" for d in [None] + donors] for r in recipients]
    share = []
    for r, row in zip(recipients, raw):
        mine = own.get(r, r)
        gain = row[columns.index(mine)] - row[0] if mine in columns else nan
        share.append([(v - row[0]) / gain if gain else nan for v in row[1:]])
    normalised = any(v == v for row in share for v in row)

    style()
    figure, axes = plt.subplots(1, 2 if normalised else 1, figsize=((1.6 + 1.05 * len(columns)) * (2 if normalised else 1), 1.6 + 0.7 * len(recipients)), squeeze=False)
    heat(axes[0][0], raw, texts, recipients, columns, cmap=SEQUENTIAL, vmin=0, vmax=100)
    axes[0][0].set_title("accuracy (%)")
    axes[0][0].set_ylabel("recipient")
    if normalised:
        heat(axes[0][1], share, [[f"{v:.2f}" if v == v else "–" for v in row] for row in share], recipients, donors, cmap=DIVERGING, vmin=-1, vmax=1)
        axes[0][1].set_title("share of the gain of its own vectors")
    for axis in axes[0]:
        axis.set_xlabel("donor of the vectors")
    seeds = next(iter(found.values()))
    figure.suptitle(f"{problems(seeds)}; ± {'std over seeds' if len(seeds) > 1 else 'half of the 95 % interval'}", x=0.02, ha="left", fontsize=10)
    figure.tight_layout()
    save(figure, args.out or f"{args.folder}/exchange_svs.png")


if __name__ == "__main__":
    main()
