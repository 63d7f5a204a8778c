#!/usr/bin/env python3
"""Writes added_records.jsonl: added tokens of every kind, with the ids that Hugging Face's tokenizers gives to texts, for dev/test/test_tokenizer.h.

    pip install tokenizers==0.23.3
    python dev/reference/make_added_records.py > dev/reference/added_records.jsonl

Each line is the tiny model's tokenizer.json with other "added_tokens" and another "normalizer", and "texts" with their ids; or, where tokenizers gives a token another
id than the file says, "given": that id, instead of texts.
"""
import json
import random
import unicodedata

from tokenizers import AddedToken, Tokenizer

PIECES = ["foo", "bar", "é", "e\u0301", "a", " ", "  ", "\n", "\u00a0", "\u3000", "_", "1", "²", "Ⓐ", "<t>", "<t>>", "<", "-", "中", "\u0301", "\u200d", "\u212b", "Å", "\u1100\u1161", "가",
          "\u0660", "\u180e", "\u200b", "\x1c", "\x85", " foo", "foo ", "Ⅷ", "🏽"]
NFC = {"type": "NFC"}
NORMALIZERS = [NFC, None, {"type": "Sequence", "normalizers": [NFC]}, {"type": "Sequence", "normalizers": []}, {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [NFC]}, NFC]}]
NONE = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


def token(i, content, **flags):
    return {"id": i, "content": content, **NONE, **flags}


def main():
    base = json.load(open("data/tiny/model/tokenizer.json", encoding="utf-8"))
    rng = random.Random(3)
    # as add_tokens makes them, one flag at a time, then mixed
    kinds = [[AddedToken("foo")], [AddedToken("<t>", lstrip=True), AddedToken("<t>>", rstrip=True)], [AddedToken("foo", single_word=True), AddedToken("e\u0301", normalized=True)],
             [AddedToken("é", normalized=False), AddedToken("<é>")], [AddedToken("\u212b"), AddedToken("가", single_word=True, normalized=True)],
             [AddedToken("\n", lstrip=True, rstrip=True), AddedToken(" foo", rstrip=True)]]
    for _ in range(18):
        kinds.append([AddedToken("".join(rng.choice(PIECES) for _ in range(rng.choice([1, 1, 2]))), single_word=rng.random() < 0.4, lstrip=rng.random() < 0.4, rstrip=rng.random() < 0.4,
                                 normalized=rng.random() < 0.6) for _ in range(rng.randint(2, 4))])
    for n, kind in enumerate(kinds):
        tokenizer = Tokenizer.from_str(json.dumps({**base, "normalizer": NORMALIZERS[n % len(NORMALIZERS)]}))
        for k, added in enumerate(kind):
            (tokenizer.add_special_tokens if (n + k) % 4 == 3 else tokenizer.add_tokens)([added])
        saved = json.loads(tokenizer.to_str())
        normalised = [unicodedata.normalize("NFC", t["content"]) for t in saved["added_tokens"] if t["normalized"]]
        if len(set(normalised)) < len(normalised):  # chance decides which is found: tokenizers 0.23.3 gives other ids from run to run
            continue
        names, texts = [t["content"] for t in saved["added_tokens"]], {}
        while len(texts) < 12:
            text = "".join(rng.choice(names[3:] if rng.random() < 0.5 else PIECES) for _ in range(rng.choice([2, 3, 5, 8])))
            try:
                texts[text] = tokenizer.encode(text, add_special_tokens=False).ids
            except BaseException:  # tokenizers panics where a token's spaces were all taken by the one before
                continue
        print(json.dumps({"added_tokens": saved["added_tokens"], "normalizer": saved["normalizer"], "texts": list(texts.items())}, separators=(",", ":")))
    first = base["added_tokens"]
    for more in ([token(260, "foo")], [token(300, "foo"), token(301, "bar")], [token(260, "foo"), token(259, "bar")], [token(5, "foo")], [token(259, "a")], [token(259, "foo"), token(261, "bar")],
                 [token(259, "é")]):
        tokenizer = Tokenizer.from_str(json.dumps({**base, "added_tokens": first + more}))
        wrong = next(t for t in more if tokenizer.token_to_id(t["content"]) != t["id"])
        print(json.dumps({"added_tokens": first + more, "normalizer": NFC, "given": tokenizer.token_to_id(wrong["content"])}, separators=(",", ":")))


if __name__ == "__main__":
    main()
