/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a database says it went through agree with the migrations of this program?  Pure. */
#ifndef MIGRATIONS_HISTORY_H
#define MIGRATIONS_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

enum { CHECKSUM_SIZE = 65, MIGRATION_NAME_SIZE = 128 };

/* A file of migrations/, embedded: "0001_schema.sql" and its text, which a NUL follows. */
struct migration {
    const char *name;
    const char *begin;
    const char *end;
};

/* All of them, by version, ended by one without a name (made by the Makefile). */
extern const struct migration migrations_table[];

/* A row of schema_migrations. */
struct applied {
    int version;
    char name[MIGRATION_NAME_SIZE];
    char checksum[CHECKSUM_SIZE];
    int64_t applied_us;
};

int migration_version(const char *name); /* "0012_x.sql": 12; -1: not such a name */
void migration_checksum(const struct migration *migration, char out[CHECKSUM_SIZE]);

/* What is to be done. */
struct history {
    size_t known;   /* migrations of this program */
    size_t applied; /* of these, the first so many are in the database; the rest is pending */
    size_t newer;   /* in the database and newer than all of ours: fine */
};

/* rows are in order of version.  Fails, naming the file, when a migration was changed, removed or
 * squeezed in after it or a later one was applied. */
bool history_check(const struct migration *table, const struct applied *rows, size_t count,
                   struct history *history, struct err *err) MUST_CHECK;

#endif
