/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges and histograms in memory shared by a daemon's processes, as Prometheus text. */
#ifndef COMMON_IO_METRICS_H
#define COMMON_IO_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;

enum { METRICS_SERIES_MAX = 4096, METRICS_PROCESSES_MAX = 64, METRICS_LABELS_MAX = 4 };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

/* One family, declared as a static const in the file that feeds it.  Histograms of durations are in
 * seconds and observe microseconds. */
struct metric {
    const char *name; /* "nightshift_calls_total" */
    enum metric_type type;
    const char *help;
    const char *labels[METRICS_LABELS_MAX + 1]; /* NULL-terminated label names */
};

/* Maps the shared page; before the fork.  The parent is process 0; children call metrics_attach. */
bool metrics_setup(struct err *err) MUST_CHECK;
void metrics_attach(int process);
/* The process is gone: its gauges become 0, its counters stay. */
void metrics_forget(int process);

/* label values in the order of metric->labels; a value is cut at 64 bytes.  When the table is full
 * the series with all labels "other" takes it.  Never tenants, ids or text. */
void metric_add(const struct metric *metric, const char *const *labels, int64_t value);
void metric_set(const struct metric *metric, const char *const *labels, int64_t value); /* gauge */
void metric_observe_us(const struct metric *metric, const char *const *labels, int64_t us);

#define METRIC_LABELS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A family shown from the start with its zero, before anything happened (no labels, or these). */
void metric_declare(const struct metric *metric, const char *const *labels);

bool metrics_render(struct buf *out) MUST_CHECK;

#endif
