/*
logit_lens: which tokens each vector points to: dot product and cosine with every row of the unembedding matrix (without
the final norm), the --top of them; and of all vectors together the norms by layer, cosines of pairs, singular values
and the stable rank.

    results/experiments/logit_lens/<Model>/<dataset>/logit_lens.json
*/
#ifndef LLMC_EXPERIMENTS_LOGIT_LENS_H
#define LLMC_EXPERIMENTS_LOGIT_LENS_H

#include "llmc/experiments/lens.h"
#include "llmc/experiments/variants.h"

bool experiment_logit_lens(Session *s, Error *err) {
    if (!session_tokenizer(s, err) || !session_model(s, 1, err) || !experiment_needs_vectors(s, err)) return false;
    const int L = s->model.config.L, C = s->model.config.C;
    IntVec layers = {0};
    if (!experiment_layers(&layers, s, err)) return false;
    char *dir = experiment_dir(s, "logit_lens", err);
    Str out = {0};
    if (!dir || !experiment_result_begin(&out, s, dir, "logit_lens.json", err)) return false;

    str_printf(&out, "\"layers\": [\n");
    for (int i = 0; i < layers.n; i++) {
        const float *v = s->vectors + (size_t)layers.v[i] * C;
        str_printf(&out, "%s  {\"layer\": %d, \"norm\": %.6g, ", i ? ",\n" : "", layers.v[i], lens_norm(v, (size_t)C));
        lens_json_direction(&out, &s->model, s->tokenizer, v, s->options.top);
        str_printf(&out, "}");
    }
    double *cosines = (double *)xcalloc((size_t)L * L, sizeof(double)),
           *values = (double *)xcalloc((size_t)L, sizeof(double));
    for (int i = 0; i < L; i++)
        for (int j = 0; j < L; j++)
            cosines[i * L + j] = lens_cosine(s->vectors + (size_t)i * C, s->vectors + (size_t)j * C, (size_t)C);
    lens_singular_values(values, s->vectors, L, C);
    str_printf(&out, "\n], \"cosines\": ");
    lens_json_matrix(&out, cosines, L, L);
    str_printf(&out, ", \"singular_values\": ");
    lens_json_numbers(&out, values, (size_t)L);
    str_printf(&out, ", \"stable_rank\": ");
    lens_json_number(&out, lens_stable_rank(values, L));
    str_printf(&out, "}\n");
    bool ok = experiment_write(dir, "logit_lens.json", &out, err);
    if (ok && !s->options.json)
        printf("stable rank %.2f of %d vectors\nsaved %s\n", lens_stable_rank(values, L), L, dir);
    if (ok && s->options.json) printf("{\"stable_rank\": %.6g}\n", lens_stable_rank(values, L));
    free(cosines);
    free(values);
    free(dir);
    ints_free(&layers);
    str_free(&out);
    return ok;
}

#endif
