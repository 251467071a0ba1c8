/* Which sources each slot of a row reads, and how it weighs them: see routing.py, whose `largest`,
   softmax and `trust` say the same in tensors. REAL is float or double. */

#include <math.h>
#include <stdint.h>
#include <tgmath.h>

typedef struct {
    int64_t rows;          /* N = M·T·B */
    int64_t slots;         /* n */
    int64_t sources;       /* k < 256 of each slot */
    int64_t threads;
    const REAL *logits;    /* [N, n(n+1)/2], slot by slot */
    const REAL *score;     /* [N, n(n+1)/2]: the k largest above −∞ are chosen */
    uint8_t *source;       /* [N, n, k], ascending; then NONE */
    REAL *weight;          /* [N, n, k], of the latter 0 */
    uint8_t *trusted;      /* [N, n, k], or null */
    const REAL *gradient;  /* [N, n, k], of the weights */
    REAL *logits_gradient; /* [N, n(n+1)/2] */
} Router;

enum { NONE = 255 };

/* The k of the first `count` scores that are the largest, the first ones of equals, ascending;
   returns how many there are. */
static int64_t choose(const REAL *scores, int64_t count, int64_t k, uint8_t *source) {
    REAL best[256];
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        /* What is not a number is chosen: it shows in the weights. */
        const REAL score = isnan(scores[i]) ? INFINITY : scores[i];
        if (score == -INFINITY || (found == k && !(score > best[k - 1]))) continue;
        int64_t place = found < k ? found++ : k - 1;
        for (; place > 0 && score > best[place - 1]; place--)
            best[place] = best[place - 1], source[place] = source[place - 1];
        best[place] = score, source[place] = i;
    }
    for (int64_t e = 1; e < found; e++) {
        const uint8_t own = source[e];
        int64_t place = e;
        for (; place > 0 && source[place - 1] > own; place--) source[place] = source[place - 1];
        source[place] = own;
    }
    return found;
}

static void route_row(const Router *r, int64_t row) {
    const int64_t n = r->slots, k = r->sources, start = row * (n * (n + 1) / 2);
    const REAL *logits = r->logits + start, *score = r->score + start;
    for (int64_t slot = 0; slot < n; slot++, logits += slot, score += slot) {
        uint8_t *source = r->source + (row * n + slot) * k;
        REAL *weight = r->weight + (row * n + slot) * k;
        const int64_t count = choose(score, slot + 1, k, source);
        REAL most = -INFINITY, total = 0;
        for (int64_t e = 0; e < count; e++)
            if (logits[source[e]] > most) most = logits[source[e]];
        for (int64_t e = 0; e < count; e++) total += weight[e] = exp(logits[source[e]] - most);
        if (r->trusted) {
            uint8_t *trusted = r->trusted + (row * n + slot) * k;
            REAL all = 0;
            for (int64_t i = 0; i <= slot; i++) all += exp(logits[i] - most);
            for (int64_t e = 0; e < k; e++)
                trusted[e] = e < count && weight[e] / all > (REAL)1 / (slot + 2);
        }
        for (int64_t e = 0; e < count; e++) weight[e] /= total;
        for (int64_t e = count; e < k; e++) source[e] = NONE, weight[e] = 0;
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
        for (int64_t e = 0; e < k && source[e] != NONE; e++) mean += weight[e] * gradient[e];
        for (int64_t i = 0; i <= slot; i++) to[i] = 0;
        for (int64_t e = 0; e < k && source[e] != NONE; e++)
            to[source[e]] = weight[e] * (gradient[e] - mean);
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
