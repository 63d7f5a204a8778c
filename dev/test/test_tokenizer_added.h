// Added tokens of every kind, against Hugging Face's records (dev/reference/make_added_records.py).
#ifndef DEV_TEST_TEST_TOKENIZER_ADDED_H
#define DEV_TEST_TEST_TOKENIZER_ADDED_H

#include "dev/test/test_tokenizer.h" // test_tokenizer_from, test_ids_are

void test_tokenizer_added(void) {
    const char *records = "dev/reference/added_records.jsonl";
    Error err = {0, ""};
    cJSON *base = json_load("data/tiny/model/tokenizer.json", &err);
    char *text = base ? read_file(records, NULL, &err) : NULL, *rest = text, *line;
    int texts = 0, wrong = 0, refused = 0, number = 0;
    if (!CHECK(text != NULL, "%s", err.text)) return;
    while ((line = strsep(&rest, "\n")) != NULL && *line) {
        cJSON *o = json_parse(line, strlen(line), records, &err);
        const cJSON *list = json_find(o, "texts"), *given = json_find(o, "given");
        number++;
        cJSON_ReplaceItemInObjectCaseSensitive(base, "added_tokens",
                                               cJSON_DetachItemFromObjectCaseSensitive(o, "added_tokens"));
        cJSON_ReplaceItemInObjectCaseSensitive(base, "normalizer",
                                               cJSON_DetachItemFromObjectCaseSensitive(o, "normalizer"));
        char *json = cJSON_PrintUnformatted(base), words[32];
        memset(&err, 0, sizeof err);
        Tokenizer *t = test_tokenizer_from(json, strlen(json), &err);
        if (given) {
            snprintf(words, sizeof words, "gives it id %d\n", given->valueint);
            refused += CHECK(!t && strstr(err.text, "contradicts") && strstr(err.text, words), "%s:%d: %s", records,
                             number, err.text);
        } else CHECK(t != NULL, "%s:%d: %s", records, number, err.text);
        for (const cJSON *item = t && list ? list->child : NULL; item; item = item->next, texts++) {
            IntVec ids = {NULL, 0, 0};
            const char *s = item->child->valuestring;
            for (const cJSON *id = item->child->next->child; id; id = id->next) ints_push(&ids, id->valueint);
            if (!test_ids_are(t, s, strlen(s), ids.v, ids.n)) {
                wrong++;
                printf("  %s:%d \"%s\"\n", records, number, s);
            }
            ints_free(&ids);
        }
        tokenizer_free(t);
        cJSON_free(json);
        cJSON_Delete(o);
    }
    CHECK(texts >= 250 && refused >= 7 && wrong == 0, "%d of %d texts have other ids, %d files refused", wrong, texts,
          refused);
    free(text);
    cJSON_Delete(base);
}

// What a token that is added means to the vocabulary that has its bytes already: nothing.
void test_tokenizer_added_bytes(void) {
    static const char *const json =
        "{\"added_tokens\":[{\"id\":3,\"content\":\" "
        "a\",\"special\":false,\"single_word\":true,\"normalized\":true}],\"model\":{\"ignore_merges\":true,\"vocab\":{"
        "\"a\":0,\"\u0120\":1,\"\u0120a\":2},"
        "\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}}";
    static const struct {
        const char *text;
        int ids[3], n;
    } cases[] = {
        {" a  a", {3, 1, 3}, 3}, {"a a a", {0, 2, 2}, 3}, {" a a", {3, 2}, 2}, {" aa", {1, 0, 0}, 3}}; // tokenizers'
    Error err = {0, ""};
    Tokenizer *t = test_tokenizer_from(json, strlen(json), &err);
    if (!CHECK(t != NULL, "%s", err.text)) return;
    for (int i = 0; i < 4; i++)
        CHECK(test_ids_are(t, cases[i].text, strlen(cases[i].text), cases[i].ids, cases[i].n), "\"%s\"", cases[i].text);
    CHECK(tokenizer_id(t, " a") == 3 && tokenizer_id(t, "a") == 0, "ids");
    tokenizer_free(t);
    static const char *const alike =
        "{\"added_tokens\":[{\"id\":1,\"content\":\"\u212B\",\"special\":false,\"normalized\":true},{\"id\":2,"
        "\"content\":\"A\u030A\",\"special\":false,\"normalized\":true}],"
        "\"normalizer\":{\"type\":\"NFC\"},\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":"
        "\"ByteLevel\",\"add_prefix_space\":false}}";
    static const char *const gap = "{\"added_tokens\":[{\"id\":1,\"content\":\"x\",\"special\":false}],\"model\":{"
                                   "\"vocab\":{\"a\":1},\"merges\":[]},"
                                   "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}";
    CHECK(!test_tokenizer_from(gap, strlen(gap), &err) && strstr(err.text, "another token of that id"), "%s", err.text);
    memset(&err, 0, sizeof err);
    CHECK(!test_tokenizer_from(alike, strlen(alike), &err) &&
              strstr(err.text, "ids 1 and 2 are normalised to the same text"),
          "%s", err.text);
}

#endif
