#!/usr/bin/env python3
"""Draws the diagrams of the documentation, one SVG each, into this folder (Python's standard library alone).

    dev/doc/img/diagrams.py [FOLDER]

What a diagram claims is in the code that its docstring names: change both together. Each has a background of its own, light or dark as
the reader's browser is set. Widths of text are guessed from above, since a reader's fonts are not known: what might not fit is an error.
"""
import sys
from pathlib import Path
from xml.sax.saxutils import escape

LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "faint": "#57606a", "line": "#8c959f", "plain": "#f6f8fa", "blue": "#0969da", "blue_fill": "#ddf4ff",
         "orange": "#bc4c00", "orange_fill": "#fff1e5", "green": "#1a7f37", "green_fill": "#dafbe1", "purple": "#8250df", "purple_fill": "#fbefff"}
DARK = {"paper": "#0d1117", "ink": "#e6edf3", "faint": "#9198a1", "line": "#7d8590", "plain": "#161b22", "blue": "#58a6ff", "blue_fill": "#12233a",
        "orange": "#f0883e", "orange_fill": "#2f1f10", "green": "#3fb950", "green_fill": "#12291a", "purple": "#bc8cff", "purple_fill": "#271c3d"}


def style(colours):
    """CSS classes: text, frames and fills by the name of a colour."""
    rules = [f".paper{{fill:{colours['paper']}}}", f".ink{{fill:{colours['ink']}}}", f".faint{{fill:{colours['faint']}}}",
             f".line{{stroke:{colours['line']};fill:none}}", f".tip-line{{fill:{colours['line']}}}",
             f".plain{{fill:{colours['plain']};stroke:{colours['line']}}}", f".empty{{fill:{colours['paper']};stroke:{colours['line']}}}"]
    for name in ("blue", "orange", "green", "purple"):
        rules += [f".{name}{{fill:{colours[name + '_fill']};stroke:{colours[name]}}}", f".say-{name}{{fill:{colours[name]}}}",
                  f".line-{name}{{stroke:{colours[name]};fill:none}}", f".tip-{name}{{fill:{colours[name]}}}", f".full-{name}{{fill:{colours[name]}}}"]
    return "".join(rules)


class Drawing:
    def __init__(self, name, width, height, title):
        self.name, self.width, self.height, self.title, self.parts = name, width, height, title, []

    def add(self, tag, body=None, **attributes):
        words = "".join(f' {key.rstrip("_").replace("_", "-")}="{value}"' for key, value in attributes.items() if value is not None)
        self.parts.append(f"<{tag}{words}/>" if body is None else f"<{tag}{words}>{body}</{tag}>")

    def text(self, x, y, words, size=14, kind="ink", anchor="middle", room=None, mono=False, bold=False):
        """One line of text at a baseline; `room`: the width that it must fit into."""
        width = len(words) * size * (0.602 if mono else 0.60 if bold else 0.56)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        if left < 0 or left + width > self.width or (room and width > room):
            sys.exit(f'error: {self.name}: "{words}" takes some {width:.0f}, there is room for {room or self.width}')
        self.add("text", escape(words), x=x, y=y, class_=kind, font_size=size, text_anchor=None if anchor == "start" else anchor,
                 font_family="monospace" if mono else None, font_weight="bold" if bold else None)

    def box(self, x, y, w, h, kind="plain", dashed=False, r=6, width=1.2):
        self.add("rect", x=x, y=y, width=w, height=h, rx=r or None, class_=kind, stroke_width=width, stroke_dasharray="5 4" if dashed else None)

    def card(self, x, y, w, h, head, lines=(), code=None, kind="plain"):
        """A box with a bold head, lines of text, and the function that does it."""
        self.box(x, y, w, h, kind)
        self.text(x + w / 2, y + 23, head, 15, bold=True, room=w - 12)
        for i, line in enumerate(lines):
            self.text(x + w / 2, y + 44 + 17 * i, line, 12.5, "faint", room=w - 8)
        if code:
            self.text(x + w / 2, y + h - 10, code, 11.5, "ink", mono=True, room=w - 8)

    def path(self, points, kind="line", tip=True, dashed=False, width=1.6):
        """A polyline through the points, with an arrow's head at the last."""
        points = list(points)
        (x0, y0), (x1, y1) = points[-2:]
        if tip:
            dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
            points[-1] = (x1 - 7 * dx, y1 - 7 * dy)
            corners = [(x1, y1), (x1 - 9 * dx - 5 * dy, y1 - 9 * dy - 5 * dx), (x1 - 9 * dx + 5 * dy, y1 - 9 * dy + 5 * dx)]
            self.add("polygon", points=" ".join(f"{x:g},{y:g}" for x, y in corners), class_="tip-line" if kind == "line" else kind.replace("line", "tip"))
        self.add("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=kind, stroke_width=width, stroke_dasharray="5 4" if dashed else None)

    def save(self, folder):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
                f'font-family="sans-serif" role="img" aria-label="{escape(self.title)}">\n<title>{escape(self.title)}</title>\n'
                f"<style>{style(LIGHT)}@media (prefers-color-scheme:dark){{{style(DARK)}}}</style>\n"
                f'<rect width="{self.width}" height="{self.height}" rx="8" class="paper"/>\n')
        path = Path(folder) / f"{self.name}.svg"
        path.write_text(head + "\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")
        print(path)


def step():
    """train_steer.cu: train_step, collect_groups, update_trained; llmc/grpo.h."""
    d = Drawing("step", 880, 440, "A training step: sample, reward, advantages, forward and backward, gradient of the vectors, AdamW, new vectors")
    left, middle, right, w = 20, 315, 610, 250
    d.card(left, 24, w, 100, "1  sample", ["G completions of each prompt,", "and each token's log-prob"], "sample_groups")
    d.card(middle, 24, w, 100, "2  reward", ["of each completion: +1 or -1,", "is the boxed answer right?"], "grade_groups")
    d.card(right, 24, w, 100, "3  advantages", ["reward less the mean reward", "of the prompt's other ones (rloo)"], "group_advantages")
    d.card(right, 316, w, 100, "4  forward and backward", ["log-probs and loss; then dL/dh,", "h the stream after each layer"], "policy_pass")
    d.card(middle, 316, w, 100, "5  the vectors' gradient", ["the sum of dL/dh over all rows", "of a group, then over the groups"], "column_sum, reduction_sum")
    d.card(left, 316, w, 100, "6  AdamW", ["norm clipped, two moments;", "nothing else is updated"], "adamw_update", "blue")
    d.box(left, 178, 545, 84, "empty", dashed=True)
    d.text(left + 535, 256, "the policy", 12.5, "faint", "end")
    d.box(left + 16, 190, 218, 50, "blue")
    d.text(left + 125, 211, "vectors", 15, bold=True)
    d.text(left + 125, 230, "one per layer, fp32: trained", 12.5, "faint", room=214)
    d.text(292, 221, "+", 18)
    d.box(middle + 8, 190, 226, 50)
    d.text(middle + 121, 211, "weights", 15, bold=True)
    d.text(middle + 121, 230, "of the model: frozen", 12.5, "faint", room=222)
    d.path([(left + w, 74), (middle, 74)])
    d.path([(middle + w, 74), (right, 74)])
    d.path([(right + 185, 124), (right + 185, 316)])
    d.path([(right, 366), (middle + w, 366)])
    d.path([(middle, 366), (left + w, 366)])
    d.path([(left + 125, 316), (left + 125, 240)], "line-blue")
    d.path([(left + 125, 178), (left + 125, 124)], "line-blue")
    d.path([(565, 220), (right + 65, 220), (right + 65, 316)])
    d.text(left + 137, 156, "the next step samples with them", 12.5, "faint", "start")
    return d


def places():
    """llmc/intervene.h: place_names; llmc/qwen2.h: qwen2_layers."""
    d = Drawing("places", 880, 408, "The four places of a vector in a layer: after input_layernorm, self_attn, post_attention_layernorm or mlp")
    stream = 222
    d.text(20, 30, "Where a layer's vector s is added, at every position: the four values of the option place", 14, anchor="start")
    d.text(24, stream - 10, "h", 15, anchor="start")
    d.path([(20, stream), (860, stream)], width=2.4)
    d.text(24, stream + 22, "residual stream", 12.5, "faint", "start")
    for x, norm, part, what in ((70, "input_layernorm", "self_attn", "attention"), (462, "post_attention_layernorm", "mlp", "feed-forward")):
        d.path([(x, stream), (x, 104), (x + 14, 104)])
        d.box(x + 14, 78, 152, 52)
        d.text(x + 90, 100, "RMSNorm", 14, room=148)
        d.text(x + 90, 119, norm, 9.8, "faint", mono=True, room=150)
        d.path([(x + 166, 104), (x + 218, 104)])
        d.box(x + 218, 78, 112, 52)
        d.text(x + 274, 100, what, 14, room=110)
        d.text(x + 274, 119, part, 10.5, "faint", mono=True, room=84)
        d.path([(x + 330, 104), (x + 342, 104), (x + 342, stream - 11)])
        d.add("circle", cx=x + 342, cy=stream, r=11, class_="empty", stroke_width=1.6)
        d.text(x + 342, stream + 5, "+", 16)
    for x, name, kind in ((262, "input_layernorm", "green"), (654, "post_attention_layernorm", "purple")):
        d.path([(x, 62), (x, 98)], f"line-{kind}", width=2)
        d.text(x, 55, name, 12, f"say-{kind}", mono=True, bold=True)
        d.add("circle", cx=x, cy=104, r=5, class_=f"full-{kind}")
    for x, name, kind in ((412, "self_attn", "orange"), (804, "mlp", "blue")):
        d.path([(x, 262), (x, stream + 12)], f"line-{kind}", width=2)
        d.text(x, 279, name, 12, f"say-{kind}", mono=True, bold=True)
    d.text(804, 296, "(the default)", 12, "faint")
    lines = (("green", "input_layernorm", "x = rmsnorm(h) + s, from which q, k and v are computed"),
             ("orange", "self_attn", "h = h + attention(x) + s"),
             ("purple", "post_attention_layernorm", "x = rmsnorm(h) + s, from which gate and up are computed"),
             ("blue", "mlp", "h = h + mlp(x) + s: equal to a bias of down_proj"))
    for i, (kind, name, what) in enumerate(lines):
        d.text(20, 314 + 19 * i, name, 12, f"say-{kind}", "start", mono=True, bold=True)
        d.text(214, 314 + 19 * i, what, 12.5, "faint", "start", room=500)
    d.text(20, 394, "The gradient of s is that of what it is added to, summed over the rows.", 12.5, "faint", "start")
    return d


def pages():
    """llmc/batch.h: batch_add_group, group_pages; llmc/rollout.h: rollout_admit; KV_PAGE of llmc/ops.h."""
    page, P, completions = 16, 37, (20, 7, 30)
    kinds = ("blue", "orange", "green", "purple")
    d = Drawing("pages", 880, 452, "A prompt and three completions: rows of one batch without padding, and pages of keys and values")
    shared, tail = P // page, P % page
    pages_for = lambda positions: -(-positions // page)
    sequences, fresh = [("prompt", P, list(range(pages_for(P))))], pages_for(P)
    for i, n in enumerate(completions):
        more = pages_for(P + n - 1) - shared
        sequences.append((f"completion {i}", n - 1, list(range(shared)) + list(range(fresh, fresh + more))))
        fresh += more
    rows = sum(n for _, n, _ in sequences)

    lengths = ", ".join(map(str, completions[:-1])) + f" and {completions[-1]}"
    d.text(20, 30, f"A prompt of {P} tokens and {len(completions)} completions of {lengths}: one batch of {rows} rows, no padding", 14, anchor="start")
    x, row, scale = 20, 0, 840 / rows
    for kind, (name, n, _) in zip(kinds, sequences):
        d.box(round(x, 1), 44, round(n * scale, 1), 40, kind, r=0)
        d.text(round(x + n * scale / 2, 1), 61, name if n > 12 else name.replace("completion", "c."), 12.5, room=n * scale)
        d.text(round(x + n * scale / 2, 1), 77, f"{row}-{row + n - 1}", 11.5, "faint", room=n * scale)
        x, row = x + n * scale, row + n
    d.text(20, 106, f"The prompt is run once ({rows + (len(completions) - 1) * P} rows otherwise). A completion's last token predicts nothing and is not run.",
           12.5, "faint", "start")

    d.text(20, 146, f"Keys and values: {fresh} pages of {page} positions; a completion's list of pages begins with the prompt's {shared} full ones", 14, anchor="start")
    cell, left, top = 8, 130, 172
    for k in range(max(len(pages) for _, _, pages in sequences)):
        d.text(left + k * 148 + 64, top, f"positions {k * page}-{k * page + page - 1}", 11.5, "faint", room=140)
    for i, (kind, (name, n, numbers)) in enumerate(zip(kinds, sequences)):
        y = top + 16 + 54 * i
        d.text(20, y + 18, name, 13, f"say-{kind}", "start", bold=True)
        for k, number in enumerate(numbers):
            x = left + k * 148
            same = i > 0 and k < shared
            if same: # no page of its own: the prompt's, drawn above
                d.box(x, y, page * cell, 24, "empty", dashed=True, r=0)
                d.text(x + page * cell / 2, y + 16, f"page {number}, shared", 12, "say-blue", room=page * cell)
                continue
            for offset in range(page):
                position = k * page + offset
                of = "blue" if position < P else kind if i > 0 and position < P + n else "empty"
                d.box(x + offset * cell, y, cell, 24, of, r=0, width=0.8)
            copied = " (copy + own)" if i > 0 and k == shared and tail else ""
            d.text(x, y + 38, f"page {number}{copied}", 10.5, "faint", "start", room=148)
    d.text(20, 420, "A row attends to the positions from 0 to its own, on its sequence's pages. The prompt's last, partly filled page", 12.5, "faint", "start")
    d.text(20, 438, f"({tail} of {page}) is not shared: each completion gets a copy of it, to write on. The rollout shares and copies pages alike.", 12.5, "faint", "start")
    return d


def ranks():
    """llmc/dist/gradient_reduction.h: reduction_subtrees, reduction_top; llmc/dist/sync.h: assign_groups."""
    owner = (0, 0, 0, 1, None, 1, 2, 2)  # the rank of each group
    kinds = ("blue", "orange", "green")
    d = Drawing("ranks", 880, 484, "How the gradients of eight groups on three ranks are added by one binary tree")
    d.text(20, 30, "The gradient of a step is a sum over its groups by a binary tree, whoever computed them", 14, anchor="start")

    def node(lo, hi, above=None):
        """Draws the subtree over the groups lo ... hi-1, whose parent is rank `above`'s (None: no single one's). Its x and top, None without a gradient."""
        has = [i for i in range(lo, hi) if owner[i] is not None]
        of = {owner[i] for i in has}
        rank = of.pop() if len(of) == 1 else None
        x, y = 172 + 88 * (lo + hi - 1) / 2, 472 - 80 * (hi - lo).bit_length()
        kind = "plain" if rank is None else kinds[rank]
        if hi - lo == 1:
            d.box(x - 34, y, 68, 30, kind if has else "empty", dashed=not has)
            d.text(x, y + 20, f"group {lo}", 12.5, "ink" if has else "faint", room=66)
        else:
            mid = lo + (hi - lo) // 2
            for child in filter(None, (node(lo, mid, rank), node(mid, hi, rank))):
                d.path([child, (child[0], y + 50), (x, y + 50), (x, y + 30)], "line" if rank is None else f"line-{kind}")
            d.box(x - 34, y, 68, 30, kind)
            d.text(x, y + 20, "+" if rank is None else " + ".join(map(str, has)), 16 if rank is None else 13)
        if rank is not None and above is None:
            d.box(x - 39, y - 5, 78, 40, f"line-{kind}", r=9, width=2.2)
        return (x, y if rank is None or above is not None else y - 5) if has else None

    top = node(0, len(owner))
    d.path([top, (top[0], 108)])
    d.box(top[0] - 190, 52, 380, 56)
    d.text(top[0], 75, "gradient of all vectors, [layers, C]", 14, bold=True, room=372)
    d.text(top[0], 95, "the same bits on every rank: AdamW is run by each", 12.5, "faint", room=376)
    for i, kind in enumerate(kinds):
        d.box(20, 66 + 26 * i, 22, 16, kind, r=3)
        d.text(50, 79 + 26 * i, f"computed by rank {i}", 12.5, "faint", "start")
    d.box(20, 144, 22, 16, "empty", dashed=True, r=3)
    d.text(50, 157, "no gradient: left out", 12.5, "faint", "start")
    d.box(20, 170, 22, 16, "plain", r=3)
    d.text(50, 183, "added by every rank", 12.5, "faint", "start")
    d.box(20, 196, 22, 16, "line-blue", r=5, width=2.2)
    d.text(50, 209, "sent to all ranks", 12.5, "faint", "start")
    d.text(20, 452, "A rank sends the sums over the largest subtrees that are its own; all ranks then add these in the tree's order.", 12.5, "faint", "start")
    d.text(20, 470, "One rank alone does the same additions: the same bits on any number of ranks.", 12.5, "faint", "start")
    return d


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for draw in (step, places, pages, ranks):
        draw().save(folder)


if __name__ == "__main__":
    main()
