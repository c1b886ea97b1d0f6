/* SPDX-License-Identifier: Apache-2.0 */
/* The first admin key: it cannot be made through the API, which asks for one. */
#include "migrations/admin_key_store.h"

#include "common/base/crypto.h"
#include "common/io/pg.h"

bool admin_key_insert(struct pg_session *session, const char *name,
                      const uint8_t pepper[API_KEY_PEPPER_SIZE], char text[API_KEY_SIZE],
                      struct err *err)
{
    static const char sql[] =
        "WITH made AS ("
        "    INSERT INTO api_keys (id, tenant, name, scopes, hash)"
        "    VALUES ($1, NULL, $2, ARRAY['admin'], $3)"
        "    RETURNING id, name, scopes"
        ")"
        "SELECT audit_append('nightshift-migrate', 'key.create', 'key:' || id,"
        "    json_build_object('after', json_build_object('name', name, 'scopes', scopes))::text) "
        "FROM made";
    uint8_t hash[API_KEY_HASH_SIZE];
    struct api_key key;
    struct pg_value values[3];

    api_key_make(&key, text);
    api_key_hash(pepper, &key, hash);
    values[0] = pg_text(key.id);
    values[1] = pg_text(name);
    values[2] = pg_bytea(hash, sizeof(hash));
    crypto_wipe(key.secret, sizeof(key.secret));
    return pg_session_run(session, sql, values, 3, NULL, err) ||
           err_wrap(err, "store admin key %s", name);
}
