#!/usr/bin/env python3
"""Downloads benchmarks and training problems from the Hugging Face hub and writes them as data/<name>.jsonl, the form that steer.c reads.

    python3 dev/data/download.py gsm8k_test math500 aime24 ...        (no name: lists what there is; --all: everything)

Needs Python alone: rows come as JSON from the hub's dataset viewer (GET /rows, 100 at a time), so there is nothing to install. Each line:
`id`, `problem`, `answer`, `source`, and `solution`, `multiple`, `error`, `level`, `subject` where the source has them. A file is written whole or
not at all; rows without an answer are left out and counted. The converters are tested against a local server that imitates the hub
(dev/data/test_download.py).
"""
import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SERVER = "https://datasets-server.huggingface.co"
PAGE = 100  # the most rows the server gives at once


def boxed(text):
    """What the last \\boxed{} of a text holds, braces matched; "" without one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth, at = 0, start + 6
    for i in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[at + 1:i].strip()
    return ""


def whole(answer):
    """27.0 -> 27, "033" -> 33; other answers as they are."""
    text = str(answer).strip()
    return str(int(float(text))) if re.fullmatch(r"-?\d+(\.0+)?", text) else text


# Each converter: a row and its index -> {"problem", "answer", ...}; the id is <name>-<index> unless the converter gives one.
def gsm8k(row, _):
    solution, _, answer = row["answer"].rpartition("####")
    return {"problem": row["question"], "answer": answer.strip().replace(",", ""), "solution": solution.strip()}


def math_500(row, _):
    return {"id": "math500-" + row["unique_id"].removesuffix(".json"), "problem": row["problem"], "answer": row["answer"], "solution": row["solution"],
            "subject": row["subject"], "level": int(row["level"])}


def hendrycks(row, _):
    return {"problem": row["problem"], "answer": boxed(row["solution"]), "solution": row["solution"], "subject": row["type"]}


def question_answer(row, _):
    return {"problem": row["question"], "answer": whole(row["answer"])}


def problem_answer(row, _):
    return {"problem": row["problem"], "answer": whole(row["answer"])}


def aime(row, _):
    return {"problem": row["problem"], "answer": whole(boxed(row["solution"]) or row.get("answer", ""))}


def minerva(row, _):
    return {"problem": row["question"], "answer": str(row["answer"]).strip()}


def olympiad(row, _):
    answers = row["final_answer"] or [""]
    found = {"id": f"olympiadbench-{row['id']}", "problem": row["question"], "answer": answers[0].replace("$", "").strip()}
    if row.get("is_multiple_answer"):
        found["multiple"] = True
    if row.get("error"):
        found["error"] = float(row["error"])
    if row.get("unit"):
        found["unit"] = row["unit"]
    return found


def deepscaler(row, _):
    return {"problem": row["problem"], "answer": str(row["answer"]).strip()}


MATH = ["algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus"]
# name -> (dataset, its configs, split, converter, prefix of ids, source)
SOURCES = {
    "gsm8k_train": ("openai/gsm8k", ["main"], "train", gsm8k, "gsm8k-train", "gsm8k"),
    "gsm8k_test": ("openai/gsm8k", ["main"], "test", gsm8k, "gsm8k-test", "gsm8k"),
    "math_train": ("EleutherAI/hendrycks_math", MATH, "train", hendrycks, "math-train", "math_train"),
    "math500": ("HuggingFaceH4/MATH-500", ["default"], "test", math_500, "math500", "math500"),
    "amc23": ("math-ai/amc23", ["default"], "test", question_answer, "amc23", "amc23"),
    "aime24": ("math-ai/aime24", ["default"], "test", aime, "aime24", "aime24"),
    "aime25": ("math-ai/aime25", ["default"], "test", problem_answer, "aime25", "aime25"),
    "minerva_math": ("math-ai/minervamath", ["default"], "test", minerva, "minerva", "minerva_math"),
    "olympiadbench": ("Hothan/OlympiadBench", ["OE_TO_maths_en_COMP"], "train", olympiad, "olympiadbench", "olympiadbench"),
    "deepscaler": ("agentica-org/DeepScaleR-Preview-Dataset", ["default"], "train", deepscaler, "deepscaler", "deepscaler"),
}


def fail(text, advice=""):
    sys.exit(f"error: {text}" + (f"\n  -> {advice}" if advice else ""))


def get(url, patience):
    """The JSON at a URL. Waits and tries again where the server is busy (429, 5xx) or the line broke."""
    for attempt in range(6):
        try:
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ['HF_TOKEN']}"} if os.environ.get("HF_TOKEN") else {})
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 429 and error.code < 500 or attempt == 5:
                fail(f"{url}: the server answered {error.code} {error.reason}", "is the data set still there under that name? Gated ones need HF_TOKEN")
        except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
            if attempt == 5:
                fail(f"{url}: {getattr(error, 'reason', error)}", "is there a network?")
        time.sleep(patience * 2 ** attempt)


def rows(server, dataset, config, split, patience):
    offset, total = 0, 1
    while offset < total:
        query = urllib.parse.urlencode({"dataset": dataset, "config": config, "split": split, "offset": offset, "length": PAGE})
        page = get(f"{server}/rows?{query}", patience)
        if not page.get("rows"):
            fail(f"{dataset} ({config}, {split}): no rows from {offset} on, expected {page.get('num_rows_total', 'some')}")
        for row in page["rows"]:
            if row.get("truncated_cells"):
                fail(f"{dataset} row {row['row_idx']}: the server cut {row['truncated_cells']} short")
            yield row["row"]
        offset += len(page["rows"])
        total = page["num_rows_total"]
        print(f"\r{dataset} {config}: {offset} of {total}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def download(name, server, folder, patience):
    dataset, configs, split, convert, prefix, source = SOURCES[name]
    lines, empty, index = [], 0, 0
    for config in configs:
        for row in rows(server, dataset, config, split, patience):
            try:
                found = convert(row, index)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                fail(f"{dataset} row {index}: {error!r}; it has {sorted(row)}", "the data set has another form than this script knows")
            line = {"id": f"{prefix}-{index}", **found, "source": source}
            index += 1
            if not line["answer"] or not line["problem"].strip():
                empty += 1
                continue
            lines.append(json.dumps({k: v for k, v in line.items() if v != ""}, ensure_ascii=False))
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / f"{name}.jsonl", folder / f".{name}.jsonl.part"
    part.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    part.replace(target)
    print(f"{target}: {len(lines)} problems" + (f", {empty} without an answer left out" if empty else ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--out", default="data", help="folder (default data)")
    parser.add_argument("--server", default=SERVER)
    parser.add_argument("--patience", type=float, default=2, help="seconds before the first retry (default 2)")
    args = parser.parse_args()
    for name in args.names:
        if name not in SOURCES:
            fail(f'there is no "{name}"', "one of: " + ", ".join(SOURCES))
    if not args.names and not args.all:
        for name, (dataset, configs, split, *_) in SOURCES.items():
            print(f"{name:15} {dataset} ({split})")
        return
    for name in args.names or SOURCES:
        download(name, args.server.rstrip("/"), Path(args.out), args.patience)


if __name__ == "__main__":
    main()
