/* SPDX-License-Identifier: Apache-2.0 */
/* The texts of Redis's scripts, their arguments, and one call that is repeated until answered. */
#include "common/model/script.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"

#include <event2/event.h>
#include <openssl/evp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { SHA_SIZE = 20, ARGS_BYTES_MAX = 4 * 1024 * 1024, RETRY_MS = 20, COMMAND_WORDS = 3 };
enum { ARGS_FIRST = 32, BYTES_FIRST = 500 }; /* what most questions need */

/* Made by the Makefile from scripts/. */
extern const char script_rates_lua[], script_admit_lua[], script_settle_lua[];
extern const char script_intake_lua[], script_account_lua[], script_book_lua[];

/* Settling frees memory in the end: it passes when there is none. */
static const struct {
    const char *head;
    const char *parts[2];
} sources[SCRIPT_COUNT] = {
    [SCRIPT_ADMIT] = {"#!lua\n", {script_rates_lua, script_admit_lua}},
    [SCRIPT_SETTLE] = {"#!lua flags=allow-oom\n", {script_rates_lua, script_settle_lua}},
    [SCRIPT_INTAKE] = {"#!lua\n", {script_rates_lua, script_intake_lua}},
    [SCRIPT_ACCOUNT] = {"#!lua\n", {script_rates_lua, script_account_lua}},
    [SCRIPT_BOOK] = {"#!lua\n", {"", script_book_lua}},
};

static struct {
    char *text;
    char sha[2 * SHA_SIZE + 1];
} made[SCRIPT_COUNT];

/* Leading comments are for who reads the files: they need not travel. */
static void append_code(struct buf *out, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        len += text[len] == '\n';
        if (strncmp(text, "--", 2) != 0)
            buf_append(out, text, len);
        text += len;
    }
}

static void make(enum script script)
{
    uint8_t digest[SHA_SIZE];
    struct buf text;
    size_t len;

    buf_init(&text, 1024 * 1024);
    buf_puts(&text, sources[script].head);
    append_code(&text, sources[script].parts[0]);
    append_code(&text, sources[script].parts[1]);
    made[script].text = buf_detach(&text, &len);
    if (!made[script].text || !EVP_Digest(made[script].text, len, digest, NULL, EVP_sha1(), NULL)) {
        fputs("make the scripts for Redis: out of memory\n", stderr);
        exit(1);
    }
    str_hex(digest, sizeof(digest), made[script].sha);
}

const char *script_text(enum script script)
{
    if (!made[script].text)
        make(script);
    return made[script].text;
}

const char *script_sha(enum script script)
{
    if (!made[script].text)
        make(script);
    return made[script].sha;
}

void script_args_init(struct script_args *args)
{
    *args = (struct script_args){.count = 0};
    buf_init(&args->text, ARGS_BYTES_MAX);
}

void script_args_release(struct script_args *args)
{
    buf_release(&args->text);
    free(args->starts);
    args->starts = NULL;
    args->count = args->room = 0;
}

/* The next argument begins at the end of the text. */
static bool begin(struct script_args *args)
{
    size_t room = args->room ? args->room * 2 : ARGS_FIRST;
    size_t *starts;

    if (args->count < args->room) {
        args->starts[args->count++] = args->text.len;
        return true;
    }
    starts = room <= SCRIPT_ARGS_MAX ? realloc(args->starts, room * sizeof(*starts)) : NULL;
    if (!starts) {
        args->text.is_broken = true;
        return false;
    }
    if (!args->room)
        buf_reserve(&args->text, BYTES_FIRST);
    args->starts = starts;
    args->room = room;
    args->starts[args->count++] = args->text.len;
    return true;
}

void script_args_add(struct script_args *args, const char *text)
{
    if (begin(args))
        buf_append(&args->text, text, strlen(text) + 1);
}

void script_args_add_number(struct script_args *args, int64_t number)
{
    char text[24];
    char *at = text + sizeof(text) - 1;
    uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;

    *at = '\0';
    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (number < 0)
        *--at = '-';
    script_args_add(args, at);
}

void script_args_extend(struct script_args *args, size_t index, size_t skip)
{
    size_t len;

    if (!script_args_ok(args))
        return;
    len = script_args_len(args, index) - skip;
    if (!buf_reserve(&args->text, len + 1)) /* hence the text stays where it is */
        return;
    args->text.data[args->text.len - 1] = ' '; /* the NUL's place */
    buf_append(&args->text, script_args_get(args, index) + skip, len + 1);
}

void script_args_add_packed(struct script_args *args, const int64_t *numbers, size_t count)
{
    char bytes[sizeof(double)];

    if (!begin(args))
        return;
    for (size_t i = 0; i < count; i++) {
        double number = (double)numbers[i];
        uint64_t bits;

        memcpy(&bits, &number, sizeof(bits));
        for (size_t byte = 0; byte < sizeof(bytes); byte++)
            bytes[byte] = (char)(bits >> 8 * byte);
        buf_append(&args->text, bytes, sizeof(bytes));
    }
    buf_append(&args->text, "", 1);
}

void script_args_add_prefix(struct script_args *args, char kind, const char *name)
{
    const char head[] = {'{', kind, ':'};

    if (!begin(args))
        return;
    buf_append(&args->text, head, sizeof(head));
    buf_puts(&args->text, name);
    buf_append(&args->text, "}:", 3);
}

bool script_args_ok(const struct script_args *args)
{
    return !args->text.is_broken && args->count > 0;
}

const char *script_args_get(const struct script_args *args, size_t index)
{
    return args->text.data + args->starts[index];
}

size_t script_args_len(const struct script_args *args, size_t index)
{
    size_t end = index + 1 < args->count ? args->starts[index + 1] : args->text.len;

    return end - args->starts[index] - 1;
}

void script_send(struct redis *redis, enum script script, bool is_whole,
                 const struct script_args *args, redis_done_fn *done, void *arg)
{
    const char *few[64];
    size_t few_lens[64];
    size_t count = args->count + COMMAND_WORDS;
    bool is_many = count > sizeof(few) / sizeof(few[0]);
    const char **words = is_many ? xcalloc(count, sizeof(*words)) : few;
    size_t *lens = is_many ? xcalloc(count, sizeof(*lens)) : few_lens;

    words[0] = is_whole ? "EVAL" : "EVALSHA";
    words[1] = is_whole ? script_text(script) : script_sha(script);
    words[2] = "1";
    for (size_t i = 0; i < COMMAND_WORDS; i++)
        lens[i] = strlen(words[i]);
    for (size_t i = 0; i < args->count; i++) {
        words[i + COMMAND_WORDS] = script_args_get(args, i);
        lens[i + COMMAND_WORDS] = script_args_len(args, i);
    }
    redis_command(redis, words, lens, (int)count, done, arg);
    if (is_many) {
        free(words);
        free(lens);
    }
}

bool script_is_unknown(const struct redis_reply *reply)
{
    return reply->kind == REDIS_ERROR && strncmp(reply->text, "NOSCRIPT", 8) == 0;
}

/* --- a call that is repeated ------------------------------------------------------------------ */

struct script_call {
    struct redis *redis;
    enum script script;
    struct script_args args;
    char run_id[SCRIPT_RUN_ID_SIZE];
    bool has_run_id;
    bool is_whole;
    bool may_have_run;
    bool is_cancelled;   /* wait for the reply and forget it */
    int64_t deadline_us; /* monotonic */
    struct event *again; /* made when first needed */
    script_done_fn *done;
    void *arg;
};

static const struct log_context about = {.component = "redis"};

static void end(struct script_call *call, enum script_result result,
                const struct redis_reply *reply)
{
    if (!call->is_cancelled)
        call->done(result, reply, call->may_have_run, call->arg);
    if (call->again)
        event_free(call->again);
    script_args_release(&call->args);
    free(call);
}

static void send_call(struct script_call *call);

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    struct script_call *call = arg;

    (void)fd;
    (void)what;
    send_call(call);
}

static void send_later(struct script_call *call, struct event_base *base, int64_t wait_ms)
{
    const struct timeval wait = {.tv_usec = (suseconds_t)(wait_ms * US_PER_MS)};

    if (!call->again)
        call->again = evtimer_new(base, on_again, call);
    if (!call->again || event_add(call->again, &wait) != 0)
        end(call, SCRIPT_AWAY, NULL);
}

static void on_error(struct script_call *call, const struct redis_reply *reply)
{
    /* Of our own making unless Redis says why it cannot serve. */
    bool is_ours = strncmp(reply->text, "ERR ", 4) == 0 || strncmp(reply->text, "WRONG", 5) == 0;

    if (is_ours)
        log_error(&about, "a script failed: %s", reply->text);
    else
        log_debug(&about, "refused: %s", reply->text);
    end(call, SCRIPT_AWAY, NULL);
}

static void on_reply(const struct redis_reply *reply, void *arg)
{
    struct script_call *call = arg;
    struct event_base *base = redis_base(call->redis);

    if (reply->kind == REDIS_LOST) {
        call->may_have_run = true;
        if (!base || clock_monotonic_us() >= call->deadline_us || call->is_cancelled)
            end(call, SCRIPT_AWAY, NULL);
        else
            send_later(call, base, RETRY_MS);
    } else if (script_is_unknown(reply) && !call->is_whole && base) {
        call->is_whole = true;
        send_call(call);
    } else if (reply->kind == REDIS_ERROR) {
        on_error(call, reply);
    } else {
        end(call, SCRIPT_ANSWERED, reply);
    }
}

/* Never ends the call from inside of script_call: that waits for a turn of the loop. */
static void send_call(struct script_call *call)
{
    bool is_ready = redis_is_ready(call->redis);
    bool is_wanted = script_args_ok(&call->args) && !call->is_cancelled;

    if (is_wanted && !is_ready && call->may_have_run && clock_monotonic_us() < call->deadline_us)
        send_later(call, redis_base(call->redis), RETRY_MS);
    else if (!is_wanted || !is_ready)
        end(call, SCRIPT_AWAY, NULL);
    else if (call->has_run_id && strcmp(redis_run_id(call->redis), call->run_id) != 0)
        end(call, SCRIPT_OTHER_REDIS, NULL);
    else
        script_send(call->redis, call->script, call->is_whole, &call->args, on_reply, call);
}

struct script_call *script_call(struct redis *redis, const struct script_spec *spec,
                                script_done_fn *done, void *arg)
{
    struct script_call *call = xcalloc(1, sizeof(*call));
    const char *there = redis_run_id(redis);

    call->redis = redis;
    call->script = spec->script;
    call->args = *spec->args;
    call->has_run_id = spec->run_id != NULL;
    call->done = done;
    call->arg = arg;
    call->deadline_us = clock_monotonic_us() + SCRIPT_DEADLINE_MS * US_PER_MS;
    if (spec->run_id)
        snprintf(call->run_id, sizeof(call->run_id), "%s", spec->run_id);
    script_args_init(spec->args);
    if (script_args_ok(&call->args) && redis_is_ready(redis) &&
        (!spec->run_id || strcmp(there, spec->run_id) == 0))
        script_send(redis, call->script, false, &call->args, on_reply, call);
    else
        send_later(call, redis_base(redis), 0);
    return call;
}

const struct script_args *script_call_args(const struct script_call *call)
{
    return &call->args;
}

void script_call_cancel(struct script_call *call)
{
    call->is_cancelled = true;
}
