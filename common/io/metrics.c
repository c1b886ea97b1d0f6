/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges and histograms in memory shared by a daemon's processes, as Prometheus text. */
#include "common/io/metrics.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/buf.h"
#include "common/base/str.h"

/* Upper bounds of the histogram buckets in microseconds, and as `le` says them. */
static const struct bucket {
    int64_t us;
    const char *le;
} buckets[] = {
    {1000, "0.001"},    {5000, "0.005"},      {10000, "0.01"},     {25000, "0.025"},
    {50000, "0.05"},    {100000, "0.1"},      {250000, "0.25"},    {500000, "0.5"},
    {1000000, "1"},     {2500000, "2.5"},     {5000000, "5"},      {10000000, "10"},
    {30000000, "30"},   {60000000, "60"},     {120000000, "120"},  {300000000, "300"},
    {600000000, "600"}, {1800000000, "1800"}, {INT64_MAX, "+Inf"},
};

enum {
    BUCKETS = sizeof(buckets) / sizeof(buckets[0]),
    HISTOGRAM_CELLS = BUCKETS + 1, /* the last one is the sum */
    VALUE_MAX = 64,
    HASH_SIZE = 2 * METRICS_SERIES_MAX,
    CELLS_MAX = 4 * METRICS_SERIES_MAX,
    SERIES_RESERVE = 128, /* kept for the "other" series of families that come late */
    CELLS_RESERVE = SERIES_RESERVE * HISTOGRAM_CELLS
};

/* One series.  Pointers to metrics are good in every process: they are static data of the program
 * all of them were forked from. */
struct series {
    atomic_bool is_ready; /* set last: the rest never changes after */
    int first_cell;
    const struct metric *metric;
    char values[METRICS_LABELS_MAX][VALUE_MAX + 1];
};

/* The mapping.  Series live in an open hash table that only grows: readers probe without a lock,
 * writers insert under a robust mutex, so that a process killed inside leaves nothing broken.  Each
 * process adds to cells of its own; a reader sums over the processes. */
struct page {
    pthread_mutex_t lock;
    int series_count;
    int cell_count;
    struct series series[HASH_SIZE];
    atomic_int_fast64_t cells[METRICS_PROCESSES_MAX][CELLS_MAX];
};

static struct page *page;
static int own_process;

/* --- finding and making series ---------------------------------------------------------------- */

static size_t value_length(const char *value)
{
    size_t len = strlen(value);

    return len <= VALUE_MAX ? len : str_utf8_boundary(value, VALUE_MAX);
}

static uint32_t hash_bytes(uint32_t hash, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return (hash ^ 0xff) * 16777619u;
}

static size_t slot_of(const struct metric *metric, const char *const *labels)
{
    uint32_t hash = hash_bytes(2166136261u, metric->name, strlen(metric->name));

    for (int i = 0; i < METRICS_LABELS_MAX && metric->labels[i]; i++)
        hash = hash_bytes(hash, labels[i], value_length(labels[i]));
    return hash % HASH_SIZE;
}

static bool series_is(const struct series *series, const struct metric *metric,
                      const char *const *labels)
{
    if (series->metric != metric && strcmp(series->metric->name, metric->name) != 0)
        return false;
    for (int i = 0; i < METRICS_LABELS_MAX && metric->labels[i]; i++) {
        size_t len = value_length(labels[i]);

        if (strlen(series->values[i]) != len || memcmp(series->values[i], labels[i], len) != 0)
            return false;
    }
    return true;
}

/* The series, or the empty place where it would go. */
static struct series *probe(const struct metric *metric, const char *const *labels)
{
    size_t slot = slot_of(metric, labels);

    for (;;) { /* ends: the table is never more than half full */
        struct series *series = &page->series[slot];

        if (!atomic_load_explicit(&series->is_ready, memory_order_acquire) ||
            series_is(series, metric, labels))
            return series;
        slot = (slot + 1) % HASH_SIZE;
    }
}

static bool has_room(int cells, bool is_other)
{
    int series_max = METRICS_SERIES_MAX - (is_other ? 0 : SERIES_RESERVE);
    int cells_max = CELLS_MAX - (is_other ? 0 : CELLS_RESERVE);

    return page->series_count < series_max && page->cell_count + cells <= cells_max;
}

static void series_fill(struct series *series, const struct metric *metric,
                        const char *const *labels, int cells)
{
    series->metric = metric;
    series->first_cell = page->cell_count;
    for (int i = 0; i < METRICS_LABELS_MAX && metric->labels[i]; i++) {
        size_t len = value_length(labels[i]);

        memcpy(series->values[i], labels[i], len);
        series->values[i][len] = '\0';
    }
    page->cell_count += cells;
    page->series_count++;
    atomic_store_explicit(&series->is_ready, true, memory_order_release);
}

static void lock(void)
{
    /* The previous holder was killed: what it had begun is not ready and is written again. */
    if (pthread_mutex_lock(&page->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&page->lock);
}

static struct series *series_insert(const struct metric *metric, const char *const *labels,
                                    bool is_other)
{
    int cells = metric->type == METRIC_HISTOGRAM ? HISTOGRAM_CELLS : 1;
    struct series *series;

    lock();
    series = probe(metric, labels); /* another process may have been quicker */
    if (!series->is_ready) {
        if (has_room(cells, is_other))
            series_fill(series, metric, labels, cells);
        else
            series = NULL;
    }
    pthread_mutex_unlock(&page->lock);
    return series;
}

static const struct series *series_find(const struct metric *metric, const char *const *labels)
{
    static const char *const others[METRICS_LABELS_MAX + 1] = {"other", "other", "other", "other"};
    struct series *series;

    assert(labels || !metric->labels[0]);
    series = probe(metric, labels);
    if (atomic_load_explicit(&series->is_ready, memory_order_acquire))
        return series;
    series = series_insert(metric, labels, !metric->labels[0]);
    if (series || !metric->labels[0])
        return series;
    series = probe(metric, others);
    if (atomic_load_explicit(&series->is_ready, memory_order_acquire))
        return series;
    return series_insert(metric, others, true);
}

static atomic_int_fast64_t *own_cells(const struct metric *metric, const char *const *labels)
{
    const struct series *series = page ? series_find(metric, labels) : NULL;

    return series ? &page->cells[own_process][series->first_cell] : NULL;
}

/* --- feeding ---------------------------------------------------------------------------------- */

bool metrics_setup(struct err *err)
{
    pthread_mutexattr_t attributes;
    void *memory = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return err_set(err, "map %zu bytes for metrics: %s", sizeof(*page), strerror(errno));
    if (page)
        munmap(page, sizeof(*page));
    page = memory;
    own_process = 0;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&page->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return true;
}

void metrics_attach(int process)
{
    assert(process >= 0 && process < METRICS_PROCESSES_MAX);
    own_process = process;
}

void metrics_forget(int process)
{
    assert(process >= 0 && process < METRICS_PROCESSES_MAX);
    for (size_t i = 0; page && i < HASH_SIZE; i++) {
        const struct series *series = &page->series[i];

        if (atomic_load_explicit(&series->is_ready, memory_order_acquire) &&
            series->metric->type == METRIC_GAUGE)
            atomic_store(&page->cells[process][series->first_cell], 0);
    }
}

void metric_add(const struct metric *metric, const char *const *labels, int64_t value)
{
    atomic_int_fast64_t *cells = own_cells(metric, labels);

    assert(metric->type != METRIC_HISTOGRAM);
    if (cells)
        atomic_fetch_add_explicit(cells, value, memory_order_relaxed);
}

void metric_set(const struct metric *metric, const char *const *labels, int64_t value)
{
    atomic_int_fast64_t *cells = own_cells(metric, labels);

    assert(metric->type == METRIC_GAUGE);
    if (cells)
        atomic_store_explicit(cells, value, memory_order_relaxed);
}

void metric_observe_us(const struct metric *metric, const char *const *labels, int64_t us)
{
    atomic_int_fast64_t *cells = own_cells(metric, labels);
    int bucket = 0;

    assert(metric->type == METRIC_HISTOGRAM);
    if (!cells)
        return;
    if (us < 0)
        us = 0; /* a clock went back */
    while (us > buckets[bucket].us)
        bucket++;
    atomic_fetch_add_explicit(&cells[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells[BUCKETS], us, memory_order_relaxed);
}

void metric_declare(const struct metric *metric, const char *const *labels)
{
    own_cells(metric, labels);
}

/* --- rendering -------------------------------------------------------------------------------- */

static int64_t cell_sum(int cell)
{
    int64_t sum = 0;

    for (int i = 0; i < METRICS_PROCESSES_MAX; i++)
        sum += atomic_load_explicit(&page->cells[i][cell], memory_order_relaxed);
    return sum;
}

static void put_escaped(struct buf *out, const char *text, bool is_label)
{
    for (; *text; text++) {
        if (*text == '\\')
            buf_puts(out, "\\\\");
        else if (*text == '\n')
            buf_puts(out, "\\n");
        else if (*text == '"' && is_label)
            buf_puts(out, "\\\"");
        else
            buf_putc(out, *text);
    }
}

/* name, suffix and labels, with le as one more label unless it is NULL, and a space. */
static void put_series(struct buf *out, const struct series *series, const char *suffix,
                       const char *le)
{
    const char *const *names = series->metric->labels;
    const char *before = "{";

    buf_printf(out, "%s%s", series->metric->name, suffix);
    for (int i = 0; i < METRICS_LABELS_MAX && names[i]; i++) {
        buf_printf(out, "%s%s=\"", before, names[i]);
        put_escaped(out, series->values[i], true);
        buf_putc(out, '"');
        before = ",";
    }
    if (le) {
        buf_printf(out, "%sle=\"%s\"", before, le);
        before = ",";
    }
    buf_puts(out, *before == ',' ? "} " : " ");
}

static void put_histogram(struct buf *out, const struct series *series)
{
    int64_t count = 0, sum;

    for (int i = 0; i < BUCKETS; i++) {
        count += cell_sum(series->first_cell + i);
        put_series(out, series, "_bucket", buckets[i].le);
        buf_printf(out, "%" PRId64 "\n", count);
    }
    sum = cell_sum(series->first_cell + BUCKETS);
    put_series(out, series, "_sum", NULL);
    buf_printf(out, "%" PRId64 ".%06" PRId64 "\n", sum / 1000000, sum % 1000000);
    put_series(out, series, "_count", NULL);
    buf_printf(out, "%" PRId64 "\n", count);
}

static void put_family_head(struct buf *out, const struct metric *metric)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};

    buf_printf(out, "# HELP %s ", metric->name);
    put_escaped(out, metric->help, false);
    buf_printf(out, "\n# TYPE %s %s\n", metric->name, types[metric->type]);
}

static int compare_series(const void *a, const void *b)
{
    const struct series *left = *(const struct series *const *)a;
    const struct series *right = *(const struct series *const *)b;
    int order = strcmp(left->metric->name, right->metric->name);

    for (int i = 0; order == 0 && i < METRICS_LABELS_MAX; i++)
        order = strcmp(left->values[i], right->values[i]);
    return order;
}

static size_t collect(const struct series **all)
{
    size_t count = 0;

    for (size_t i = 0; i < HASH_SIZE && count < METRICS_SERIES_MAX; i++)
        if (atomic_load_explicit(&page->series[i].is_ready, memory_order_acquire))
            all[count++] = &page->series[i];
    qsort(all, count, sizeof(all[0]), compare_series);
    return count;
}

bool metrics_render(struct buf *out)
{
    const struct series **all;
    const char *family = "";
    size_t count;

    if (!page)
        return true;
    all = calloc(METRICS_SERIES_MAX, sizeof(const struct series *));
    if (!all)
        return false;
    count = collect(all);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(family, all[i]->metric->name) != 0)
            put_family_head(out, all[i]->metric);
        family = all[i]->metric->name;
        if (all[i]->metric->type == METRIC_HISTOGRAM) {
            put_histogram(out, all[i]);
        } else {
            put_series(out, all[i], "", NULL);
            buf_printf(out, "%" PRId64 "\n", cell_sum(all[i]->first_cell));
        }
    }
    free(all);
    return !out->is_broken;
}
