/* SPDX-License-Identifier: Apache-2.0 */
/* Which statements a connection has prepared: a hash table over the statements' addresses. */
#include "common/io/pg_prepared.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = PG_PREPARED_MAX * 2 };

/* Open addressing with linear probing; entries are never removed, only marked unprepared. */
struct pg_prepared {
    size_t count;
    struct pg_prepared_entry *slots[SLOTS];
};

struct pg_prepared *pg_prepared_new(void)
{
    return calloc(1, sizeof(struct pg_prepared));
}

void pg_prepared_free(struct pg_prepared *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < SLOTS; i++) {
        if (table->slots[i])
            free(table->slots[i]->types);
        free(table->slots[i]);
    }
    free(table);
}

static struct pg_prepared_entry **slot_of(struct pg_prepared *table,
                                          const struct pg_statement *statement)
{
    size_t at = (uintptr_t)statement / sizeof(*statement) % SLOTS;

    while (table->slots[at] && table->slots[at]->statement != statement)
        at = (at + 1) % SLOTS;
    return &table->slots[at];
}

static void entry_name(struct pg_prepared_entry *entry)
{
    if (entry->version == 0)
        snprintf(entry->name, sizeof(entry->name), "%.48s", entry->statement->name);
    else
        snprintf(entry->name, sizeof(entry->name), "%.48s.%d", entry->statement->name,
                 entry->version);
}

static struct pg_prepared_entry *entry_new(const struct pg_statement *statement,
                                           const struct pg_params *params)
{
    struct pg_prepared_entry *entry = calloc(1, sizeof(*entry));
    size_t size = (size_t)params->count * sizeof(params->types[0]);

    if (!entry)
        return NULL;
    entry->types = malloc(size + 1);
    if (!entry->types) {
        free(entry);
        return NULL;
    }
    if (size > 0)
        memcpy(entry->types, params->types, size);
    entry->type_count = params->count;
    entry->statement = statement;
    entry_name(entry);
    return entry;
}

static bool has_types(const struct pg_prepared_entry *entry, const struct pg_params *params)
{
    if (entry->type_count != params->count)
        return false;
    for (int i = 0; i < params->count; i++) {
        if (entry->types[i] != params->types[i])
            return false;
    }
    return true;
}

struct pg_prepared_entry *pg_prepared_find(struct pg_prepared *table,
                                           const struct pg_statement *statement,
                                           const struct pg_params *params)
{
    struct pg_prepared_entry **slot = slot_of(table, statement);

    if (*slot) {
        assert(has_types(*slot, params));
        return *slot;
    }
    assert(table->count < PG_PREPARED_MAX); /* they are constants of the program */
    *slot = entry_new(statement, params);
    if (*slot)
        table->count++;
    return *slot;
}

void pg_prepared_forget(struct pg_prepared_entry *entry, int version)
{
    if (entry->version != version)
        return;
    entry->is_prepared = false;
    entry->version++;
    entry_name(entry);
}

void pg_prepared_forget_all(struct pg_prepared *table)
{
    for (size_t i = 0; i < SLOTS; i++) {
        if (table->slots[i])
            pg_prepared_forget(table->slots[i], table->slots[i]->version);
    }
}
