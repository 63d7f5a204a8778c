#!/usr/bin/env python3
"""The last layer's vector at its usual place against one after another part of the layer, token by token.

    scripts/plot/add_place_steering.py results/experiments/add_place_steering/<Model>/<dataset> [--by mean|max] [--out add_place_steering.png]
"""
import argparse

import effect
from common import plt, save, style


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--by", choices=["mean", "max"], default="mean")
    parser.add_argument("--out", help="default add_place_steering.png in the folder")
    args = parser.parse_args()
    summary, rows = effect.read(args.folder)
    style()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), gridspec_kw={"width_ratios": [1.3, 0.8, 1.2]})
    effect.top_tokens(axes[0], rows, args.by)
    effect.followed(axes[1], rows, summary["followed_token"])
    effect.divergence(axes[2], rows)
    figure.suptitle(f"vector after {summary['Q']} (Q) against {summary['P']} (P): {summary['kept']} of {summary['problems']} completions, {summary['positions']} tokens",
                    x=0.02, ha="left", fontsize=10.5)
    figure.tight_layout()
    save(figure, args.out or f"{args.folder}/add_place_steering.png")


if __name__ == "__main__":
    main()
