#!/usr/bin/env python3
"""The table of accuracies: a row a model, a column a way of tuning, as a picture and as Markdown on stdout.

    scripts/plot/accuracies_table.py MODEL/base=results/eval/... MODEL/full=79.3 MODEL/steering=results/eval/... [--out results/accuracies_table.png]

Each argument is MODEL/SETUP=PATH or MODEL/SETUP=NUMBER; a number is one typed in from elsewhere (marked †). With full tuning there are

    relative             accuracy / full
    relative improvement (accuracy - base) / (full - base)

and the gain over base is split: form (more answers that have a box and ended in time, at the mean of both rates of being right) and
reasoning (more of those are right, at the mean of both rates of having form). Evaluations that were not made alike (problems, prompt, sampling) are refused.
"""
import argparse

from common import accuracy, alike, evaluation, fail, plt, problems, save, spread, style


def read(arguments):
    """{model: {setup: (accuracy or None, seeds)}}; a typed-in number has no seeds."""
    table = {}
    for argument in arguments:
        name, _, source = argument.partition("=")
        model, slash, setup = name.rpartition("/")
        if not slash or not source:
            fail(f'found "{argument}", expected MODEL/SETUP=PATH or MODEL/SETUP=NUMBER')
        try:
            value, seeds = (float(source),) * 3, {}
        except ValueError:
            seeds = evaluation(source)
            value = accuracy(seeds)
            if value is None:
                fail(f"{source} holds no eval_seed-*/metrics.json", "name a folder of ./eval_steer eval")
        table.setdefault(model, {})[setup] = (value, seeds)
    for model, row in table.items():
        alike([(f"{model}/{setup}", seeds) for setup, (_, seeds) in row.items()])
    alike([(f"{model}/{setup}", seeds) for model, row in table.items() for setup, (_, seeds) in row.items()], free={"model_sha256"})
    return table


def formed(seeds):
    """(share that has form, share of those that is right), means over benchmarks and seeds."""
    rows = [row for metrics in seeds.values() for row in metrics.values()]
    if not rows or not all("formed_rate" in row for row in rows):
        return None
    share = sum(row["formed_rate"] for row in rows) / len(rows) / 100
    right = sum(row["formed_rate"] * row["accuracy_formed"] for row in rows) / len(rows) / 1e4
    return share, right / share if share else 0.0


def split(base, params):
    """Gains in points by form and by reasoning (Shapley's split of a product)."""
    a, b = formed(base), formed(params)
    if a is None or b is None:
        return None
    return 100 * (b[0] - a[0]) * (a[1] + b[1]) / 2, 100 * (b[1] - a[1]) * (a[0] + b[0]) / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("evaluations", nargs="+", metavar="MODEL/SETUP=PATH|NUMBER")
    parser.add_argument("--out", default="results/accuracies_table.png")
    args = parser.parse_args()
    table = read(args.evaluations)
    header, cells = ["model", "tuning", "accuracy (%)", "relative", "relative\nimprovement", "gain by\nform", "gain by\nreasoning"], []
    for model, row in table.items():
        order = [s for s in ("base", "full", "steering", "lora") if s in row] + [s for s in row if s not in ("base", "full", "steering", "lora")]
        for i, setup in enumerate(order):
            (mean, low, high), seeds = row[setup]
            full, base = row.get("full"), row.get("base")
            cell = [model if i == 0 else "", setup, f"{mean:.1f}" + ("†" if not seeds else f" ± {mean - low:.1f}" if len(seeds) > 1 else f"  [{low:.1f}, {high:.1f}]")]
            cell.append(f"{mean / full[0][0]:.2f}" if full and full[0][0] else "–")
            cell.append(f"{(mean - base[0][0]) / (full[0][0] - base[0][0]):.2f}" if full and base and setup not in ("base",) and full[0][0] != base[0][0] else "–")
            gains = split(base[1], seeds) if base and setup != "base" else None
            cell += [f"{g:+.1f}" for g in gains] if gains else ["–", "–"]
            cells.append(cell)
    for line in [header, ["---"] * len(header)] + cells:
        print("| " + " | ".join(text.replace("\n", " ") for text in line) + " |")

    style()
    figure, axis = plt.subplots(figsize=(9.2, 0.75 + 0.36 * len(cells)))
    axis.axis("off")
    drawn = axis.table(cellText=cells, colLabels=header, loc="center", cellLoc="right", colWidths=[0.19, 0.13, 0.19, 0.11, 0.14, 0.11, 0.13])
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(10)
    for (r, c), cell in drawn.get_celld().items():
        cell.set_height((0.62 if r == 0 else 0.36) / (0.75 + 0.36 * len(cells)))
        cell.set_linewidth(0)
        cell.visible_edges = "B" if r == 0 or (r < len(cells) and cells[r][0]) or r == len(cells) else ""
        cell.set_edgecolor("#888888")
        cell.set_linewidth(0.8)
        if r == 0:
            cell.set_text_props(weight="bold")
        if c < 2:
            cell.set_text_props(ha="left")
    seeds = next((s for row in table.values() for _, s in row.values() if s), {})
    axis.set_title(f"{problems(seeds)}, {spread(seeds)}; gains in points over base" + ("; † typed in" if any("†" in c[2] for c in cells) else ""), fontsize=9.5)
    save(figure, args.out)


if __name__ == "__main__":
    main()
