#!/usr/bin/env python3
"""Do two trainings find the same vectors? Cosine of each layer's vectors from two seeds, beside what each of them reaches.

    scripts/plot/seed_alignment.py VECTORS_A VECTORS_B [--all VECTORS] [--accuracy PATH_A PATH_B] [--out results/seed_alignment.png]

VECTORS: steering_vectors.safetensors files below results/steering_vectors/ (row l: layer l). --all: vectors of all layers trained together, compared
with both. --accuracy: folders of pair_single (its diagonal) or of single layers (see layers.py) of the two, for bars of |difference|. Right:
the cosine as the coordinate whose removal raises it most is dropped, again and again: how few coordinates spoil it?
"""
import argparse

from common import BLUE, COLOURS, GREEN, ORANGE, accuracy, alike, cosine, fail, grid, load_vectors, plt, save, style
from layers import single_layers


def dropped(a, b, most):
    """Cosines after 0, 1, ... most coordinates are gone, the most harmful one first."""
    a, b = list(a), list(b)
    dot, aa, bb = sum(x * y for x, y in zip(a, b)), sum(x * x for x in a), sum(y * y for y in b)
    found = [dot / (aa * bb) ** 0.5] if aa * bb > 0 else []
    while found and len(found) <= most and len(a) > 1:
        without = lambda i: (dot - a[i] * b[i]) / ((aa - a[i] ** 2) * (bb - b[i] ** 2)) ** 0.5 if (aa - a[i] ** 2) * (bb - b[i] ** 2) > 0 else -2
        i = max(range(len(a)), key=without)
        found.append(without(i))
        x, y = a.pop(i), b.pop(i)
        dot, aa, bb = dot - x * y, aa - x * x, bb - y * y
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--all")
    parser.add_argument("--accuracy", nargs=2, metavar="PATH")
    parser.add_argument("--drop", type=int, default=40, help="coordinates to drop (default 40)")
    parser.add_argument("--out", default="results/seed_alignment.png")
    args = parser.parse_args()
    a, b = load_vectors(args.a), load_vectors(args.b)
    together = load_vectors(args.all) if args.all else None
    if len(a) != len(b) or len(a[0]) != len(b[0]) or (together and len(together) != len(a)):
        fail(f"{args.a} and {args.b} hold vectors of different shapes", "compare vectors of one model")
    layers = [l for l in range(len(a)) if any(a[l]) and any(b[l])]

    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7), gridspec_kw={"width_ratios": [1.5, 1]})
    left.plot(layers, [cosine(a[l], b[l]) for l in layers], "o-", color=BLUE, label="seed against seed")
    if together:
        left.plot(layers, [cosine(a[l], together[l]) for l in layers], "s--", color=ORANGE, markersize=4, label="first against all layers")
        left.plot(layers, [cosine(b[l], together[l]) for l in layers], "^--", color=GREEN, markersize=4, label="second against all layers")
    noise = 2 / len(a[0]) ** 0.5
    left.axhspan(-noise, noise, color="#999999", alpha=0.18, linewidth=0, label=f"chance (±2/√{len(a[0])})")
    left.axhline(0, color="#888888", linewidth=0.8)
    left.set_ylim(-0.35, 1.05)
    left.set_xticks(layers if len(layers) <= 14 else layers[::2])
    left.set_xlabel("layer")
    left.set_ylabel("cosine")
    left.set_title("The same vector twice?")
    grid(left)
    handles, labels = left.get_legend_handles_labels()
    if args.accuracy:
        found = [single_layers(path, None) for path in args.accuracy]
        both = [l for l in layers if l in found[0] and l in found[1]]
        alike([(f"{path}, layer {l}", layer[l]) for path, layer in zip(args.accuracy, found) for l in both])
        bars = left.twinx()
        drawn = bars.bar(both, [abs(accuracy(found[0][l])[0] - accuracy(found[1][l])[0]) for l in both], 0.35, color="#bbbbbb", zorder=0)
        bars.set_ylabel("|difference of accuracy| (points)")
        bars.set_ylim(0, 4 * max([bar.get_height() for bar in drawn] + [1]))
        left.set_zorder(bars.get_zorder() + 1)
        left.patch.set_visible(False)
        handles, labels = handles + [drawn], labels + ["accuracies apart"]
    left.legend(handles, labels, fontsize=8.5, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3)
    shown = layers if len(layers) <= 6 else layers[:: max(1, len(layers) // 6)]
    for k, l in enumerate(shown):
        right.plot(dropped(a[l], b[l], args.drop), color=COLOURS[k % len(COLOURS)], linewidth=1.6, label=f"layer {l}")
    right.set_xlabel(f"coordinates dropped, of {len(a[0])}")
    right.set_ylabel("cosine of the rest")
    right.set_title("How few coordinates spoil it")
    right.legend(fontsize=8.5)
    grid(right)
    figure.tight_layout()
    save(figure, args.out)


if __name__ == "__main__":
    main()
