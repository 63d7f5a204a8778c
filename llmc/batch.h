/*
Packing: many sequences become one Batch of rows without padding. Prefill, decode, the training forward and scoring all
build their batches here, so that a token meets the same operations whichever of them runs it.
*/
#ifndef LLMC_BATCH_H
#define LLMC_BATCH_H

#include "llmc/qwen2.h" // Batch, Sequence

int pages_for(int positions) { return (positions + KV_PAGE - 1) / KV_PAGE; }

// A Batch under construction, in the host's memory. Zero-initialise; reusable after batch_reset; free with
// batch_free.
typedef struct {
    Batch batch; // valid after batch_finish
    IntVec ids, pos, write_row, write_slot;
    IntVec pages, first_page; // all page lists one after another; where each sequence's begins
    Sequence *sequences;
    int n_sequences, cap_sequences;
    DeviceCopy copies[6]; // of ids, pos, write_row, write_slot, pages, sequences
} BatchBuilder;

void batch_reset(BatchBuilder *p) {
    p->ids.n = p->pos.n = p->write_row.n = p->write_slot.n = p->pages.n = p->first_page.n = 0;
    p->n_sequences = 0;
}

// Room, where the backend reads, for batches of up to so many rows, writes, pages in all lists together and sequences:
// the arrays stay where they are.
void batch_reserve(BatchBuilder *p, const Ops *ops, int rows, int writes, int pages, int sequences) {
    const int n[5] = {rows, rows, writes, writes, pages};
    for (int i = 0; i < 5; i++) device_copy_reserve(&p->copies[i], ops, (size_t)n[i] * sizeof(int));
    device_copy_reserve(&p->copies[5], ops, (size_t)sequences * sizeof(Sequence));
}

void batch_free(BatchBuilder *p, const Ops *ops) {
    for (int i = 0; i < 6; i++) device_copy_free(&p->copies[i], ops);
    ints_free(&p->ids);
    ints_free(&p->pos);
    ints_free(&p->write_row);
    ints_free(&p->write_slot);
    ints_free(&p->pages);
    ints_free(&p->first_page);
    free(p->sequences);
    memset(p, 0, sizeof *p);
}

// Appends n tokens of one sequence at positions pos0 ...; pages[] covers positions 0 ... pos0+n-1, and the keys of
// the new rows are written there. Returns the row of the first token.
int batch_add(BatchBuilder *p, const int *ids, int n, int pos0, const int *pages, int prefix_row0, int group) {
    int row0 = p->ids.n;
    for (int i = 0; i < n; i++) {
        int position = pos0 + i;
        ints_push(&p->ids, ids[i]);
        ints_push(&p->pos, position);
        ints_push(&p->write_row, row0 + i);
        ints_push(&p->write_slot, pages[position / KV_PAGE] * KV_PAGE + position % KV_PAGE);
    }
    if (p->n_sequences == p->cap_sequences) {
        p->cap_sequences = p->cap_sequences ? 2 * p->cap_sequences : 16;
        p->sequences = (Sequence *)xrealloc(p->sequences, (size_t)p->cap_sequences * sizeof(Sequence));
    }
    Sequence *g = &p->sequences[p->n_sequences++];
    g->row0 = row0;
    g->T = n;
    g->pos0 = pos0;
    g->prefix_row0 = prefix_row0;
    g->group = group;
    ints_push(&p->first_page, p->pages.n);
    for (int i = 0; i < pages_for(pos0 + n); i++) ints_push(&p->pages, pages[i]);
    return row0;
}

// The keys of a row go to one more slot: the last, partly filled page of a prompt is copied to each of its samples.
void batch_write_also(BatchBuilder *p, int row, int slot) {
    ints_push(&p->write_row, row);
    ints_push(&p->write_slot, slot);
}

const int *batch_upload(BatchBuilder *p, int which, const IntVec *v, const Ops *ops) {
    return (const int *)device_copy(&p->copies[which], ops, v->v, (size_t)v->n * sizeof(int));
}

// The batch, where the backend can read it. Valid until p is reset.
const Batch *batch_finish(BatchBuilder *p, const Ops *ops) {
    const int *pages = batch_upload(p, 4, &p->pages, ops);
    for (int i = 0; i < p->n_sequences; i++) p->sequences[i].pages = pages + p->first_page.v[i];
    Batch *b = &p->batch;
    b->T = p->ids.n;
    b->ids = batch_upload(p, 0, &p->ids, ops);
    b->pos = batch_upload(p, 1, &p->pos, ops);
    b->write_row = batch_upload(p, 2, &p->write_row, ops);
    b->write_slot = batch_upload(p, 3, &p->write_slot, ops);
    b->n_writes = p->write_row.n;
    b->sequences =
        (const Sequence *)device_copy(&p->copies[5], ops, p->sequences, (size_t)p->n_sequences * sizeof(Sequence));
    b->n_sequences = p->n_sequences;
    return b;
}

// ----------------------------------------------------------------------------
// a prompt and several completions, to be scored or trained on

// A sampled (or given) answer. The end-of-text token, if it came, is ids[n-1] and belongs to the loss.
typedef struct {
    int *ids;
    float *logprob; // [n] under the policy that sampled it
    int n;
    bool finished; // ended by an end-of-text token, not by max_completion_length
} Completion;

void completion_free(Completion *c) {
    free(c->ids);
    free(c->logprob);
    memset(c, 0, sizeof *c);
}

// Pages that a prompt of P tokens and k completions need. The last token of a completion predicts nothing, so it is not
// run.
int group_pages(int P, const Completion *const *c, int k) {
    int pages = pages_for(P);
    for (int i = 0; i < k; i++) pages += pages_for(P + c[i]->n - 1) - P / KV_PAGE;
    return pages;
}

// Appends a prompt once and k completions that share it, on fresh pages from *next_page on (advanced). Token t of
// completion i is predicted by row head_rows[.] with target targets[.]; both are appended to in the order i, t.
void batch_add_group(BatchBuilder *p, const int *prompt, int P, const Completion *const *c, int k, int group,
                     int *next_page, IntVec *head_rows, IntVec *targets) {
    int shared = P / KV_PAGE, tail = P % KV_PAGE;
    IntVec pages = {0};
    for (int i = 0; i < pages_for(P); i++) ints_push(&pages, (*next_page)++);
    int prompt_row = batch_add(p, prompt, P, 0, pages.v, 0, group);
    p->sequences[p->n_sequences - 1].prefix_row0 = prompt_row;
    for (int i = 0; i < k; i++) {
        pages.n = shared;
        while (pages.n < pages_for(P + c[i]->n - 1)) ints_push(&pages, (*next_page)++);
        int row0 = p->ids.n;
        if (c[i]->n > 1) {
            for (int t = 0; t < tail; t++)
                batch_write_also(p, prompt_row + P - tail + t, pages.v[shared] * KV_PAGE + t);
            row0 = batch_add(p, c[i]->ids, c[i]->n - 1, P, pages.v, prompt_row, group);
        }
        for (int t = 0; t < c[i]->n; t++) {
            ints_push(head_rows, t == 0 ? prompt_row + P - 1 : row0 + t - 1);
            ints_push(targets, c[i]->ids[t]);
        }
    }
    ints_free(&pages);
}

#endif
