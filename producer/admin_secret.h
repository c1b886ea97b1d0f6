/* SPDX-License-Identifier: Apache-2.0 */
/* A webhook secret on its way from being made to being shown, once. */
#ifndef PRODUCER_ADMIN_SECRET_H
#define PRODUCER_ADMIN_SECRET_H

#include "common/model/tenant_store.h"
#include "common/model/webhook_secret.h"
#include "producer/routes.h"

struct admin_secret {
    struct request_context *context;
    char owner[64 + 1];
    char text[WEBHOOK_SECRET_TEXT_SIZE]; /* "whsec_..." */
    uint8_t sealed[WEBHOOK_SEALED_MAX];
    size_t sealed_len;
};

/* A fresh one, sealed for its owner ("tenant" or "endpoint" and the id).  NULL: err tells. */
struct admin_secret *admin_secret_new(struct request_context *context, const char *owner_kind,
                                      const char *owner, struct err *err) MUST_CHECK;
void admin_secret_free(struct admin_secret *secret); /* wipes it; NULL is fine */
struct sealed_secret admin_secret_sealed(const struct admin_secret *secret);
void admin_secret_reply(const struct admin_secret *secret); /* 200 {"secret":"whsec_..."} */

#endif
