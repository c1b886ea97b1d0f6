/* SPDX-License-Identifier: Apache-2.0 */
/* A webhook secret on its way from being made to being shown, once. */
#include "producer/admin_secret.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/crypto.h"
#include "producer/admin.h"
#include "producer/producer.h"
#include "producer/reply.h"

struct admin_secret *admin_secret_new(struct request_context *context, const char *owner_kind,
                                      const char *owner, struct err *err)
{
    struct admin_secret *secret = calloc(1, sizeof(*secret));
    struct webhook_secret fresh;
    bool ok;

    if (!secret) {
        err_set(err, "a webhook secret: out of memory");
        return NULL;
    }
    secret->context = context;
    snprintf(secret->owner, sizeof(secret->owner), "%s", owner);
    webhook_secret_make(&fresh);
    webhook_secret_format(&fresh, secret->text);
    ok = webhook_secret_seal(context->producer->webhooks.data_key, owner_kind, owner, &fresh,
                             secret->sealed, &secret->sealed_len, err);
    crypto_wipe(&fresh, sizeof(fresh));
    if (ok)
        return secret;
    admin_secret_free(secret);
    return NULL;
}

void admin_secret_free(struct admin_secret *secret)
{
    if (!secret)
        return;
    crypto_wipe(secret, sizeof(*secret));
    free(secret);
}

struct sealed_secret admin_secret_sealed(const struct admin_secret *secret)
{
    return (struct sealed_secret){secret->sealed, secret->sealed_len};
}

void admin_secret_reply(const struct admin_secret *secret)
{
    struct buf body;

    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    admin_put_text(&body, "secret", secret->text);
    buf_putc(&body, '}');
    reply_json(secret->context->http, 200, &body);
}
