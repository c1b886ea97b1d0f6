/* SPDX-License-Identifier: Apache-2.0 */
/* The scripts that Redis runs (the folder scripts), and calling one of them.
 *
 * They are sent by their SHA-1 and in full when Redis does not know them (after a restart or SCRIPT
 * FLUSH).  A reply that is lost may have been of a script that ran: who repeats must name the
 * operation. */
#ifndef COMMON_MODEL_SCRIPT_H
#define COMMON_MODEL_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/io/redis.h"

enum script {
    SCRIPT_ADMIT,
    SCRIPT_SETTLE,
    SCRIPT_INTAKE,
    SCRIPT_ACCOUNT,
    SCRIPT_BOOK,
    SCRIPT_COUNT,
};

const char *script_text(enum script script); /* as it is sent: one text, with what it shares */
const char *script_sha(enum script script);  /* 40 hex digits */

/* Arguments in one piece of memory: the first is the key's prefix (KEYS[1]), the others are ARGV.
 * Zero it with script_args_init. */
struct script_args {
    struct buf text; /* each followed by a NUL */
    size_t *starts;
    size_t count;
    size_t room;
};

enum { SCRIPT_ARGS_MAX = 4096 };

void script_args_init(struct script_args *args);
void script_args_release(struct script_args *args);
void script_args_add(struct script_args *args, const char *text);
void script_args_add_number(struct script_args *args, int64_t number);
/* Adds a space and the text of an earlier argument, from its skip-th byte, to the last one. */
void script_args_extend(struct script_args *args, size_t index, size_t skip);
/* One argument of many numbers, as doubles, which hold all up to 2^53: '<d' of Lua's struct. */
void script_args_add_packed(struct script_args *args, const int64_t *numbers, size_t count);
/* "{t:<name>}:" or "{p:<name>}:". */
void script_args_add_prefix(struct script_args *args, char kind, const char *name);
/* False: something did not fit or memory is out; it must not be sent. */
bool script_args_ok(const struct script_args *args) MUST_CHECK;
const char *script_args_get(const struct script_args *args, size_t index);
size_t script_args_len(const struct script_args *args, size_t index);

/* One EVALSHA, or EVAL with the whole text.  done as of redis_command. */
void script_send(struct redis *redis, enum script script, bool is_whole,
                 const struct script_args *args, redis_done_fn *done, void *arg);
bool script_is_unknown(const struct redis_reply *reply); /* -NOSCRIPT: send it whole */

/* --- one operation, repeated until it is answered --------------------------------------------- */

enum script_result {
    SCRIPT_ANSWERED,
    SCRIPT_AWAY,        /* no answer in time, or an error: READONLY, LOADING, OOM, MISCONF... */
    SCRIPT_OTHER_REDIS, /* run_id is another */
};

struct script_call;

/* reply is NULL unless SCRIPT_ANSWERED.  may_have_run: it was sent and no answer came of at least
 * one sending. */
typedef void script_done_fn(enum script_result result, const struct redis_reply *reply,
                            bool may_have_run, void *arg);

struct script_spec {
    enum script script;
    struct script_args *args; /* taken over, also when it fails */
    const char *run_id;       /* copied; NULL: any */
};

enum { SCRIPT_DEADLINE_MS = 2000, SCRIPT_RUN_ID_SIZE = 64 };

/* Sends it at once; a reply that is lost is asked for again as soon as there is a connection, for
 * SCRIPT_DEADLINE_MS.  What finds no connection at first is SCRIPT_AWAY.  done is called exactly
 * once, never from inside.  redis must outlive it; redis_free ends it as SCRIPT_AWAY unless it
 * waits for a connection. */
struct script_call *script_call(struct redis *redis, const struct script_spec *spec,
                                script_done_fn *done, void *arg);
/* What it asks with, until done returns. */
const struct script_args *script_call_args(const struct script_call *call);
/* done will not be called.  Only before it. */
void script_call_cancel(struct script_call *call);

#endif
