#!/usr/bin/env python3
"""What the vector before the last layer makes likelier through which part of that layer: one row for each variant.

    scripts/plot/pre_last_layer_steering.py results/experiments/pre_last_layer_steering/<Model>/<dataset> [--html PAGE.html] [--out pre_last_layer_steering.png]

--html also writes a page with the completions, tokens coloured by KL.
"""
import argparse
from pathlib import Path

import effect
from common import fail, plt, save, style, unlike


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--by", choices=["mean", "max"], default="mean")
    parser.add_argument("--html", metavar="PAGE.html")
    parser.add_argument("--out", help="default pre_last_layer_steering.png in the folder")
    args = parser.parse_args()
    found = [(path.parent.name, effect.read(path.parent)) for path in sorted(Path(args.folder).glob("*/summary.json"))]
    if not found:
        fail(f"{args.folder} holds no compared variant (*/summary.json)", "run ./eval_steer experiment pre_last_layer_steering first")
    for name, (summary, _) in found:
        differs = unlike(found[0][1][0], summary, free={"path"})
        if differs:
            fail(f"{found[0][0]} and {name} were not made alike: {differs}", "run the experiment again with the same settings")
    style()
    figure, axes = plt.subplots(len(found), 3, figsize=(12, 3.3 * len(found)), gridspec_kw={"width_ratios": [1.3, 0.8, 1.2]}, squeeze=False)
    for (name, (summary, rows)), row in zip(found, axes):
        effect.top_tokens(row[0], rows, args.by)
        row[0].set_title(f"{summary['P']} → {summary['Q']}: tokens that gain most")
        effect.followed(row[1], rows, summary["followed_token"])
        effect.divergence(row[2], rows)
    figure.tight_layout()
    save(figure, args.out or f"{args.folder}/pre_last_layer_steering.png")
    if args.html:
        effect.page(found, args.html)


if __name__ == "__main__":
    main()
