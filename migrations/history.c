/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a database says it went through agree with the migrations of this program?  Pure. */
#include "migrations/history.h"

#include <string.h>

#include "common/base/crypto.h"
#include "common/base/str.h"

enum { VERSION_DIGITS = 4 };

int migration_version(const char *name)
{
    int64_t version;

    if (strlen(name) <= VERSION_DIGITS || name[VERSION_DIGITS] != '_' ||
        !str_to_i64(name, VERSION_DIGITS, &version) || version < 1)
        return -1;
    return (int)version;
}

void migration_checksum(const struct migration *migration, char out[CHECKSUM_SIZE])
{
    uint8_t digest[SHA256_SIZE];

    crypto_sha256(migration->begin, (size_t)(migration->end - migration->begin), digest);
    str_hex(digest, sizeof(digest), out);
}

/* Our own files: a number each, ascending. */
static bool table_check(const struct migration *table, size_t *count, struct err *err)
{
    int last = 0;

    for (*count = 0; table[*count].name; (*count)++) {
        int version = migration_version(table[*count].name);

        if (version <= last)
            return err_set(err, "migrations/%s: expected NNNN_name.sql with a number over %d",
                           table[*count].name, last);
        last = version;
    }
    return true;
}

static bool row_check(const struct migration *migration, const struct applied *row, struct err *err)
{
    char checksum[CHECKSUM_SIZE];

    if (migration_version(migration->name) < row->version)
        return err_set(err,
                       "migrations/%s was never applied, but the later %s was: history has changed",
                       migration->name, row->name);
    if (migration_version(migration->name) > row->version)
        return err_set(err,
                       "the database has migration %s, which is not in migrations/: history "
                       "has changed",
                       row->name);
    migration_checksum(migration, checksum);
    if (strcmp(checksum, row->checksum) != 0)
        return err_set(err,
                       "migrations/%s is not what was applied to this database (as %s): history "
                       "has changed; put the file back and make the change in a new one",
                       migration->name, row->name);
    return true;
}

bool history_check(const struct migration *table, const struct applied *rows, size_t count,
                   struct history *history, struct err *err)
{
    int newest;

    *history = (struct history){.known = 0};
    if (!table_check(table, &history->known, err))
        return false;
    newest = history->known ? migration_version(table[history->known - 1].name) : 0;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].version > newest) {
            history->newer++;
            continue;
        }
        if (!row_check(&table[i], &rows[i], err))
            return false;
        history->applied++;
    }
    if (history->newer > 0 && history->applied < history->known)
        return err_set(err,
                       "migrations/%s was never applied, but the later %s was: history has "
                       "changed",
                       table[history->applied].name, rows[count - 1].name);
    return true;
}
