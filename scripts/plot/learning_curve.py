#!/usr/bin/env python3
"""The learning curve of one or several runs: reward and accuracy per step above, completion length below.

    scripts/plot/learning_curve.py train_output/<Model>/<dataset>/<setup>/seed-0/metrics.jsonl ... [--out learning_curve.png]

Thin lines are single steps, thick ones the mean of the last --window steps, dots with 95 % intervals the accuracy on the
validation problems where the run measured it. With --minutes the horizontal axis is the time since the run began, validation
included. A run is named by its path, or by NAME=FILE. Where the runs differ in what a reward or an accuracy means (problems, prompt, sampling, reward; from
config.yml of their checkpoints) the picture says so.
"""
import argparse
import json
import sys
from pathlib import Path

from common import plt

from results import put

COLOURS = ["#2f6db3", "#d9822b", "#4f9d69", "#9a5fb0", "#b04a5a", "#6b7280"]


def read_metrics(path):
    """The lines of a metrics.jsonl, one dict a step. A step may have a second line, of a validation that was made up for."""
    steps = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    steps.setdefault(row["step"], {}).update(row)
                except (ValueError, KeyError, TypeError):
                    print(f"warning: {path}:{number}: not a metrics line, left out", file=sys.stderr)
    except OSError as error:
        sys.exit(f"error: cannot read {path}: {error.strerror}")
    if not steps:
        sys.exit(f"error: no step in {path}")
    rows = [steps[s] for s in sorted(steps)]
    seconds = 0
    for row in rows:
        seconds += row.get("step_time") or 0
        if "completions/min_terminated_length" in row: # older lines have the validation in step_time
            seconds += row.get("time/validation") or 0
        row["minutes"] = seconds / 60
    return rows


MEANING = ("model", "data", "validation_data", "validation_size", "limit", "prompt_template", "system", "max_completion_length", "temperature", "top_p", "top_k", "reward")


def settings(path):
    """Those options of a run that say what its figures mean; {} where no checkpoint is left."""
    configs = sorted(Path(path).parent.glob("checkpoint-*/config.yml"), key=lambda p: int(p.parent.name.rpartition("-")[2]) if p.parent.name.rpartition("-")[2].isdigit() else -1)
    lines = configs[-1].read_text(encoding="utf-8").splitlines() if configs else []
    pairs = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))
    return {key: pairs[key] for key in MEANING if key in pairs}


def differences(runs):
    """"reward: math, random": what the runs do not share; "?" where a run has no checkpoint to tell."""
    found = [settings(run.rpartition("=")[2]) for run in runs]
    return "; ".join(f"{key}: {', '.join(values)}" for key in MEANING if len(values := list(dict.fromkeys(s.get(key, "?") for s in found))) > 1)


def series(rows, x, key):
    """Steps (or minutes) and values of a key; steps where it is absent or null (not finite) are left out."""
    points = [(r[x], r[key]) for r in rows if isinstance(r.get(key), (int, float))]
    return [p[0] for p in points], [p[1] for p in points]


def moving_average(values, window):
    """Mean of the last `window` values, of fewer at the start."""
    return [sum(values[max(0, i + 1 - window) : i + 1]) / len(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


# Rewards are +1 (right) and -1 (wrong): the mean reward and the share of right samples are one curve on two scales.
def to_accuracy(reward):
    return 50 * (reward + 1)


def to_reward(accuracy):
    return accuracy / 50 - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="[NAME=]METRICS.jsonl")
    parser.add_argument("--out", default="learning_curve.png")
    parser.add_argument("--minutes", action="store_true", help="over time instead of steps")
    parser.add_argument("--window", type=int, default=5, help="steps in the moving average (default 5)")
    args = parser.parse_args()
    x = "minutes" if args.minutes else "step"

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888"})
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.2, 5.2), sharex=True, gridspec_kw={"height_ratios": [2, 1], "hspace": 0.12})
    for run, colour in zip(args.runs, COLOURS * len(args.runs)):
        name, _, path = run.rpartition("=")
        rows = read_metrics(path)
        for axis, key in ((top, "reward"), (bottom, "completions/mean_length")):
            steps, values = series(rows, x, key)
            axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.35)
            axis.plot(steps, moving_average(values, max(1, args.window)), color=colour, linewidth=2.2, label=(name or path) if len(args.runs) > 1 else "training reward")
        validated = [r for r in rows if isinstance(r.get("validation/accuracy"), (int, float))]
        if validated:
            steps, values, lows, highs = zip(*((r[x], *(to_reward(r[f"validation/{k}"]) for k in ("accuracy", "low", "high"))) for r in validated))
            errors = [[v - l for v, l in zip(values, lows)], [h - v for v, h in zip(values, highs)]]
            label = None if len(args.runs) > 1 else "validation accuracy"
            top.errorbar(steps, values, errors, fmt="o", color=colour, markeredgecolor="white", markersize=6, elinewidth=1, capsize=3, label=label)
    top.set_ylabel("mean reward")
    accuracy = top.secondary_yaxis("right", functions=(to_accuracy, to_reward))
    accuracy.set_ylabel("accuracy, share rewarded (%)")
    accuracy.spines["right"].set_visible(True)
    bottom.set_ylabel("completion length\n(tokens)")
    bottom.set_xlabel(x)
    bottom.set_ylim(bottom=0)
    for axis in (top, bottom):
        axis.grid(axis="y", color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    if len(args.runs) > 1:  # below, where several names hide no curve
        bottom.legend(*top.get_legend_handles_labels(), frameon=False, loc="upper left", bbox_to_anchor=(0, -0.35))
        top.set_title(f"Learning curves (thick: mean of {args.window} steps; dots: validation)", loc="left")
    else:
        if len(top.get_legend_handles_labels()[1]) > 1:
            top.legend(frameon=False, loc="best")
        top.set_title(f"{name or path.removesuffix('/metrics.jsonl')} (thick: mean of {args.window} steps)", loc="left", fontsize=10)
    figure.align_ylabels((top, bottom))
    unlike = differences(args.runs)
    if unlike:
        print(f"warning: the runs were not made alike: {unlike}", file=sys.stderr)
        figure.text(0.01, 0.945, f"not made alike: {unlike}", fontsize=7, color="#b04a5a", wrap=True)
    put(args.out, lambda path: figure.savefig(path, dpi=160, bbox_inches="tight"))
    print(args.out)


if __name__ == "__main__":
    main()
