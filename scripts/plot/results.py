"""Reading results/: evaluations, variants of experiments, vectors. Needs nothing but Python. Not a script."""
import json
import os
import struct
import sys
import unicodedata
from array import array
from pathlib import Path


def fail(text, advice=""):
    sys.exit(f"error: {text}" + (f"\n  -> {advice}" if advice else ""))


def load_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except ValueError as error:
        fail(f"{path}: not JSON: {error}")


def load_lines(path):
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except ValueError as error:
        fail(f"{path}: not JSON lines: {error}")


def evaluation(folder):
    """{seed: {benchmark: metrics}} of the eval_seed-* folders anywhere below a folder."""
    seeds = {}
    for path in sorted(Path(folder).rglob("eval_seed-*/metrics.json")):
        seed = int(path.parent.name.rpartition("-")[2])
        if seed in seeds:
            fail(f"{folder} holds seed {seed} twice", "name a folder with the results of one decoding (temp_..._top_p_...)")
        seeds[seed] = {row["benchmark"]: row for row in load_json(path)}
    alike([(str(folder), seeds)], some=True)
    return seeds


# Of made_with: where files lie, what rounds otherwise, and what differs where one compares
NOT_COMPARED = {"model", "data", "checkpoint", "steering", "place_steering", "adapter", "recipients", "donors", "isa", "program_sha256", "seed", "variant", "vectors_sha256", "put_in_sha256"}


def unlike(a, b, free=()):
    """"limit 20 and 0, n 20 and 500": what two rows of one benchmark were made with and do not share; "" if they were made alike."""
    old, new = a.get("made_with"), b.get("made_with")
    if old is None or new is None:  # an earlier version's
        print("warning: results do not say what they were made with; compared are their numbers of problems and answers alone", file=sys.stderr)
        old = new = {}
    if old.get("isa") != new.get("isa"):
        print(f"warning: computed with {old.get('isa')} and {new.get('isa')} instructions, which round otherwise", file=sys.stderr)
    known = lambda made, key: made[key] if key in made else ""  # an option that the program did not have yet: off
    pairs = [(key, known(old, key) or "", known(new, key) or "") for key in sorted({*old, *new} - NOT_COMPARED - set(free))] + [(key, a.get(key), b.get(key)) for key in ("n", "num_generations")]
    show = lambda value: value[:12] if isinstance(value, str) else value
    return ", ".join(dict.fromkeys(f"{key} {show(x)} and {show(y)}" for key, x, y in pairs if x != y))


def alike(evaluations, free=(), some=False):
    """Ends the script where evaluations that it puts side by side were not made alike. evaluations: [(name, {seed: metrics})]; free: keys of made_with that may
    differ, such as model_sha256. Vectors may, as they are what is compared. A benchmark that one of them lacks is unlike, too, but with `some`."""
    rows = [(f"{name}, seed {seed}", metrics) for name, seeds in evaluations for seed, metrics in seeds.items()]
    first = {}
    if len({tuple(seeds) for _, seeds in evaluations if seeds}) > 1:
        print("warning: not with the same seeds: " + "; ".join(f"{name}: {', '.join(map(str, seeds))}" for name, seeds in evaluations if seeds), file=sys.stderr)
    for where, metrics in rows:
        if not some and set(metrics) != set(rows[0][1]):
            fail(f"{rows[0][0]}, and {where} were not made alike: benchmarks {', '.join(sorted(rows[0][1]))} and {', '.join(sorted(metrics))}", "answer the same benchmarks with both")
        for benchmark, row in metrics.items():
            there, other = first.setdefault(benchmark, (where, row))
            differs = unlike(other, row, free)
            if differs:
                fail(f"{there}, and {where} were not made alike: {benchmark}: {differs}", "evaluate both with the same settings")


def put(out, write):
    """write(path) to a temporary name, then that in the place of `out`: a full disk or a kill leaves what was there."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".tmp-{out.name}")
    write(part)
    os.replace(part, out)


def accuracy(seeds, benchmark=None):
    """(mean, low, high) in percent: mean over benchmarks (or of one) and seeds; +- one population std over seeds, or, where there is
    one seed and one benchmark, its 95 % interval. None without results."""
    values = []
    for metrics in seeds.values():
        rows = [row for name, row in metrics.items() if benchmark in (None, name)]
        if rows:
            values.append(sum(row["accuracy"] for row in rows) / len(rows))
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) > 1:
        std = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        return mean, mean - std, mean + std
    rows = [row for metrics in seeds.values() for name, row in metrics.items() if benchmark in (None, name)]
    return (mean, rows[0]["ci_low"], rows[0]["ci_high"]) if len(rows) == 1 else (mean, mean, mean)


def spread(seeds):
    """What the error bars of `accuracy` are, for captions."""
    return f"± std over {len(seeds)} evaluation seeds" if len(seeds) > 1 else "95 % interval"


def problems(seeds):
    """"100 problems" of the first seed, for captions."""
    rows = list(next(iter(seeds.values())).values()) if seeds else []
    return " + ".join(f"{row['n']}" + (f"×{row['num_generations']}" if row["num_generations"] > 1 else "") for row in rows) + " problems"


def variants(folder, free=()):
    """[(variant.json, {seed: metrics})] of an experiment's folder, those with results; they must be made alike (free: see alike)."""
    found = [(load_json(path), evaluation(path.parent)) for path in sorted(Path(folder).glob("*/variant.json"))]
    found = [(variant, seeds) for variant, seeds in found if seeds]
    if not found:
        fail(f"{folder} holds no answered variant (*/variant.json)", "run the experiment first: ./eval_steer experiment NAME --config FILE.yml")
    alike([(variant["variant"], seeds) for variant, seeds in found], free)
    return found


def load_vectors(path):
    """Rows of the tensor `steering` of a safetensors file (fp32, as steer.c writes it)."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    try:
        size = struct.unpack("<Q", data[:8])[0]
        entry = json.loads(data[8:8 + size])["steering"]
        if entry["dtype"] != "F32":
            fail(f"{path}: tensor steering is {entry['dtype']}, expected F32")
        rows, columns = entry["shape"]
        values = array("f", data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
    except (struct.error, ValueError, KeyError) as error:
        fail(f"{path} is no safetensors file with a tensor steering: {error!r}")
    return [values[i * columns:(i + 1) * columns] for i in range(rows)]


def cosine(a, b):
    """NaN where one is zero."""
    size = (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5
    return sum(x * y for x, y in zip(a, b)) / size if size > 0 else float("nan")


def visible(token, dollar="\\$"):
    """A token's text with blanks and line breaks to be seen; letters that common fonts lack, or that turn the line's direction, by number; a dollar as matplotlib wants it."""
    text = token.replace(" ", "␣").replace("\n", "⏎").replace("\r", "⏎").replace("\t", "⇥").replace("\ufffd", "?").replace("$", dollar)
    odd = lambda c: "\u0590" <= c < "\u1e00" or c >= "\u2c00" or unicodedata.east_asian_width(c) in "WF" or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cn", "Mn")
    return "".join(f"\\u{ord(c):04x}" if odd(c) else c for c in text) or "(empty)"


def token_line(tokens, width):
    """"token +0.12   token +0.11 ...": as many of the tokens as fit into `width` characters."""
    line = ""
    for t in tokens:
        more = f"{visible(t['token'])} {t['cosine']:+.2f}"
        if line and len(line) + 3 + len(more) > width:
            break
        line += ("   " if line else "") + more
    return line
