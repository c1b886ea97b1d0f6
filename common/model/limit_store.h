/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of limits: what changed since a look, and the documents' reading and replacing. */
#ifndef COMMON_MODEL_LIMIT_STORE_H
#define COMMON_MODEL_LIMIT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/io/pg.h"
#include "common/model/admin_query.h"
#include "common/model/limits.h"

/* --- what changed ----------------------------------------------------------------------------- */

/* A row of limit_changes. */
enum limit_change_kind {
    LIMIT_CHANGE_MARK,       /* number: the next `since`; the first row */
    LIMIT_CHANGE_BINDING,    /* name: Redis's run_id; number: the generation */
    LIMIT_CHANGE_ZONE,       /* name: a time zone; windows */
    LIMIT_CHANGE_TENANT,     /* name; number: weight; flag: is disabled */
    LIMIT_CHANGE_BOOK,       /* name: tenant; number: the generation */
    LIMIT_CHANGE_TENANT_DOC, /* name: tenant; document */
    LIMIT_CHANGE_KEY_DOC,    /* name: key; tenant: whose it is; document */
};

struct zone_windows {
    const char *days[2];   /* this and the next, "20261121" */
    const char *months[2]; /* "202611" */
    int64_t day_ends_us[2];
    int64_t month_ends_us[2];
};

struct limit_change {
    enum limit_change_kind kind;
    const char *name;
    const char *tenant;
    int64_t number;
    bool flag;
    const char *document; /* NULL: none */
    size_t document_len;
    struct zone_windows windows;
};

/* All that changed at or after `since` (0: all there is, tenants like everybody left out; else the
 * number of the last mark), the windows of zones (count of them) and of the zones of documents that
 * changed.  Some rows come again; none is left out, in whatever order transactions commit. */
void limit_changes(struct pg *pg, int64_t since, const char *const *zones, size_t count,
                   pg_done_fn *done, void *arg);
/* Row number `row`; strings live as long as the result. */
void limit_change_read(const struct pg_result *result, int row, struct limit_change *out);

/* --- documents -------------------------------------------------------------------------------- */

/* The document of a tenant or key as it is stored; ADMIN_MISSING when there is no such tenant, or
 * no such key of a tenant. */
bool limits_get(struct pg *pg, enum limits_owner owner, const char *id, admin_done_fn *done,
                void *arg) MUST_CHECK;
/* NULL: the owner is there and has no document.  Lives as long as the reply. */
const char *limits_document(const struct admin_reply *reply, size_t *len);

/* Replaces the document.  With is_new_accounts the tenant's book gets a new generation in the same
 * transaction.  old_document is what was judged for that (NULL: there was none): if somebody
 * replaced it meanwhile it is ADMIN_CONFLICT and nothing was done.  Deletes the tenant's gates. */
struct limits_put {
    enum limits_owner owner;
    const char *id;
    const char *document;
    const char *old_document;
    bool is_new_accounts;
    const char *actor;
};
bool limits_put(struct pg *pg, const struct limits_put *put, admin_done_fn *done,
                void *arg) MUST_CHECK;

/* Deletes the gates of the tenant (of the key's tenant) and makes up to limit of its jobs ready
 * that wait for a limit.  The reply's row says how many: limits_woken.  Again until it is less. */
bool limits_wake(struct pg *pg, enum limits_owner owner, const char *id, int limit,
                 admin_done_fn *done, void *arg) MUST_CHECK;
int64_t limits_woken(const struct admin_reply *reply);

/* Does Postgres know the time zone?  The row's answer: limits_zone_is_known. */
bool limits_zone_check(struct pg *pg, const char *zone, admin_done_fn *done, void *arg) MUST_CHECK;
bool limits_zone_is_known(const struct admin_reply *reply);

#endif
