"""Panels that last_layer_steering, pre_last_layer_steering and add_place_steering share. Not a script."""
from html import escape

from common import BLUE, GREEN, GREY, ORANGE, fail, grid, load_json, load_lines, put, visible


def read(folder):
    """(summary, positions) of one comparison."""
    rows = load_lines(f"{folder}/positions.jsonl")
    return load_json(f"{folder}/summary.json"), rows or fail(f"{folder}/positions.jsonl is empty")


def boxes(axis, groups, labels, colour=BLUE):
    parts = axis.boxplot(groups, showfliers=True, patch_artist=True, widths=0.55, medianprops={"color": "black", "linewidth": 1.4}, showmeans=True,
                         meanprops={"marker": "D", "markersize": 4.5, "markerfacecolor": "white", "markeredgecolor": "black"},
                         flierprops={"marker": ".", "markersize": 2.5, "markeredgecolor": GREY, "alpha": 0.6})
    for box in parts["boxes"]:
        box.set(facecolor=colour, edgecolor=colour, alpha=0.9)
    axis.set_xticks(range(1, len(labels) + 1), labels)
    grid(axis)


def top_tokens(axis, rows, by="mean", count=5):
    """The tokens that gain most: at each position the one with the largest gain, grouped, groups of more than one hit."""
    groups = {}
    for row in rows:
        groups.setdefault(row["top_token"], []).append(row["delta"])
    score = max if by == "max" else lambda x: sum(x) / len(x)
    best = sorted((g for g in groups.items() if len(g[1]) > 1), key=lambda g: -score(g[1]))[:count]
    if best:
        boxes(axis, [values for _, values in best], [f"{visible(token)}\n{len(values)}×" for token, values in best])
    axis.set_ylabel("gain in probability")
    axis.set_title(f"Tokens that gain most (by {by}; ◇ mean)")
    axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))


def followed(axis, rows, token):
    """The gain of one token at the first position and at all others."""
    first, rest = [r["followed"] for r in rows if r["position"] == 0], [r["followed"] for r in rows if r["position"] > 0]
    boxes(axis, [first, rest], [f"first token\nn = {len(first)}", f"all others\nn = {len(rest)}"], ORANGE)
    axis.axhline(0, color="#888888", linewidth=0.8)
    axis.set_title(f'Gain of "{visible(token)}"')


def entropy(axis, rows):
    """Where P was sure there is nothing to gain."""
    points = rows[:: max(1, len(rows) // 3000)]
    for top, colour, label in ((False, BLUE, "another token than before"), (True, GREEN, "the token that was on top")):
        axis.plot([r["entropy"] for r in points if r["was_top"] == top], [r["delta"] for r in points if r["was_top"] == top], ".", color=colour, markersize=3, alpha=0.5, label=label)
    share = sum(r["was_top"] for r in rows) / len(rows)
    axis.set_xlabel("entropy before (nats)")
    axis.set_ylabel("largest gain")
    axis.set_title(f"{100 * share:.0f} % strengthen what was on top")
    axis.legend(fontsize=8, markerscale=3)
    grid(axis)


def divergence(axis, rows):
    """Histogram of the KL, on a logarithmic axis."""
    from math import log10
    values = [log10(max(r["kl"], 1e-10)) for r in rows if r["kl"] is not None]
    axis.hist(values, bins=40, color=GREY)
    mean = sum(r["kl"] for r in rows if r["kl"] is not None) / max(1, len(values))
    axis.axvline(log10(max(mean, 1e-10)), color=ORANGE, linewidth=1.5, label=f"mean {mean:.2g} nats")
    ticks = range(int(min(values)) - 1, int(max(values)) + 2, 2)
    axis.set_xticks(list(ticks), [f"$10^{{{t}}}$" for t in ticks])
    axis.set_xlabel("KL(P ‖ Q) at a token (nats)")
    axis.set_ylabel("tokens")
    axis.set_title("How far apart, token by token")
    axis.legend()
    grid(axis)


def page(folders, out, samples=20):
    """A self-contained HTML page: the first completions of each comparison, tokens coloured by KL; hovering shows the numbers."""
    body = []
    for name, (summary, rows) in folders:
        body.append(f"<h2>{escape(name)}: KL({escape(str(summary['P']))} ‖ {escape(str(summary['Q']))})</h2>")
        worst = sorted(r["kl"] or 0 for r in rows)[int(0.98 * (len(rows) - 1))] or 1e-9
        for sample in list(dict.fromkeys(r["sample"] for r in rows))[:samples]:
            spans = []
            for r in (r for r in rows if r["sample"] == sample):
                note = f"KL {r['kl']:.3g}, {visible(r['top_token'], dollar='$')} {r['delta']:+.3f}, entropy {r['entropy']:.2f}"
                shade = min(1.0, (r["kl"] or 0) / worst)
                spans.append(f'<span style="background:rgba(217,130,43,{shade:.2f})" title="{escape(note)}">{escape(r["token"])}</span>')
            body.append(f"<p><b>{sample}</b> " + "".join(spans) + "</p>")
    style = "body{font:14px/1.7 system-ui,sans-serif;max-width:60em;margin:2em auto;color:#222}p{white-space:pre-wrap;border-bottom:1px solid #eee;padding-bottom:.6em}"
    text = f"<!doctype html><html><meta charset=utf-8><title>Token by token</title><style>{style}</style><body><h1>Token by token</h1>\n" + "\n".join(body) + "\n</body></html>\n"
    put(out, lambda path: path.write_text(text, encoding="utf-8"))
    print(out)
