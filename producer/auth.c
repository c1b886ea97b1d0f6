/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of judged keys, and of tenants that tokens name: one lookup of each per 800 ms, however
 * many requests wait for it. */
#include "producer/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/model/jwt.h"
#include "producer/token.h"

enum {
    ENTRIES_MAX = 20000,
    WAITERS_MAX = 20000,
    TOUCH_EVERY_S = 60, /* the statement sees to it too, for other processes */
};

static const struct log_context log_auth = {.component = "auth"};

/* A request that waits for the row of its key, or of its token's tenant. */
struct waiter {
    struct waiter *next;
    uint8_t hash[API_KEY_HASH_SIZE];
    bool has_token;
    struct token_holder holder; /* has_token */
    enum scope scope;
    auth_done_fn *done;
    void *arg;
};

/* One key id or tenant, known or not.  While a lookup is under way the entry stays. */
struct entry {
    struct auth *auth; /* NULL: auth_free was called */
    bool is_tenant;
    char id[JOB_LABEL_MAX + 1];
    struct key_row row;
    int64_t asked_us; /* monotonic: when the lookup that gave row was sent; 0: never */
    int64_t asking_us;
    int64_t touched_us;
    bool is_asking;
    struct waiter *waiters;
};

struct auth {
    struct key_store *keys;
    struct tokens *tokens;
    uint8_t pepper[API_KEY_PEPPER_SIZE];
    struct map *entries; /* by the id, tenants' with a slash in front */
    int waiter_count;
};

struct auth *auth_new(struct key_store *keys, const uint8_t pepper[API_KEY_PEPPER_SIZE])
{
    struct auth *auth = calloc(1, sizeof(*auth));

    if (!auth)
        return NULL;
    auth->keys = keys;
    memcpy(auth->pepper, pepper, sizeof(auth->pepper));
    auth->entries = map_new(ENTRIES_MAX);
    if (auth->entries)
        return auth;
    free(auth);
    return NULL;
}

void auth_set_tokens(struct auth *auth, struct tokens *tokens)
{
    auth->tokens = tokens;
}

/* --- judging ---------------------------------------------------------------------------------- */

static unsigned scope_bit(enum scope scope)
{
    static const unsigned bits[] = {
        [SCOPE_NONE] = 0,
        [SCOPE_JOBS_READ] = KEY_JOBS_READ,
        [SCOPE_JOBS_WRITE] = KEY_JOBS_WRITE,
        [SCOPE_ADMIN] = KEY_ADMIN,
    };

    return bits[scope];
}

static bool refuse_scope(bool is_admin, enum scope scope, struct err *err)
{
    static const char *const names[] = {
        [SCOPE_NONE] = "",
        [SCOPE_JOBS_READ] = "jobs:read",
        [SCOPE_JOBS_WRITE] = "jobs:write",
        [SCOPE_ADMIN] = "admin",
    };

    if (is_admin && scope != SCOPE_ADMIN)
        return err_input(err, "missing_scope", "",
                         "This is an admin key: it belongs to no tenant and has no jobs");
    return err_input(err, "missing_scope", "", "The key lacks the scope %s", names[scope]);
}

/* Whether a row was found or not, the secret's hash is compared: with an empty one if need be. */
static bool judge(const struct key_row *row, const uint8_t hash[API_KEY_HASH_SIZE],
                  enum scope scope, struct err *err)
{
    bool is_right = crypto_equal(row->hash, hash, API_KEY_HASH_SIZE);
    bool is_expired = row->expires_us && row->expires_us <= clock_db_us();
    bool is_admin = (row->scopes & KEY_ADMIN) != 0 && !*row->tenant;

    if (!row->is_valid || !is_right || is_expired)
        return err_input(err, "invalid_key", "", "The API key is unknown, revoked or expired");
    if (row->is_tenant_disabled)
        return err_input(err, "tenant_disabled", "", "The tenant of this API key is disabled");
    if ((row->scopes & scope_bit(scope)) == 0 || is_admin != (scope == SCOPE_ADMIN))
        return refuse_scope(!*row->tenant, scope, err);
    return true;
}

/* The token itself was judged before; its tenant may be gone or disabled since. */
static bool judge_tenant(const struct key_row *row, const struct token_holder *holder,
                         enum scope scope, struct err *err)
{
    if (!row->is_valid)
        return err_input(err, "invalid_key", "",
                         "The token is not accepted: there is no such tenant");
    if (row->is_tenant_disabled)
        return err_input(err, "tenant_disabled", "", "The tenant of this token is disabled");
    if (scope == SCOPE_ADMIN || (holder->scopes & scope_bit(scope)) == 0)
        return refuse_scope(false, scope, err);
    return true;
}

static void touch(struct auth *auth, struct entry *entry)
{
    int64_t now_us = clock_monotonic_us();

    if (entry->touched_us && now_us - entry->touched_us < TOUCH_EVERY_S * US_PER_S)
        return;
    entry->touched_us = now_us;
    key_touch(auth->keys, entry->id);
}

static void answer(struct entry *entry, const struct waiter *who)
{
    struct caller caller = {{0}, {0}};
    struct err err = {{0}, {0}, {0}};
    bool ok = who->has_token ? judge_tenant(&entry->row, &who->holder, who->scope, &err)
                             : judge(&entry->row, who->hash, who->scope, &err);

    if (!ok && strcmp(err.code, "missing_scope") != 0) {
        who->done(false, NULL, &err, who->arg);
        return;
    }
    if (who->has_token) {
        caller = who->holder.caller;
    } else {
        touch(entry->auth, entry);
        snprintf(caller.key_id, sizeof(caller.key_id), "%.*s", API_KEY_ID_LEN, entry->id);
        memcpy(caller.tenant, entry->row.tenant, sizeof(caller.tenant));
    }
    who->done(ok, &caller, ok ? NULL : &err, who->arg);
}

static void answer_unavailable(auth_done_fn *done, void *arg)
{
    struct err err = {{0}, {0}, {0}};

    err_input(&err, "unavailable", "", "The API key cannot be checked just now");
    done(false, NULL, &err, arg);
}

/* --- looking up ------------------------------------------------------------------------------- */

/* Every done may lead back here for another request of the same key, so the list is taken first. */
static void answer_waiters(struct entry *entry, bool is_known)
{
    struct waiter *waiters = entry->waiters;

    entry->waiters = NULL;
    while (waiters) {
        struct waiter *waiter = waiters;

        waiters = waiter->next;
        entry->auth->waiter_count--;
        if (is_known)
            answer(entry, waiter);
        else
            answer_unavailable(waiter->done, waiter->arg);
        free(waiter);
    }
}

static void on_found(enum pg_status status, const struct key_row *row, void *arg)
{
    struct entry *entry = arg;

    if (!entry->auth) { /* auth_free has answered the waiters */
        free(entry);
        return;
    }
    entry->is_asking = false;
    if (row) {
        entry->row = *row;
        entry->asked_us = entry->asking_us;
    } else {
        log_debug(&log_auth, "key not looked up: status=%d", (int)status);
    }
    answer_waiters(entry, row != NULL);
}

static bool is_fresh(const struct entry *entry, int64_t now_us)
{
    return entry->asked_us && now_us - entry->asked_us < AUTH_FRESH_MS * US_PER_MS;
}

static bool drop_stale(const void *key, size_t key_len, void *value, void *arg)
{
    struct entry *entry = value;
    struct auth *auth = arg;

    if (!entry->is_asking && !is_fresh(entry, clock_monotonic_us())) {
        map_remove(auth->entries, key, key_len);
        free(entry);
    }
    return true;
}

static struct entry *entry_get(struct auth *auth, const char *id, bool is_tenant)
{
    char key[JOB_LABEL_MAX + 2];
    size_t len = (size_t)snprintf(key, sizeof(key), "%s%s", is_tenant ? "/" : "", id);
    struct entry *entry = map_get(auth->entries, key, len);

    if (entry)
        return entry;
    if (map_count(auth->entries) >= ENTRIES_MAX)
        map_each(auth->entries, drop_stale, auth);
    entry = calloc(1, sizeof(*entry));
    if (!entry)
        return NULL;
    entry->auth = auth;
    entry->is_tenant = is_tenant;
    snprintf(entry->id, sizeof(entry->id), "%s", id);
    if (map_put(auth->entries, key, len, entry))
        return entry;
    free(entry);
    return NULL;
}

static bool look_up(struct auth *auth, struct entry *entry)
{
    return entry->is_tenant ? key_tenant_find(auth->keys, entry->id, on_found, entry)
                            : key_find(auth->keys, entry->id, on_found, entry);
}

/* False: nothing will answer. */
static bool wait_for(struct auth *auth, struct entry *entry, const struct waiter *who)
{
    struct waiter *waiter;

    if (auth->waiter_count >= WAITERS_MAX)
        return false;
    if (!entry->is_asking && !look_up(auth, entry))
        return false;
    if (!entry->is_asking)
        entry->asking_us = clock_monotonic_us();
    entry->is_asking = true;
    waiter = malloc(sizeof(*waiter));
    if (!waiter)
        return false;
    *waiter = *who;
    waiter->next = entry->waiters;
    entry->waiters = waiter;
    auth->waiter_count++;
    return true;
}

/* Judges who by the row of id, now or when it is there. */
static void judge_by_row(struct auth *auth, const char *id, const struct waiter *who)
{
    struct entry *entry = entry_get(auth, id, who->has_token);

    if (entry && is_fresh(entry, clock_monotonic_us()))
        answer(entry, who);
    else if (!entry || !wait_for(auth, entry, who))
        answer_unavailable(who->done, who->arg);
}

/* --- tokens ----------------------------------------------------------------------------------- */

struct token_wait {
    struct auth *auth;
    struct waiter who;
};

static void on_token(const struct token_holder *holder, const struct err *err, void *arg)
{
    struct token_wait *wait = arg;

    if (holder) {
        wait->who.has_token = true;
        wait->who.holder = *holder;
        judge_by_row(wait->auth, holder->caller.tenant, &wait->who);
    } else {
        wait->who.done(false, NULL, err, wait->who.arg);
    }
    free(wait);
}

static void judge_token(struct auth *auth, const char *text, const struct waiter *who)
{
    struct token_wait *wait = malloc(sizeof(*wait));

    if (!wait) {
        answer_unavailable(who->done, who->arg);
        return;
    }
    *wait = (struct token_wait){auth, *who};
    token_check(auth->tokens, text, on_token, wait);
}

/* --- the headers ------------------------------------------------------------------------------ */

/* The key as it was sent, NULL when there is none. */
static const char *sent_key(const char *authorization, const char *x_api_key)
{
    static const char bearer[] = "bearer ";

    if (authorization && strncasecmp(authorization, bearer, strlen(bearer)) == 0) {
        authorization += strlen(bearer);
        return authorization + strspn(authorization, " ");
    }
    return x_api_key;
}

void auth_check(struct auth *auth, const char *authorization, const char *x_api_key,
                enum scope scope, auth_done_fn *done, void *arg)
{
    struct waiter who = {.scope = scope, .done = done, .arg = arg};
    const char *text = sent_key(authorization, x_api_key);
    struct err err = {{0}, {0}, {0}};
    struct api_key key;

    if (!text || !*text) {
        err_input(&err, "missing_key", "",
                  "Send an API key: Authorization: Bearer <key>, or x-api-key: <key>");
        done(false, NULL, &err, arg);
        return;
    }
    if (text != x_api_key && tokens_are_taken(auth->tokens) && jwt_is_like(text)) {
        judge_token(auth, text, &who);
        return;
    }
    if (!api_key_parse(text, strlen(text), &key)) {
        err_input(&err, "invalid_key", "", "The API key is not a whole key: was it cut?");
        done(false, NULL, &err, arg);
        return;
    }
    api_key_hash(auth->pepper, &key, who.hash);
    judge_by_row(auth, key.id, &who);
    crypto_wipe(&key, sizeof(key));
}

static bool release_entry(const void *key, size_t key_len, void *value, void *arg)
{
    struct entry *entry = value;
    struct auth *auth = arg;

    map_remove(auth->entries, key, key_len);
    answer_waiters(entry, false);
    entry->auth = NULL;
    if (!entry->is_asking)
        free(entry);
    return true;
}

void auth_free(struct auth *auth)
{
    if (!auth)
        return;
    map_each(auth->entries, release_entry, auth);
    map_free(auth->entries);
    crypto_wipe(auth->pepper, sizeof(auth->pepper));
    free(auth);
}
