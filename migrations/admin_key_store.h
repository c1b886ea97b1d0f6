/* SPDX-License-Identifier: Apache-2.0 */
/* The first admin key: it cannot be made through the API, which asks for one. */
#ifndef MIGRATIONS_ADMIN_KEY_STORE_H
#define MIGRATIONS_ADMIN_KEY_STORE_H

#include "common/model/api_key.h"

struct pg_session;

/* Makes a key of scope admin that belongs to no tenant; text is for its owner, once. */
bool admin_key_insert(struct pg_session *session, const char *name,
                      const uint8_t pepper[API_KEY_PEPPER_SIZE], char text[API_KEY_SIZE],
                      struct err *err) MUST_CHECK;

#endif
