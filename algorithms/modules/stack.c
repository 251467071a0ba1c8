/* The passes of a module stack, a few rows at a time.

   The recursion is that of stack.py; stack_operator.py calls this. Rows do not depend on each other, so a
   chunk of them goes through all modules while what it reads is still in the cache. REAL is float or
   double. */

#include <omp.h>
#include <stdint.h>

/* The Fortran interface of BLAS. Its integers have 32 or 64 bits; small ones are read alike. */
typedef void (*Gemm)(const char *, const char *, const int64_t *, const int64_t *,
                     const int64_t *, const REAL *, const REAL *, const int64_t *, const REAL *,
                     const int64_t *, const REAL *, REAL *, const int64_t *);

typedef struct {
    int64_t slots;            /* n: module j reads slot j - 1, the head reads slot n - 1 */
    int64_t members;          /* M networks, each with weights of its own */
    int64_t rows;             /* T·B of each member; N = M·T·B of all */
    int64_t samples;          /* B rows of each task */
    int64_t units;            /* H */
    int64_t sources;          /* k of each slot; without `source`, n: all */
    int64_t shared;           /* 1 where all rows of a task share their mixing, else 0 */
    int64_t chunk;            /* rows at a time */
    int64_t threads;
    Gemm gemm;
    const REAL *mixing;       /* [N, n, k], or [M·T, n, k] where it is shared */
    const uint8_t *source;    /* like `mixing`, NONE where there is none; or null: the e-th is e */
    const uint8_t *trusted;   /* like `mixing`, or null: all */
    const REAL *weight;       /* [M, n - 1, H out, H in] */
    const REAL *bias;         /* [M, n - 1, H] */
    const REAL *first;        /* [N, H]: the output of the first module */
    REAL *outputs;            /* [N, n, H] */
    REAL *inputs;             /* [M, n - 1, T·B, H] */
    uint8_t *active;          /* [M, n - 1, T·B, H]: which units' ReLUs are on */
    REAL *result;             /* [N, H]: the head's input */
    const REAL *gradient;     /* [N, H], of `result` */
    REAL *first_gradient;     /* [N, H] */
    REAL *mixing_gradient;    /* [N, n, k], or null; not without `source` */
    REAL *masked;             /* [M, n - 1, T·B, H]: gradients of the modules' products, or null */
    REAL *weight_gradient;    /* [M, n - 1, H, H], or null */
    REAL *bias_gradient;      /* [M, n - 1, H] */
    REAL *scratch;            /* [threads, chunk · (2 n + 2), H] */
} Stack;

typedef struct {
    int64_t member, start, rows; /* `start` counts in all N */
    int64_t depth;               /* of its deepest task */
    REAL *own;                   /* this thread's part of the scratch */
} Chunk;

enum { MOST = 255, NONE = 255 }; /* slots; the caller checks */

/* Some neighbours in memory; compilers split it where the processor's registers are smaller. */
enum { LANES = 64 / sizeof(REAL) };
typedef REAL Vector __attribute__((vector_size(64), aligned(sizeof(REAL)), may_alias));

/* C [m, n] = scale · C + A [m, k] B [k, n], row by row in memory; either may be stored transposed. */
static void product(const Stack *s, const REAL *a, char transpose_a, const REAL *b,
                    char transpose_b, REAL scale, REAL *c, int64_t m, int64_t n, int64_t k) {
    const REAL one = 1;
    const int64_t width_a = transpose_a == 'T' ? m : k, width_b = transpose_b == 'T' ? k : n;
    /* BLAS reads columns: it sees every matrix transposed, and the product in reverse. */
    s->gemm(&transpose_b, &transpose_a, &n, &m, &k, &one, b, &width_b, a, &width_a, &scale, c, &n);
}

/* y = Σ_e weight[e] · x[e] */
static void combine(REAL *restrict y, const REAL *const *x, const REAL *weight, int count,
                    int64_t units) {
    int64_t h = 0;
    for (; h + 4 * LANES <= units; h += 4 * LANES) {
        Vector a = {0}, b = {0}, c = {0}, d = {0};
        for (int e = 0; e < count; e++) {
            const Vector *from = (const Vector *)(x[e] + h);
            a += weight[e] * from[0], b += weight[e] * from[1];
            c += weight[e] * from[2], d += weight[e] * from[3];
        }
        Vector *to = (Vector *)(y + h);
        to[0] = a, to[1] = b, to[2] = c, to[3] = d;
    }
    for (; h < units; h++) {
        REAL total = 0;
        for (int e = 0; e < count; e++) total += weight[e] * x[e][h];
        y[h] = total;
    }
}

static REAL dot(const REAL *x, const REAL *y, int64_t units) {
    Vector a = {0}, b = {0};
    int64_t h = 0;
    for (; h + 2 * LANES <= units; h += 2 * LANES) {
        const Vector *left = (const Vector *)(x + h), *right = (const Vector *)(y + h);
        a += left[0] * right[0], b += left[1] * right[1];
    }
    a += b;
    REAL sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += a[lane];
    for (; h < units; h++) sum += x[h] * y[h];
    return sum;
}

/* Where the entries of a slot begin. */
static int64_t entry(const Stack *s, int64_t row, int64_t slot) {
    return ((s->shared ? row / s->samples : row) * s->slots + slot) * s->sources;
}

static int64_t source(const Stack *s, int64_t at, int64_t e) {
    return s->source ? s->source[at + e] : e;
}

/* Modules up to the last one that anything reads; of rows that are wired one by one, all. */
static int64_t depth(const Stack *s, int64_t task) {
    const int64_t n = s->slots;
    if (!s->shared || s->source) return n;
    for (int64_t last = n - 1; last > 0; last--)
        for (int64_t slot = last; slot < n; slot++)
            if (s->mixing[(task * n + slot) * n + last] != 0) return last + 1;
    return 1;
}

/* Where a row of all N stands among what is kept of a member's module, 0 the first residual one. */
static int64_t place(const Stack *s, int64_t member, int64_t module, int64_t row) {
    return ((member * (s->slots - 1) + module) * s->rows + row - member * s->rows) * s->units;
}

/* The input of slot `slot` of a row, from its outputs [n, H]. */
static void mix(const Stack *s, const REAL *outputs, int64_t row, int64_t slot, REAL *input) {
    const int64_t at = entry(s, row, slot);
    const REAL *x[MOST];
    REAL w[MOST];
    int count = 0;
    for (int64_t e = 0; e < s->sources && source(s, at, e) <= slot; e++) {
        if (s->mixing[at + e] == 0) continue;
        x[count] = outputs + source(s, at, e) * s->units;
        w[count++] = s->mixing[at + e];
    }
    combine(input, x, w, count, s->units);
}

static void forward_chunk(const Stack *s, Chunk c) {
    const int64_t n = s->slots, units = s->units;
    REAL *outputs = s->outputs + c.start * n * units, *hidden = c.own, *input = 0;
    for (int64_t r = 0; r < c.rows; r++) {
        const REAL *from = s->first + (c.start + r) * units;
        for (int64_t h = 0; h < units; h++) outputs[r * n * units + h] = from[h];
    }
    for (int64_t j = 0; j < c.depth; j++) {
        if (j) {
            const REAL *weight = s->weight + (c.member * (n - 1) + j - 1) * units * units;
            product(s, input, 'N', weight, 'T', 0, hidden, c.rows, units, units);
        }
        const REAL *before = input;
        const int head = j == c.depth - 1;
        if (!head) input = s->inputs + place(s, c.member, j, c.start);
        for (int64_t r = 0; r < c.rows; r++) {
            REAL *own = outputs + r * n * units;
            if (j) {
                const REAL *bias = s->bias + (c.member * (n - 1) + j - 1) * units;
                REAL *output = own + j * units;
                const REAL *x = hidden + r * units, *z = before + r * units;
                for (int64_t h = 0; h < units; h++) {
                    REAL value = x[h] + bias[h];
                    /* Not-a-number stays one, as in torch's ReLU. */
                    output[h] = z[h] + (value < 0 ? 0 : value);
                }
                uint8_t *active = s->active + place(s, c.member, j - 1, c.start + r);
                for (int64_t h = 0; h < units; h++) active[h] = !(x[h] + bias[h] <= 0);
            }
            if (head)
                mix(s, own, c.start + r, n - 1, s->result + (c.start + r) * units);
            else
                mix(s, own, c.start + r, j, input + r * units);
        }
    }
}

/* Gradients that a row's output `output` gets of all slots, by way of the shortcut of the module
   that made it and by way of its product. */
static void gather(const Stack *s, Chunk c, int64_t row, int64_t output, const REAL *totals,
                   REAL *shortcuts, REAL *through) {
    const int64_t n = s->slots, units = s->units;
    const REAL *x[MOST], *x_through[MOST];
    REAL w[MOST], w_through[MOST];
    int count = 0, count_through = 0;
    for (int64_t slot = output; slot < n; slot++) {
        if (slot == c.depth - 1) slot = n - 1;
        const int64_t begin = entry(s, row, slot) + (s->source ? 0 : output);
        const int64_t end = s->source ? begin + s->sources : begin + 1;
        for (int64_t at = begin; at < end; at++) {
            if ((s->source && s->source[at] != output) || s->mixing[at] == 0) continue;
            x[count] = x_through[count_through] = totals + slot * units;
            w[count++] = w_through[count_through] = s->mixing[at];
            if (!s->trusted || s->trusted[at]) {
                count_through++;
            } else if (slot < n - 1) {
                /* Of an untrusted source only what came by the reader's own shortcut. */
                x_through[count_through++] = shortcuts + (slot + 1) * units;
            }
        }
    }
    combine(shortcuts + output * units, x, w, count, units);
    if (s->trusted)
        combine(through, x_through, w_through, count_through, units);
    else
        for (int64_t h = 0; h < units; h++) through[h] = shortcuts[output * units + h];
}

static void learn_mixing(const Stack *s, int64_t row, int64_t slot, const REAL *total) {
    const int64_t n = s->slots, k = s->sources, at = entry(s, row, slot);
    for (int64_t e = 0; e < k; e++) {
        const int64_t its = source(s, at, e);
        const REAL *output = s->outputs + (row * n + its) * s->units;
        s->mixing_gradient[(row * n + slot) * k + e] = its == NONE ? 0 : dot(total, output, s->units);
    }
}

static void backward_chunk(const Stack *s, Chunk c) {
    const int64_t n = s->slots, units = s->units;
    REAL *totals = c.own, *shortcuts = totals + c.rows * n * units;
    REAL *pulled = shortcuts + c.rows * n * units, *masked = pulled + c.rows * units;
    for (int64_t i = c.depth - 1; i >= 0; i--) {
        const int64_t slot = i == c.depth - 1 ? n - 1 : i;
        if (s->masked && i) masked = s->masked + place(s, c.member, i - 1, c.start);
        for (int64_t r = 0; r < c.rows; r++) {
            const int64_t row = c.start + r;
            REAL *own = totals + r * n * units, *total = own + slot * units;
            REAL *shortcut = shortcuts + r * n * units;
            for (int64_t h = 0; h < units; h++)
                total[h] = slot == n - 1 ? s->gradient[row * units + h]
                                         : pulled[r * units + h] + shortcut[(slot + 1) * units + h];
            if (s->mixing_gradient) learn_mixing(s, row, slot, total);
            REAL *to = i ? masked + r * units : s->first_gradient + row * units;
            gather(s, c, row, i, own, shortcut, to);
            if (!i) continue;
            const uint8_t *active = s->active + place(s, c.member, i - 1, row);
            for (int64_t h = 0; h < units; h++) to[h] = active[h] ? to[h] : 0;
        }
        if (!i) break;
        const REAL *weight = s->weight + (c.member * (n - 1) + i - 1) * units * units;
        product(s, masked, 'N', weight, 'N', 0, pulled, c.rows, units, units);
    }
}

static void each_chunk(const Stack *s, void (*work)(const Stack *, Chunk)) {
    const int64_t chunks = (s->rows + s->chunk - 1) / s->chunk;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t i = 0; i < s->members * chunks; i++) {
        Chunk c = {.member = i / chunks, .start = i % chunks * s->chunk};
        c.rows = s->rows - c.start < s->chunk ? s->rows - c.start : s->chunk;
        c.start += c.member * s->rows;
        c.own = s->scratch + omp_get_thread_num() * s->chunk * (2 * s->slots + 2) * s->units;
        int64_t task = c.start / s->samples, last = (c.start + c.rows - 1) / s->samples;
        for (; task <= last; task++) {
            const int64_t found = depth(s, task);
            if (found > c.depth) c.depth = found;
        }
        work(s, c);
    }
}

/* The gradients of one module's weight and bias, over the rows of the tasks that have it. */
static void learn_module(const Stack *s, int64_t member, int64_t module) {
    const int64_t units = s->units, tasks = s->rows / s->samples, later = s->slots - 1;
    REAL *weight = s->weight_gradient + (member * later + module) * units * units;
    REAL *bias = s->bias_gradient + (member * later + module) * units;
    for (int64_t h = 0; h < units; h++) bias[h] = 0;
    REAL scale = 0;
    for (int64_t task = 0, end; task < tasks; task = end) {
        for (end = task; end < tasks && depth(s, member * tasks + end) > module + 1;) end++;
        const int64_t rows = (end - task) * s->samples;
        const int64_t at = place(s, member, module, member * s->rows + task * s->samples);
        const REAL *masked = s->masked + at;
        if (rows) {
            product(s, masked, 'T', s->inputs + at, 'N', scale, weight, units, units, rows);
            scale = 1;
        } else {
            end++;
        }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t h = 0; h < units; h++) bias[h] += masked[r * units + h];
    }
    for (int64_t h = 0; scale == 0 && h < units * units; h++) weight[h] = 0;
}

void forward(const Stack *s) { each_chunk(s, forward_chunk); }

void backward(const Stack *s) {
    const int64_t later = s->slots - 1;
    each_chunk(s, backward_chunk);
    if (!s->weight_gradient) return;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic)
    for (int64_t i = 0; i < s->members * later; i++) learn_module(s, i / later, i % later);
}
