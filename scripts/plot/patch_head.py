#!/usr/bin/env python3
"""Which heads of the last layer does the vector before it need? Accuracy with one head left without it, and with one head alone given it.

    scripts/plot/patch_head.py results/experiments/patch_head/<Model>/<dataset> [--last PATH] [--out patch_head.png]

One panel for each kind of patch found (Skip-Head, Steer-Head, and q, k, v swaps); dashed lines: the vector where it was (no patch), Skip-Attn,
Skip-Layer, base, and with --last the vector of the last layer. A folder of patch_head_path gives one curve for each path.
"""
import argparse

from common import BLUE, COLOURS, GREEN, GREY, ORANGE, PURPLE, RED, accuracy, alike, evaluation, fail, grid, plt, problems, save, spread, style, variants

WHOLE = {"no_patch": ("no patch", BLUE), "skip_attn": ("Skip-Attn", ORANGE), "skip_layer": ("Skip-Layer", GREEN), "base": ("base", GREY),
         "steer_all_v": ("all v steered", PURPLE), "skip_all_v": ("all v plain", RED)}


def title(kind):
    mode, _, what = kind.partition("_")
    what = {"head": "Head", "kv": "KV group"}.get(what, what)
    return f"{mode.capitalize()}-{what}: " + ("all steered but this one" if mode == "skip" else "only this one steered")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--last", metavar="PATH", help="evaluation of the last layer's own vector")
    parser.add_argument("--out", help="default patch_head.png in the folder")
    args = parser.parse_args()
    found = variants(args.folder)
    kinds = list(dict.fromkeys(v["kind"] for v, _ in sorted(found, key=lambda x: ("head" not in x[0]["kind"], x[0]["kind"])) if v["kind"] not in WHOLE))
    paths = [path for path in ("both", "residual", "mlp") if any(v["path"] == path for v, _ in found)]
    if not kinds:
        fail(f"{args.folder} holds no variant with heads", "run patch_head with --variants skip_head,steer_head")
    lines = [(*WHOLE[v["kind"]], accuracy(seeds)) for v, seeds in found if v["kind"] in WHOLE and v["path"] == "both"]
    if args.last:
        alike([("patched", found[0][1]), ("last", evaluation(args.last))])
        lines.append(("last layer's vector", "#222222", accuracy(evaluation(args.last))))

    style()
    columns = min(len(kinds), 3)
    rows = -(-len(kinds) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.3 * columns + 0.8, 3.1 * rows), squeeze=False, sharey=True)
    flat = [axis for row in axes for axis in row]
    lows, highs = [], []
    for axis, kind in zip(flat, kinds):
        for k, path in enumerate(paths):
            points = sorted((v["head"], accuracy(seeds)) for v, seeds in found if v["kind"] == kind and v["path"] == path)
            if not points:
                continue
            x, y = [h for h, _ in points], [p[0] for _, p in points]
            lows += [p[1] for _, p in points]
            highs += [p[2] for _, p in points]
            axis.errorbar([h + 0.08 * (k - (len(paths) - 1) / 2) for h in x], y, [[p[0] - p[1] for _, p in points], [p[2] - p[0] for _, p in points]], fmt="o-",
                          color=COLOURS[k % len(COLOURS)] if len(paths) > 1 else "#222222", markersize=4, linewidth=1.3, elinewidth=0.8, capsize=2.5,
                          label={"both": "to both", "residual": "to the residual stream", "mlp": "to the MLP"}[path])
            axis.set_xticks(x if len(x) <= 16 else x[::2])
        for name, colour, point in lines:
            outside = " (below)" if name == "base" else ""
            axis.axhline(point[0], color=colour, linestyle="--", linewidth=1.2, label=f"{name} {point[0]:.1f}{outside}")
        axis.set_xlabel("key/value head" if kind.split("_")[1] in ("k", "v", "kv") else "head")
        axis.set_title(title(kind), fontsize=9.5)
        grid(axis)
    for axis in flat[len(kinds):]:
        axis.axis("off")
    lows += [p[0] for name, _, p in lines if name != "base"]  # the base may be far below: its line would flatten all else
    highs += [p[0] for name, _, p in lines if name != "base"]
    margin = 0.08 * (max(highs) - min(lows)) + 0.5
    flat[0].set_ylim(max(0, min(lows) - margin), max(highs) + margin)
    for row in axes:
        row[0].set_ylabel("accuracy (%)")
    figure.suptitle(f"The vector before the last layer, patched: {' or '.join(dict.fromkeys(problems(seeds) for _, seeds in found))}, {spread(found[0][1])}" + ("; patched attention goes" if len(paths) > 1 else ""),
                    x=0.02, ha="left", fontsize=10.5)
    figure.tight_layout()
    handles, labels = flat[0].get_legend_handles_labels()
    kept = [(h, l) for h, l in zip(handles, labels) if len(paths) > 1 or not l.startswith("to ")]
    figure.legend(*zip(*kept), loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, args.out or f"{args.folder}/patch_head.png")


if __name__ == "__main__":
    main()
