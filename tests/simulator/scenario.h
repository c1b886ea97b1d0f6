/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks the simulator to do: read from markers in the prompt and from model names. */
#ifndef TESTS_SIMULATOR_SCENARIO_H
#define TESTS_SIMULATOR_SCENARIO_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

/* README.md tells what each of these does, byte by byte. */
enum scenario_fault {
    FAULT_RESET_BEFORE,
    FAULT_CLOSE_BEFORE,
    FAULT_RESET_AFTER_HEAD,
    FAULT_RESET_MID,
    FAULT_CLOSE_MID,
    FAULT_CUT_LINE,
    FAULT_END_MID,
    FAULT_SILENCE,
    FAULT_SILENCE_HEAD,
    FAULT_SILENCE_MID,
    FAULT_PINGS,
    FAULT_DRIP,
    FAULT_JUNK,
    FAULT_ERROR_IN_STREAM,
    FAULT_HUGE_EVENT,
    FAULT_BAD_UTF8,
    FAULT_NUL,
    FAULT_LONE_SURROGATE,
    FAULT_NO_DONE,
    FAULT_NO_FINISH,
    FAULT_NO_USAGE,
    FAULT_KEEP_OPEN,
    FAULT_HTML_200,
    FAULT_JSON_ERROR_200,
    FAULT_EMPTY_200,
    FAULT_CRLF,
    FAULT_COMMENTS,
    FAULT_BOM,
    FAULT_SPLIT_BYTES,
    FAULT_USAGE_EVERY_CHUNK,
    FAULT_CONTENT_FILTER,
    FAULT_REFUSAL,
    FAULT_LENGTH,
    FAULT_UNKNOWN_FINISH,
    FAULT_TOOL,
    FAULT_TWO_TOOLS,
    FAULT_BAD_TOOL,
    FAULT_EMPTY_TOOL,
    FAULT_COUNT
};

enum { SCENARIO_NAME_SIZE = 96, SCENARIO_SHORT_SIZE = 48 };

#define SCENARIO_TOKENS_MAX INT64_C(1000000)

struct scenario {
    int64_t tokens;         /* words of the answer */
    int64_t per_chunk;      /* words in one event */
    int64_t delay_ms;       /* before the first byte */
    int64_t rate;           /* words per second; 0: at once */
    int64_t gap_ms;         /* instead of rate: pause between events */
    int64_t status;         /* 0: by code, or 200 */
    int64_t after;          /* events of content before the fault or the hold */
    int64_t times;          /* the fault applies to the first so many calls; 0: to all */
    int64_t retry_after_ms; /* -1: header not sent */
    int64_t cached;         /* of the prompt's tokens */
    int64_t reasoning;      /* tokens billed but not shown */
    int64_t bytes;          /* of the huge event */
    int64_t drip_ms;        /* between two bytes */
    int64_t ping_ms;        /* between two comments */
    uint64_t faults;        /* bits of enum scenario_fault */
    bool is_unicode;
    bool is_echo;
    char retry_after[SCENARIO_SHORT_SIZE];  /* "2", "0.5", "date", "past-date", "absurd", ... */
    char should_retry[SCENARIO_SHORT_SIZE]; /* value of x-should-retry */
    char remaining[SCENARIO_SHORT_SIZE];    /* value of x-ratelimit-remaining-requests */
    char reset[SCENARIO_SHORT_SIZE];        /* value of x-ratelimit-reset-requests */
    char code[SCENARIO_SHORT_SIZE];         /* error code */
    char key[SCENARIO_NAME_SIZE];           /* counts `times`; "": the prompt's hash */
    char hold[SCENARIO_NAME_SIZE];          /* gate to wait at; "": none */
};

void scenario_init(struct scenario *scenario); /* the defaults: 20 words, at once, no fault */

/* Sets one knob by its name.  False names the knob and what it takes. */
bool scenario_set(struct scenario *scenario, const char *name, const char *value,
                  struct err *err) MUST_CHECK;

/* "sim-429", "sim-cut_line", "sim-500-times=2-tokens=7"; parts that mean nothing are skipped, and
 * so is a model that does not start with "sim-". */
void scenario_from_model(struct scenario *scenario, const char *model);

/* Applies every marker "[[sim knob=value ...]]" of text, in order.  A marker with at=NAME counts
 * only where provider has that name.  An unknown knob or a bad value is an error: a typing mistake
 * must not pass as a test. */
bool scenario_from_text(struct scenario *scenario, const char *provider, const char *text,
                        size_t len, struct err *err) MUST_CHECK;

/* Finds the first marker at or after *offset: *start and *length cover its brackets, *offset moves
 * behind it. */
bool scenario_next_marker(const char *text, size_t len, size_t *offset, size_t *start,
                          size_t *length);

bool scenario_has(const struct scenario *scenario, enum scenario_fault fault);
/* Is there anything that `times` limits: a status, a code or a fault? */
bool scenario_is_faulty(const struct scenario *scenario);
void scenario_clear_faults(struct scenario *scenario);

/* The status to answer with before any output: `status`, or what goes with `code`, or 200. */
int scenario_status(const struct scenario *scenario);

const char *scenario_fault_name(enum scenario_fault fault);

#endif
