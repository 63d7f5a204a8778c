#!/usr/bin/env python3
"""Writes tokenizer_records.jsonl: texts with the ids Hugging Face's tokenizers gives them, for dev/test/test_tokenizer.h.

    pip install tokenizers==0.23.3
    python dev/reference/make_tokenizer_records.py MODEL_DIR DATA_DIR > dev/reference/tokenizer_records.jsonl

MODEL_DIR holds Qwen2.5-Coder-0.5B-Instruct's tokenizer.json (Qwen2.5's), DATA_DIR the problem files. Each line is {"text", "ids"} and, where
decoding does not give the text back (it was not in NFC), "decoded".
"""
import glob
import json
import random
import sys

from tokenizers import Tokenizer

SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "<|", "<", "|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<<|im_end|>", "|im_end|>"]
POOLS = [
    [chr(c) for c in range(128)],
    [chr(c) for c in range(0x300, 0x370)] + list("aeo\u0323\u0301\u0328\u0345"),              # marks in and out of order
    [chr(c) for c in range(0x1100, 0x1200)] + [chr(0xAC00 + 28 * k) for k in range(50)],       # jamo, among them U+11A7
    ["👩", "👨", "\u200d", "👧", "🏽", "🇩", "🇪", "❤", "\ufe0f", "🏳", "🌈", "👍"],
    list("中文字日本語のテスト、。ガガプ"),
    list("שלום עולם \u064c\u064b\u064e\u0650\u0651\u0652 العربية ١٢٣ \u200f\u200e"),
    list(" \t\n\r\x0b\x0c\x85\u00a0\u1680\u180e\u2000\u2003\u2028\u2029\u202f\u205f\u3000\u200b\ufeff\x1c\x1f"),
    list("०१२٣۴५६²³½Ⅷ①𝟘𝟙๓零") + ["1", "2"],
    list("'sStTrReEvVmMlLdD\u017fK\u212a\u2019 "),
    SPECIAL,
    list(" \n\r\ta1."),
    [chr(c) for c in (0x340, 0x341, 0x343, 0x344, 0x958, 0xF73, 0xF81, 0x212B, 0x2126, 0x2ADC, 0xFB1D, 0x1D15E, 0x1D1BB, 0x9C7, 0x9BE,
                      0x110A5, 0x110BA, 0x1F82, 0x390, 0x1D5, 0x1026, 0xF900, 0xFA10, 0x11935, 0x11930, 0x11938, 0x1AC0, 0x1DF6, 0x11D42)],
    [chr(c) for c in (0x1D2C0, 0x1E4F0, 0x11386, 0x13E1B, 0x1C89, 0xA7CB, 0x31350, 0x2EBF0)],  # letters and digits of Unicode 15 and 16
]
FIXED = ["", "\0", "a\0b", "<|im_start|>user\nHi<|im_end|>\n", "I'VE we'Ll it'S 'ſ", "a" * 64, "a" * 65, " " * 200 + "x", "\n" * 100, "\r\n" * 30 + "z",
         "ab" * 100, "9" * 50, "e\u0301" * 40, ("\u0301" * 9 + "\u0323" * 9) * 3, "中" * 70, "fn(x) {\n\t\treturn  x;\n}\n\n\n", "각" + "\u11a7", "x\u0085y\u2028z"]


def main(model_dir, data_dir):
    tokenizer = Tokenizer.from_file(model_dir + "/tokenizer.json")
    rng = random.Random(1)
    texts = list(FIXED)
    for path in sorted(glob.glob(data_dir + "/*.jsonl")):
        rows = [json.loads(line) for line in open(path, encoding="utf-8")]
        texts += [row["problem"] for row in rng.sample(rows, 2) if len(row.get("problem", "")) in range(1, 600)]
    for _ in range(500):
        pools = rng.choices(POOLS, k=rng.choice([1, 1, 2, 3]))
        texts.append("".join(rng.choice(rng.choice(pools)) for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 30]))))
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        record = {"text": text, "ids": ids}
        if decoded != text:
            record["decoded"] = decoded
        print(json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    main(*sys.argv[1:])
