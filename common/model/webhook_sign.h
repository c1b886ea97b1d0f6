/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of webhooks, exactly as Standard Webhooks has them. */
#ifndef COMMON_MODEL_WEBHOOK_SIGN_H
#define COMMON_MODEL_WEBHOOK_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/model/webhook_secret.h"

struct buf;

/* Appends "v1,<base64>" for each secret, separated by spaces, the newest secret first: while a
 * secret rotates a receiver finds the one it knows.  id has no '.', timestamp_s is this very try's,
 * and body the bytes as sent.  False: no secret, or out of memory. */
bool webhook_sign(const char *id, int64_t timestamp_s, const void *body, size_t len,
                  const struct webhook_secret *secrets, size_t count, struct buf *out) MUST_CHECK;

#endif
