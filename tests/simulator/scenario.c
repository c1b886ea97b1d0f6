/* SPDX-License-Identifier: Apache-2.0 */
/* What a request asks the simulator to do: read from markers in the prompt and from model names. */
#include "tests/simulator/scenario.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

static const char *const fault_names[FAULT_COUNT] = {
    [FAULT_RESET_BEFORE] = "reset_before",
    [FAULT_CLOSE_BEFORE] = "close_before",
    [FAULT_RESET_AFTER_HEAD] = "reset_after_head",
    [FAULT_RESET_MID] = "reset_mid",
    [FAULT_CLOSE_MID] = "close_mid",
    [FAULT_CUT_LINE] = "cut_line",
    [FAULT_END_MID] = "end_mid",
    [FAULT_SILENCE] = "silence",
    [FAULT_SILENCE_HEAD] = "silence_head",
    [FAULT_SILENCE_MID] = "silence_mid",
    [FAULT_PINGS] = "pings",
    [FAULT_DRIP] = "drip",
    [FAULT_JUNK] = "junk",
    [FAULT_ERROR_IN_STREAM] = "error_in_stream",
    [FAULT_HUGE_EVENT] = "huge_event",
    [FAULT_BAD_UTF8] = "bad_utf8",
    [FAULT_NUL] = "nul",
    [FAULT_LONE_SURROGATE] = "lone_surrogate",
    [FAULT_NO_DONE] = "no_done",
    [FAULT_NO_FINISH] = "no_finish",
    [FAULT_NO_USAGE] = "no_usage",
    [FAULT_KEEP_OPEN] = "keep_open",
    [FAULT_HTML_200] = "html_200",
    [FAULT_JSON_ERROR_200] = "json_error_200",
    [FAULT_EMPTY_200] = "empty_200",
    [FAULT_CRLF] = "crlf",
    [FAULT_COMMENTS] = "comments",
    [FAULT_BOM] = "bom",
    [FAULT_SPLIT_BYTES] = "split_bytes",
    [FAULT_USAGE_EVERY_CHUNK] = "usage_every_chunk",
    [FAULT_CONTENT_FILTER] = "content_filter",
    [FAULT_REFUSAL] = "refusal",
    [FAULT_LENGTH] = "length",
    [FAULT_UNKNOWN_FINISH] = "unknown_finish",
    [FAULT_TOOL] = "tool",
    [FAULT_TWO_TOOLS] = "two_tools",
    [FAULT_BAD_TOOL] = "bad_tool",
    [FAULT_EMPTY_TOOL] = "empty_tool",
};

/* Short names for model names. */
static const struct {
    const char *name;
    enum scenario_fault fault;
} fault_aliases[] = {
    {"cut", FAULT_CUT_LINE},
    {"reset", FAULT_RESET_BEFORE},
    {"close", FAULT_CLOSE_MID},
    {"error", FAULT_ERROR_IN_STREAM},
};

enum knob_type { KNOB_NUMBER, KNOB_FLAG, KNOB_TEXT };

#define NUMBER(member, low, high)                                          \
    {                                                                      \
        .name = #member, .type = KNOB_NUMBER, .min = (low), .max = (high), \
        .offset = offsetof(struct scenario, member), .size = 0             \
    }
#define FLAG(word, member)                                     \
    {                                                          \
        .name = (word), .type = KNOB_FLAG, .min = 0, .max = 1, \
        .offset = offsetof(struct scenario, member), .size = 0 \
    }
#define TEXT(member)                                            \
    {                                                           \
        .name = #member, .type = KNOB_TEXT, .min = 0, .max = 0, \
        .offset = offsetof(struct scenario, member),            \
        .size = sizeof(((struct scenario *)0)->member)          \
    }

/* Every knob but `fault` and `at`, which are not plain values. */
static const struct knob {
    const char *name;
    enum knob_type type;
    int64_t min, max;
    size_t offset;
    size_t size; /* of a text member */
} knobs[] = {
    NUMBER(tokens, 0, SCENARIO_TOKENS_MAX),
    NUMBER(per_chunk, 1, 10000),
    NUMBER(delay_ms, 0, 3600000),
    NUMBER(rate, 0, 1000000),
    NUMBER(gap_ms, 0, 3600000),
    NUMBER(status, 200, 599),
    NUMBER(after, 0, SCENARIO_TOKENS_MAX),
    NUMBER(times, 0, INT32_MAX),
    NUMBER(retry_after_ms, 0, INT64_MAX),
    NUMBER(cached, 0, INT32_MAX),
    NUMBER(reasoning, 0, INT32_MAX),
    NUMBER(bytes, 1, INT64_C(64) << 20),
    NUMBER(drip_ms, 0, 3600000),
    NUMBER(ping_ms, 1, 3600000),
    FLAG("unicode", is_unicode),
    FLAG("echo", is_echo),
    TEXT(retry_after),
    TEXT(should_retry),
    TEXT(remaining),
    TEXT(reset),
    TEXT(code),
    TEXT(key),
    TEXT(hold),
};

static const char marker_open[] = "[[sim";
enum { MARKER_OPEN_LEN = sizeof(marker_open) - 1, WORD_MAX = 256 };

void scenario_init(struct scenario *scenario)
{
    memset(scenario, 0, sizeof(*scenario));
    scenario->tokens = 20;
    scenario->per_chunk = 1;
    scenario->after = 3;
    scenario->retry_after_ms = -1;
    scenario->bytes = INT64_C(20) << 20;
    scenario->drip_ms = 10;
    scenario->ping_ms = 100;
}

const char *scenario_fault_name(enum scenario_fault fault)
{
    return fault_names[fault];
}

bool scenario_has(const struct scenario *scenario, enum scenario_fault fault)
{
    return (scenario->faults >> fault) & 1;
}

static bool fault_find(const char *name, size_t len, enum scenario_fault *out)
{
    for (size_t i = 0; i < sizeof(fault_aliases) / sizeof(fault_aliases[0]); i++) {
        if (strlen(fault_aliases[i].name) == len && memcmp(fault_aliases[i].name, name, len) == 0) {
            *out = fault_aliases[i].fault;
            return true;
        }
    }
    for (int i = 0; i < FAULT_COUNT; i++) {
        if (strlen(fault_names[i]) == len && memcmp(fault_names[i], name, len) == 0) {
            *out = (enum scenario_fault)i;
            return true;
        }
    }
    return false;
}

/* value is a comma-separated list of fault names. */
static bool set_faults(struct scenario *scenario, const char *value, struct err *err)
{
    uint64_t faults = 0;
    const char *at = value;

    for (;;) {
        size_t len = strcspn(at, ",");
        enum scenario_fault fault;

        if (!fault_find(at, len, &fault)) {
            char name[SCENARIO_SHORT_SIZE];

            snprintf(name, sizeof(name), "%.*s", (int)(len < 40 ? len : 40), at);
            const char *near = str_nearest(name, fault_names, FAULT_COUNT);
            return err_input(err, "simulator_marker", "fault", "fault: no such fault \"%s\"%s%s",
                             name, near ? ", nearest is " : "", near ? near : "");
        }
        faults |= UINT64_C(1) << fault;
        if (at[len] == '\0')
            break;
        at += len + 1;
    }
    scenario->faults |= faults;
    return true;
}

static bool set_number(struct scenario *scenario, const struct knob *knob, const char *value,
                       struct err *err)
{
    int64_t number;

    if (!str_to_i64(value, strlen(value), &number) || number < knob->min || number > knob->max)
        return err_input(err, "simulator_marker", knob->name,
                         "%s: expected a whole number from %lld to %lld, got \"%.40s\"", knob->name,
                         (long long)knob->min, (long long)knob->max, value);
    if (knob->type == KNOB_FLAG)
        *(bool *)((char *)scenario + knob->offset) = number != 0;
    else
        *(int64_t *)(void *)((char *)scenario + knob->offset) = number;
    return true;
}

static bool set_text(struct scenario *scenario, const struct knob *knob, const char *value,
                     struct err *err)
{
    size_t len = strlen(value);

    if (len == 0 || len >= knob->size || !str_is_visible_ascii(value, len))
        return err_input(err, "simulator_marker", knob->name,
                         "%s: expected 1 to %zu visible ASCII characters", knob->name,
                         knob->size - 1);
    memcpy((char *)scenario + knob->offset, value, len + 1);
    return true;
}

static bool unknown_knob(const char *name, struct err *err)
{
    const char *names[sizeof(knobs) / sizeof(knobs[0]) + 1] = {"fault"};
    size_t count = sizeof(knobs) / sizeof(knobs[0]);

    for (size_t i = 0; i < count; i++)
        names[i + 1] = knobs[i].name;
    const char *near = str_nearest(name, names, count + 1);
    return err_input(err, "simulator_marker", "sim", "no such knob \"%.40s\"%s%s", name,
                     near ? ", nearest is " : "", near ? near : "");
}

bool scenario_set(struct scenario *scenario, const char *name, const char *value, struct err *err)
{
    if (strcmp(name, "fault") == 0)
        return set_faults(scenario, value, err);
    for (size_t i = 0; i < sizeof(knobs) / sizeof(knobs[0]); i++) {
        if (strcmp(knobs[i].name, name) != 0)
            continue;
        return knobs[i].type == KNOB_TEXT ? set_text(scenario, &knobs[i], value, err)
                                          : set_number(scenario, &knobs[i], value, err);
    }
    return unknown_knob(name, err);
}

/* --- model names ------------------------------------------------------------------------------ */

static bool is_status(const char *part, size_t len)
{
    return len == 3 && part[0] >= '2' && part[0] <= '5' && strspn(part, "0123456789") >= 3;
}

static void model_part(struct scenario *scenario, const char *part, size_t len)
{
    char word[WORD_MAX];
    enum scenario_fault fault;
    struct scenario trial = *scenario;
    struct err ignored;

    if (len == 0 || len >= sizeof(word))
        return;
    memcpy(word, part, len);
    word[len] = '\0';
    char *equals = strchr(word, '=');
    if (equals) {
        *equals = '\0';
        if (scenario_set(&trial, word, equals + 1, &ignored))
            *scenario = trial;
    } else if (is_status(word, len)) {
        scenario->status = (word[0] - '0') * 100 + (word[1] - '0') * 10 + (word[2] - '0');
    } else if (fault_find(word, len, &fault)) {
        scenario->faults |= UINT64_C(1) << fault;
    }
}

void scenario_from_model(struct scenario *scenario, const char *model)
{
    static const char prefix[] = "sim-";

    if (strncmp(model, prefix, sizeof(prefix) - 1) != 0)
        return;
    for (const char *at = model + sizeof(prefix) - 1;; at++) {
        size_t len = strcspn(at, "-");

        model_part(scenario, at, len);
        at += len;
        if (*at == '\0')
            return;
    }
}

/* --- markers ---------------------------------------------------------------------------------- */

bool scenario_next_marker(const char *text, size_t len, size_t *offset, size_t *start,
                          size_t *length)
{
    size_t from = *offset;

    while (from < len) {
        const char *open = memmem(text + from, len - from, marker_open, MARKER_OPEN_LEN);
        if (!open)
            return false;
        size_t inside = (size_t)(open - text) + MARKER_OPEN_LEN;
        const char *close = memmem(text + inside, len - inside, "]]", 2);
        if (!close)
            return false;
        size_t end = (size_t)(close - text);
        if (end == inside || text[inside] == ' ') {
            *start = (size_t)(open - text);
            *length = end + 2 - *start;
            *offset = end + 2;
            return true;
        }
        from = inside;
    }
    return false;
}

/* Copies the next space-separated word of [*at, end) to word.  False at the end, or with err when
 * the word is too long. */
static bool next_word(const char **at, const char *end, char word[WORD_MAX], struct err *err)
{
    while (*at < end && (**at == ' ' || **at == '\n' || **at == '\t'))
        ++*at;
    const char *from = *at;
    while (*at < end && **at != ' ' && **at != '\n' && **at != '\t')
        ++*at;
    size_t len = (size_t)(*at - from);
    if (len >= WORD_MAX)
        return err_input(err, "simulator_marker", "sim", "a word of the marker is too long");
    memcpy(word, from, len);
    word[len] = '\0';
    return len > 0;
}

static bool apply_marker(struct scenario *scenario, const char *provider, const char *text,
                         size_t len, struct err *err)
{
    const char *at = text + MARKER_OPEN_LEN;
    const char *end = text + len - 2;
    struct scenario trial = *scenario;
    bool applies = true;
    char word[WORD_MAX];

    err_clear(err);
    while (next_word(&at, end, word, err)) {
        char *equals = strchr(word, '=');

        if (!equals)
            return err_input(err, "simulator_marker", "sim", "expected knob=value, got \"%.40s\"",
                             word);
        *equals = '\0';
        if (strcmp(word, "at") == 0)
            applies = applies && strcmp(equals + 1, provider) == 0;
        else if (!scenario_set(&trial, word, equals + 1, err))
            return false;
    }
    if (err->message[0])
        return false;
    if (applies)
        *scenario = trial;
    return true;
}

bool scenario_from_text(struct scenario *scenario, const char *provider, const char *text,
                        size_t len, struct err *err)
{
    size_t offset = 0, start, length;

    while (scenario_next_marker(text, len, &offset, &start, &length)) {
        if (!apply_marker(scenario, provider, text + start, length, err))
            return false;
    }
    return true;
}

/* --- what it comes to ------------------------------------------------------------------------- */

bool scenario_is_faulty(const struct scenario *scenario)
{
    return scenario->status || scenario->code[0] || scenario->faults;
}

void scenario_clear_faults(struct scenario *scenario)
{
    scenario->status = 0;
    scenario->code[0] = '\0';
    scenario->faults = 0;
}

int scenario_status(const struct scenario *scenario)
{
    static const struct {
        const char *code;
        int status;
    } codes[] = {
        {"context_length_exceeded", 400},
        {"content_policy_violation", 400},
        {"invalid_prompt", 400},
        {"invalid_api_key", 401},
        {"model_not_found", 404},
        {"insufficient_quota", 429},
        {"rate_limit_exceeded", 429},
        {"server_error", 500},
        {"overloaded", 503},
    };

    if (scenario->status)
        return (int)scenario->status;
    if (!scenario->code[0] || scenario_has(scenario, FAULT_ERROR_IN_STREAM) ||
        scenario_has(scenario, FAULT_JSON_ERROR_200))
        return 200;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (strcmp(codes[i].code, scenario->code) == 0)
            return codes[i].status;
    }
    return 400;
}
