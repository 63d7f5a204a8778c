#!/usr/bin/env python3
"""What vectors point to: the nearest tokens of each layer's vector, norms, cosines of pairs, singular values.

    scripts/plot/logit_lens.py results/experiments/logit_lens/<Model>/<dataset> [--out logit_lens.png]
"""
import argparse

from common import BLUE, DIVERGING, grid, load_json, plt, save, style, token_line


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--out", help="default logit_lens.png in the folder")
    args = parser.parse_args()
    data = load_json(f"{args.folder}/logit_lens.json")
    rows = [row for row in data["layers"] if row["norm"] > 0]
    layers = [row["layer"] for row in rows]

    style()
    height = 3.2 + 0.28 * len(rows)
    figure = plt.figure(figsize=(12, height + 0.6))
    parts = figure.add_gridspec(2, 3, height_ratios=[2.6, 0.28 * len(rows) + 0.5], hspace=0.45, wspace=0.35)
    norms, cosines, values = (figure.add_subplot(parts[0, i]) for i in range(3))
    table = figure.add_subplot(parts[1, :])
    norms.bar(layers, [row["norm"] for row in rows], color=BLUE)
    norms.set_title("length of the vector")
    norms.set_xlabel("layer")
    norms.set_xticks(layers if len(layers) <= 14 else layers[::4])
    grid(norms)
    matrix = [[value if value is not None else float("nan") for value in line] for line in data["cosines"]]
    image = cosines.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1)
    cosines.set_title("cosines of pairs")
    cosines.set_xlabel("layer")
    cosines.spines[:].set_visible(False)
    figure.colorbar(image, ax=cosines, fraction=0.046)
    singular = data["singular_values"]
    values.plot(range(1, len(singular) + 1), singular, "o-", color=BLUE, markersize=4)
    rank = data["stable_rank"]
    values.set_title("singular values" + (f", stable rank {rank:.2f} of {len(singular)}" if rank is not None else ""))
    values.set_xticks(range(1, len(singular) + 1, max(1, len(singular) // 8)))
    values.set_ylim(bottom=0)
    grid(values)

    table.axis("off")
    table.set_title("tokens by cosine with the unembedding: nearest, then farthest")
    table.set_xlim(0, 1)
    table.set_ylim(len(rows), 0)
    for i, row in enumerate(rows):
        table.text(0, i + 0.5, f"{row['layer']}", va="center", weight="bold", fontsize=9)
        for side, (key, colour) in enumerate((("top_cosine", "#1b5e96"), ("bottom_cosine", "#9c2f3f"))):
            table.text(0.03 + 0.5 * side, i + 0.5, token_line(row[key], 62), va="center", fontsize=8, color=colour, family=["DejaVu Sans Mono"], clip_on=True)
    save(figure, args.out or f"{args.folder}/logit_lens.png")


if __name__ == "__main__":
    main()
