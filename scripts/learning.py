#!/usr/bin/env python3
"""The table of scripts/learning.sh, of the metrics.jsonl that its runs have left.

    scripts/learning.py [--seeds "0 1 2"] [--tokens N] [--goal PERCENT] DIR BASELINE [ARM ...]

Right: share of the sampled training completions, so of problems that the step has not trained on. Tokens: sampled ones, without prompts.
"""
import argparse
import json
import math
import sys
from pathlib import Path

WINDOW = 768  # samples whose mean is one accuracy, in whole steps, so that batches of other sizes compare
T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]
# Student's t, two-sided, of 1, 2, ... degrees of freedom


def read_run(folder):
    """(sampled tokens so far, percent right, samples) of each step."""
    files = sorted(folder.rglob("metrics.jsonl"))
    if len(files) != 1:
        sys.exit(f"error: {folder}: found {len(files)} files metrics.jsonl, expected 1\n  -> scripts/learning.sh makes it")
    steps, tokens = [], 0
    for line in files[0].read_text().splitlines():
        step = json.loads(line)
        if "rewards/positive" not in step:  # a validation that was made up for
            continue
        tokens += step["completions/mean_length"] * step["num_completions"]
        steps.append((tokens, 100 * step["rewards/positive"], step["num_completions"]))
    if first_window(steps) is None:
        sys.exit(f"error: {files[0]}: found {len(steps)} steps, expected steps of {WINDOW} samples in all\n  -> more max_steps")
    return steps


def first_window(steps):
    """The first step (from 0) that ends a window; None: there are too few."""
    samples = 0
    for last, step in enumerate(steps):
        samples += step[2]
        if samples >= WINDOW:
            return last
    return None


def right_after(steps, last):
    """Percent right in the window that ends with step number `last` (from 0)."""
    right = samples = 0
    while samples < WINDOW:
        right += steps[last][1] * steps[last][2]
        samples += steps[last][2]
        last -= 1
    return right / samples


def reached(steps, goal):
    """(steps, tokens) to the goal; None if it is not reached."""
    for last in range(first_window(steps), len(steps)):
        if right_after(steps, last) >= goal:
            return last + 1, steps[last][0]
    return None


def at_tokens(steps, tokens):
    """Percent right in the last window within so many tokens."""
    within = [i for i, step in enumerate(steps) if step[0] <= tokens]
    return right_after(steps, max(within[-1] if within else 0, first_window(steps)))


def interval(values):
    """Mean and the half width of its 95 % interval; nan of fewer than two."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))
    return mean, (T95[n - 2] if n - 2 < len(T95) else 1.96) * deviation / math.sqrt(n)


def rows(arms, goal, tokens):
    """Cells of each arm: {name: [[(tokens, right, samples), ...] of each seed]}, the first is the baseline."""
    base = next(iter(arms.values()))
    for name, runs in arms.items():
        found = [reached(run, goal) for run in runs]
        both = [math.log(mine[1] / other[1]) for mine, other in zip(found, (reached(run, goal) for run in base)) if mine and other]
        right, _ = interval([at_tokens(run, tokens) for run in runs])
        gain, half = interval([at_tokens(run, tokens) - at_tokens(other, tokens) for run, other in zip(runs, base)])
        mine = [x for x in found if x]
        cells = [name, f"{len(mine)} of {len(runs)}", "", "", "", f"{right:.1f}", "", f"{interval([run[-1][1] for run in runs])[0]:.1f}"]
        if mine:
            cells[2] = f"{interval([x[0] for x in mine])[0]:.1f}"
            cells[3] = f"{interval([x[1] for x in mine])[0]:,.0f}"
        if runs is not base:
            if both:
                ratio, width = interval(both)
                cells[4] = f"{math.exp(ratio):.2f}" + ("" if math.isnan(width) else f" [{math.exp(ratio - width):.2f}, {math.exp(ratio + width):.2f}]")
            cells[6] = f"{gain:+.1f}" + ("" if math.isnan(half) else f" [{gain - half:+.1f}, {gain + half:+.1f}]")
        yield cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0 1 2")
    parser.add_argument("--tokens", type=int, default=200000)
    parser.add_argument("--goal", type=float, default=90)
    parser.add_argument("folder", type=Path)
    parser.add_argument("arms", nargs="+")
    o = parser.parse_args()
    arms = {name: [read_run(o.folder / name / seed) for seed in o.seeds.split()] for name in o.arms}
    print(f"| arm | reach {o.goal:g} % | steps to it | tokens to it | tokens, of the baseline's | % right at {o.tokens:,} tokens | less the baseline's | last step |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for cells in rows(arms, o.goal, o.tokens):
        print("| " + " | ".join(cells) + " |")
    print(f"\n{len(o.seeds.split())} seeds; in brackets 95 % intervals over them. Steps and tokens are of the runs that reach the goal, the ratio of pairs that both do.")


if __name__ == "__main__":
    main()
