#!/usr/bin/env python3
"""A page to read what vectors change: completions of the base and of the steered model side by side, every token coloured by what the vectors do
to its log-prob, with filters for right and wrong. One HTML file, no server.

    ./eval_steer experiment vanilla --config FILE.yml --save_tokens
    scripts/plot/report.py results/experiments/vanilla/<Model>/<dataset> [--benchmark NAME] [--seed N] [--limit 200] [--out report.html]

Two folders (BASE STEERED) of any evaluations with --save_tokens do as well.
"""
import argparse
import json
from html import escape
from pathlib import Path

from results import fail, load_json, load_lines, put, unlike

STYLE = """
:root{color-scheme:light}body{font:14px/1.6 system-ui,-apple-system,"DejaVu Sans",sans-serif;margin:0;color:#1f2328;background:#fff}
header{position:sticky;top:0;background:#fff;border-bottom:1px solid #d8dee4;padding:12px 24px;z-index:1}h1{font-size:17px;margin:0 0 6px}
button{font:inherit;border:1px solid #d0d7de;background:#f6f8fa;border-radius:6px;padding:3px 10px;margin-right:6px;cursor:pointer}button.on{background:#2f6db3;border-color:#2f6db3;color:#fff}
input{font:inherit;border:1px solid #d0d7de;border-radius:6px;padding:3px 10px;width:16em}.scale{float:right;font-size:12px;color:#555}.scale i{display:inline-block;width:110px;height:11px;vertical-align:middle;margin:0 6px;
background:linear-gradient(90deg,rgba(176,74,90,.75),#fff,rgba(47,109,179,.75));border:1px solid #ddd}
main{padding:8px 24px 60px}article{border-bottom:1px solid #e5e8eb;padding:14px 0}article h2{font-size:14px;font-weight:600;margin:0 0 8px;white-space:pre-wrap}.meta{font-weight:400;color:#656d76}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:22px}.side{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.65 ui-monospace,"DejaVu Sans Mono",monospace;background:#fafbfc;border-left:4px solid #bbb;padding:8px 12px;border-radius:3px}
.side b{display:block;font:600 12px system-ui,"DejaVu Sans",sans-serif;margin-bottom:4px;color:#444}.side.right{border-color:#4f9d69}.side.wrong{border-color:#b04a5a}span{border-radius:2px}
"""
SCRIPT = """
const articles=[...document.querySelectorAll('article')],buttons=[...document.querySelectorAll('button')],box=document.querySelector('input'),count=document.querySelector('#count');
let kind='all';
function show(){let n=0;const word=box.value.toLowerCase();for(const a of articles){const on=(kind==='all'||a.dataset.kind===kind)&&(!word||a.textContent.toLowerCase().includes(word));a.hidden=!on;n+=on}
count.textContent=n+' of '+articles.length+' shown';for(const b of buttons)b.classList.toggle('on',b.dataset.kind===kind)}
for(const b of buttons)b.onclick=()=>{kind=b.dataset.kind;show()};box.oninput=show;
if(location.hash.length>1){kind=location.hash.slice(1)}show();
"""
KINDS = [("all", "all"), ("wrong-right", "wrong → right"), ("right-wrong", "right → wrong"), ("right-right", "both right"), ("wrong-wrong", "both wrong")]


def find(folder, benchmark, seed):
    """The folder eval_seed-<seed> (or the first) below, and its benchmark's name."""
    found = sorted(Path(folder).rglob("eval_seed-*/metrics.json"), key=lambda p: int(p.parent.name.rpartition("-")[2]))
    found = [p.parent for p in found if seed is None or p.parent.name == f"eval_seed-{seed}"]
    if not found:
        fail(f"{folder} holds no eval_seed-{'*' if seed is None else seed}/metrics.json")
    name = benchmark or load_json(found[0] / "metrics.json")[0]["benchmark"]
    if not (found[0] / f"{name}.tokens.jsonl").exists():
        fail(f"{found[0]} holds no {name}.tokens.jsonl", "evaluate again with --save_tokens")
    return found[0], name


def read(folder, name):
    """{(id, sample): (verdict line, token line)}"""
    verdicts = {(row["id"], row["sample"]): row for row in load_lines(folder / f"{name}.jsonl")}
    return {(row["id"], row["sample"]): (verdicts[row["id"], row["sample"]], row) for row in load_lines(folder / f"{name}.tokens.jsonl") if (row["id"], row["sample"]) in verdicts}


def colour(delta):
    """Blue where the vectors raise the log-prob, red where they lower it; full at 2 nats."""
    strength = min(1.0, abs(delta) / 2) * 0.75
    return f"rgba(47,109,179,{strength:.2f})" if delta > 0 else f"rgba(176,74,90,{strength:.2f})"


def side(title, verdict, tokens):
    spans = []
    for text, own, other in zip(tokens["tokens"], tokens["own"], tokens["other"]):
        delta = own - other if tokens["steered"] else other - own
        base, steered = (other, own) if tokens["steered"] else (own, other)
        shown = escape(text if text.strip() or "\n" not in text else "⏎" + text)
        look = f' style="background:{colour(delta)}"' if abs(delta) >= 0.03 else ""
        spans.append(f'<span{look} title="base {base:.2f}, steered {steered:.2f}: {delta:+.2f}">{shown}</span>')
    answer = verdict["extracted"] if verdict["extracted"] is not None else "no box"
    state = "right" if verdict["correct"] else "wrong"
    cut = ", cut" if verdict["truncated"] else ""
    return f'<div class="side {state}"><b>{title}: {state} ({escape(str(answer))}), {verdict["tokens"]} tokens{cut}</b>{"".join(spans)}</div>'


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--benchmark")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--limit", type=int, default=200, help="completions on the page (default 200)")
    parser.add_argument("--out", help="default report.html in the (last) folder")
    args = parser.parse_args()
    if len(args.folders) > 2:
        fail("found more than two folders, expected one of the experiment vanilla, or BASE and STEERED")
    base_folder, steered_folder = args.folders if len(args.folders) == 2 else (f"{args.folders[0]}/base", f"{args.folders[0]}/steered")
    base_folder, name = find(base_folder, args.benchmark, args.seed)
    steered_folder, _ = find(steered_folder, name, args.seed)
    rows = [next(row for row in load_json(folder / "metrics.json") if row["benchmark"] == name) for folder in (base_folder, steered_folder)]
    differs = unlike(*rows)
    if differs:
        fail(f"{base_folder} and {steered_folder} were not made alike: {differs}", "evaluate both with the same settings")
    base, steered = read(base_folder, name), read(steered_folder, name)
    keys = [key for key in base if key in steered]
    if not keys:
        fail(f"{base_folder} and {steered_folder} have no problem in common")
    state = lambda line: "right" if line["correct"] else "wrong"
    counts = {}
    articles = []
    for key in keys:
        kind = f"{state(base[key][0])}-{state(steered[key][0])}"
        counts[kind] = counts.get(kind, 0) + 1
        if len(articles) >= args.limit:
            continue
        verdict = base[key][0]
        articles.append(f'<article data-kind="{kind}"><h2>{escape(verdict["problem"])} <span class="meta">{escape(key[0])}, answer {escape(verdict["answer"])}</span></h2>'
                        f'<div class="pair">{side("base", *base[key])}{side("steered", *steered[key])}</div></article>')
    buttons = "".join(f'<button data-kind="{kind}">{label} {counts.get(kind, len(keys) if kind == "all" else 0)}</button>' for kind, label in KINDS)
    page = (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(name)}: base and steered</title><style>{STYLE}</style><body><header>'
            f'<div class="scale">less likely with the vectors<i></i>likelier (full at 2 nats)</div><h1>{escape(name)}: base and steered, {len(keys)} answers each</h1>'
            f'{buttons}<input placeholder="filter by text"> <span id="count"></span></header><main>{"".join(articles)}</main><script>{SCRIPT}</script></body></html>\n')
    out = args.out or f"{args.folders[-1]}/report.html"
    put(out, lambda path: path.write_text(page, encoding="utf-8"))
    print(f"{out}: {len(articles)} of {len(keys)} answers, {json.dumps(counts)}")


if __name__ == "__main__":
    main()
