#!/usr/bin/env python3
"""Tests download.py against a local server that imitates the hub: pages of 100, a busy server, a cut cell, a missing column.

    python3 dev/data/test_download.py        (from the repository root; ends in `N passed, N failed`)
"""
import json
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

ROWS = {
    "openai/gsm8k/test": [{"question": f"How many {i}?", "answer": f"{i} and <<{i}*2={2 * i}>>{2 * i}\n#### {2 * i:,}"} for i in range(1250)],
    "HuggingFaceH4/MATH-500/test": [{"problem": "p", "solution": "s \\boxed{1}", "answer": "1", "subject": "Algebra", "level": 3, "unique_id": "test/algebra/7.json"}],
    "EleutherAI/hendrycks_math/train": [{"problem": "q", "solution": "so \\boxed{\\frac{1}{2}} ends", "level": "Level 2", "type": "Geometry"},
                                        {"problem": "no box", "solution": "a proof", "level": "Level 5", "type": "Geometry"}],
    "math-ai/amc23/test": [{"id": 0, "question": "miles", "answer": "27.0", "url": "x"}],
    "math-ai/aime24/test": [{"id": 60, "problem": "walk", "solution": "\\boxed{033}"}],
    "math-ai/aime25/test": [{"id": "0", "problem": "bases", "answer": "70"}],
    "math-ai/minervamath/test": [{"question": "mass", "answer": "3.83e35"}],
    "Hothan/OlympiadBench/train": [{"id": 1606, "question": "game", "final_answer": ["$1,2$"], "is_multiple_answer": True, "error": "0.1", "unit": None}],
    "agentica-org/DeepScaleR-Preview-Dataset/train": [{"problem": "d", "answer": "-\\frac{2}{3}", "solution": ""}, {"problem": "e", "answer": "", "solution": ""}],
}
busy = {"left": 2}  # the first requests are refused, as a busy hub does
passed = failed = 0


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        query = {k: v[0] for k, v in parse_qs(urlparse(self.path).query).items()}
        rows = ROWS.get(f"{query.get('dataset')}/{query.get('split')}")
        if busy["left"] > 0:
            busy["left"] -= 1
            return self.send_error(429)
        if rows is None or not self.path.startswith("/rows?"):
            return self.send_error(404)
        first, length = int(query["offset"]), int(query["length"])
        assert length <= 100
        cut = ["answer"] if rows and rows[0].get("cut") else []
        page = [{"row_idx": first + i, "row": row, "truncated_cells": cut} for i, row in enumerate(rows[first:first + length])]
        body = json.dumps({"features": [], "rows": page, "num_rows_total": len(rows)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED", what)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    out = Path(tempfile.mkdtemp(prefix="test_download."))
    run = lambda *names: subprocess.run([sys.executable, "dev/data/download.py", *names, "--out", str(out), "--server", f"http://127.0.0.1:{server.server_port}", "--patience", "0.01"],
                                        capture_output=True, text=True)
    read = lambda name: [json.loads(line) for line in (out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]

    done = run("gsm8k_test", "math500", "amc23", "aime24", "aime25", "minerva_math", "olympiadbench", "deepscaler")
    check(done.returncode == 0, done.stderr)
    gsm8k = read("gsm8k_test")
    check(len(gsm8k) == 1250 and [g["id"] for g in gsm8k[::1249]] == ["gsm8k-test-0", "gsm8k-test-1249"], "all pages, in order")
    check(gsm8k[700] == {"id": "gsm8k-test-700", "problem": "How many 700?", "answer": "1400", "solution": "700 and <<700*2=1400>>1400", "source": "gsm8k"}, gsm8k[700])
    check(read("math500")[0]["id"] == "math500-test/algebra/7" and read("math500")[0]["level"] == 3, read("math500"))
    check(read("amc23")[0]["answer"] == "27", read("amc23"))
    check(read("aime24")[0]["answer"] == "33", read("aime24"))
    check(read("aime25")[0]["answer"] == "70", read("aime25"))
    check(read("minerva_math")[0]["answer"] == "3.83e35", read("minerva_math"))
    olympiad = read("olympiadbench")[0]
    check(olympiad == {"id": "olympiadbench-1606", "problem": "game", "answer": "1,2", "multiple": True, "error": 0.1, "source": "olympiadbench"}, olympiad)
    check(len(read("deepscaler")) == 1 and "1 without an answer" in done.stdout, "rows without an answer are counted")
    check(all(row["problem"] and row["answer"] and row["id"] for path in out.glob("*.jsonl") for row in read(path.stem)), "no empty field")

    done = run("math_train")
    check(done.returncode == 0 and len(read("math_train")) == 7 and read("math_train")[0]["answer"] == "\\frac{1}{2}", done.stderr + done.stdout)
    check(len({row["id"] for row in read("math_train")}) == 7, "ids are unique over the configs")

    before = (out / "amc23.jsonl").read_bytes()
    ROWS["math-ai/amc23/test"][0]["cut"] = True
    done = run("amc23")
    check(done.returncode == 1 and "cut" in done.stderr and (out / "amc23.jsonl").read_bytes() == before, "a cut cell is an error, and the old file stays")
    del ROWS["math-ai/aime25/test"][0]["answer"]
    done = run("aime25")
    check(done.returncode == 1 and "another form" in done.stderr, done.stderr)
    del ROWS["math-ai/minervamath/test"]
    done = run("minerva_math")
    check(done.returncode == 1 and "404" in done.stderr, done.stderr)
    done = run("nosuch")
    check(done.returncode == 1 and "one of: gsm8k_train" in done.stderr, done.stderr)
    done = run()
    check(done.returncode == 0 and "HuggingFaceH4/MATH-500" in done.stdout, "the list")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
