#!/usr/bin/env python3
"""The model asked what a vector means: how strongly the vector is still there at the end of the question, how sure the model is, what it says.

    scripts/plot/self_explain.py results/experiments/self_explain/<Model>/<dataset> [--layers 0,1] [--out self_explain.png]
"""
import argparse
import textwrap

from common import grid, load_json, plt, save, style


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--layers", help="layers whose answers are printed (default: four, spread)")
    parser.add_argument("--out", help="default self_explain.png in the folder")
    args = parser.parse_args()
    data = load_json(f"{args.folder}/self_explain.json")
    answers = data["answers"]
    layers = list(dict.fromkeys(a["layer"] for a in answers))
    shown = [int(l) for l in args.layers.split(",")] if args.layers else layers[:: max(1, -(-len(layers) // 4))]
    colours = plt.get_cmap("viridis")

    style()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), gridspec_kw={"width_ratios": [1, 1, 1.5]})
    for k, layer in enumerate(layers):
        rows = sorted((a for a in answers if a["layer"] == layer), key=lambda a: a["alpha"])
        colour = colours(0.9 * k / max(1, len(layers) - 1))
        label = f"layer {layer}" if len(layers) <= 8 or layer in shown else None
        points = [(a["alpha"], a["cosine"]) for a in rows if a["cosine"] is not None]
        left.plot([p[0] for p in points], [p[1] for p in points], "o-", color=colour, markersize=4, label=label)
        middle.plot([a["alpha"] for a in rows], [a["entropy"] for a in rows], "o-", color=colour, markersize=4)
    left.set_title("cos(vector, last state of the prompt)")
    middle.set_title("entropy of the next token (nats)")
    for axis in (left, middle):
        axis.set_xlabel("length α of the vector put in place of X")
        grid(axis)
    left.legend(fontsize=8.5)
    right.axis("off")
    right.set_title(f"answers to: {data['question']}")
    lines = []
    for layer in shown:
        rows = sorted((a for a in answers if a["layer"] == layer), key=lambda a: a["alpha"])
        for a in (rows[len(rows) // 2], rows[-1]):
            text = textwrap.shorten(a["text"].replace("\n", " ⏎ "), 110, placeholder=" …")
            lines += textwrap.wrap(f"layer {layer}, α {a['alpha']:g}: {text}", 74, subsequent_indent="      ")
    right.text(0, 0.98, "\n".join(line.replace("$", r"\$") for line in lines), va="top", fontsize=8, family=["DejaVu Sans Mono"], transform=right.transAxes)
    figure.tight_layout()
    save(figure, args.out or f"{args.folder}/self_explain.png")


if __name__ == "__main__":
    main()
