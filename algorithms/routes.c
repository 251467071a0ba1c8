/* Which sources each slot of a row reads, and how it weighs them: see routing.py, whose `select`,
   `mixing_weights` and `trust` say the same in tensors. REAL is float or double. */

#include <stdint.h>
#include <tgmath.h>

typedef struct {
    int64_t rows;            /* N = M·T·B */
    int64_t samples;         /* B rows of each task */
    int64_t slots;           /* n */
    int64_t sources;         /* k < 256 of each slot */
    int64_t threads;
    const REAL *logits;      /* [N, n(n+1)/2], slot by slot */
    const REAL *temperature; /* [M·T], or null: 1 */
    const REAL *noise;       /* [N, n, n], added to the tempered logits, or null */
    const uint8_t *given;    /* [N, n, n]: a stored selection of k sources at most, or null */
    uint8_t *selected;       /* [N, n, n] */
    uint8_t *source;         /* [N, n, k], ascending; then 0 in place of what there is not */
    REAL *weight;            /* [N, n, k], of the latter 0 */
    uint8_t *trusted;        /* [N, n, k], or null */
    const REAL *gradient;    /* [N, n, k], of the weights */
    REAL *logits_gradient;   /* [N, n(n+1)/2] */
} Router;

/* Sets selected[source] for the k sources of highest score. */
static void choose(const Router *r, int64_t row, int64_t slot, const REAL *logits,
                   uint8_t *selected) {
    const int64_t k = r->sources, n = r->slots;
    const REAL temperature = r->temperature ? r->temperature[row / r->samples] : 1;
    REAL best[256];
    int64_t where[256], found = 0;
    for (int64_t i = 0; i <= slot; i++) {
        REAL score = logits[i] / temperature;
        if (r->noise) score += r->noise[(row * n + slot) * n + i];
        if (isnan(score)) score = INFINITY; /* chosen, it shows in the weights */
        if (found == k && !(score > best[k - 1])) continue;
        int64_t place = found < k ? found++ : k - 1;
        for (; place > 0 && score > best[place - 1]; place--)
            best[place] = best[place - 1], where[place] = where[place - 1];
        best[place] = score, where[place] = i;
    }
    for (int64_t i = 0; i < found; i++) selected[where[i]] = 1;
}

static void route_row(const Router *r, int64_t row) {
    const int64_t n = r->slots, k = r->sources;
    const REAL *logits = r->logits + row * (n * (n + 1) / 2);
    for (int64_t slot = 0; slot < n; logits += ++slot) {
        uint8_t *selected = r->selected + (row * n + slot) * n;
        uint8_t *source = r->source + (row * n + slot) * k;
        REAL *weight = r->weight + (row * n + slot) * k;
        for (int64_t i = 0; i < n; i++)
            selected[i] = r->given && i <= slot ? r->given[(row * n + slot) * n + i] : 0;
        if (!r->given) choose(r, row, slot, logits, selected);

        int64_t count = 0;
        REAL most = -INFINITY, total = 0;
        for (int64_t i = 0; i <= slot && count < k; i++) {
            if (!selected[i]) continue;
            source[count++] = i;
            if (logits[i] > most) most = logits[i];
        }
        for (int64_t e = 0; e < count; e++) total += weight[e] = exp(logits[source[e]] - most);
        if (r->trusted) {
            uint8_t *trusted = r->trusted + (row * n + slot) * k;
            REAL all = 0;
            for (int64_t i = 0; i <= slot; i++) all += exp(logits[i] - most);
            for (int64_t e = 0; e < k; e++)
                trusted[e] = e < count && weight[e] / all > (REAL)1 / (slot + 2);
        }
        for (int64_t e = 0; e < count; e++) weight[e] /= total;
        for (int64_t e = count; e < k; e++) source[e] = 0, weight[e] = 0;
    }
}

/* Through the softmax over the sources of each slot. */
static void gradient_row(const Router *r, int64_t row) {
    const int64_t n = r->slots, k = r->sources;
    REAL *to = r->logits_gradient + row * (n * (n + 1) / 2);
    for (int64_t slot = 0; slot < n; to += ++slot) {
        const uint8_t *source = r->source + (row * n + slot) * k;
        const REAL *weight = r->weight + (row * n + slot) * k;
        const REAL *gradient = r->gradient + (row * n + slot) * k;
        REAL mean = 0;
        for (int64_t e = 0; e < k; e++) mean += weight[e] * gradient[e];
        for (int64_t i = 0; i <= slot; i++) to[i] = 0;
        for (int64_t e = 0; e < k; e++) to[source[e]] += weight[e] * (gradient[e] - mean);
    }
}

void route(const Router *r) {
#pragma omp parallel for num_threads(r->threads) if (r->rows >= 64)
    for (int64_t row = 0; row < r->rows; row++) route_row(r, row);
}

void route_gradient(const Router *r) {
#pragma omp parallel for num_threads(r->threads) if (r->rows >= 64)
    for (int64_t row = 0; row < r->rows; row++) gradient_row(r, row);
}
