/* SPDX-License-Identifier: Apache-2.0 */
/* Walks along the audit's chain.  The hash is that of audit_append() in migrations/. */
#include "common/model/audit_verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/str.h"

enum { AUDIT_V1 = 1, AUDIT_V2 = 2, ROW_BYTES_MAX = 64 * 1024 * 1024 };

/* --- hashes ----------------------------------------------------------------------------------- */

/* A netstring; "-," for nothing. */
static void put_field(struct buf *out, const char *text)
{
    if (text)
        buf_printf(out, "%zu:%s,", strlen(text), text);
    else
        buf_puts(out, "-,");
}

static void put_number(struct buf *out, int64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, number);
    put_field(out, text);
}

bool audit_row_hash(const struct audit_row *row, const uint8_t prev_hash[SHA256_SIZE],
                    uint8_t out[SHA256_SIZE])
{
    const char *const old[] = {row->actor, row->action, row->object, row->detail};
    const char *const more[] = {row->key_id, row->address,    row->request_id, row->before,
                                row->after,  row->data_class, row->purpose};
    struct buf bytes;
    bool ok;

    buf_init(&bytes, ROW_BYTES_MAX);
    buf_append(&bytes, prev_hash, SHA256_SIZE);
    if (row->version >= AUDIT_V2)
        put_number(&bytes, row->version);
    put_number(&bytes, row->seq);
    put_number(&bytes, row->at_us);
    for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
        put_field(&bytes, old[i]);
    for (size_t i = 0; row->version >= AUDIT_V2 && i < sizeof(more) / sizeof(more[0]); i++)
        put_field(&bytes, more[i]);
    ok = !bytes.is_broken;
    if (ok)
        crypto_sha256(bytes.data, bytes.len, out);
    buf_release(&bytes);
    return ok;
}

/* --- checkpoints ------------------------------------------------------------------------------ */

void audit_key_derive(const uint8_t data_key[CRYPTO_KEY_SIZE], uint8_t key[CRYPTO_KEY_SIZE])
{
    static const char purpose[] = "nightshift audit checkpoints";

    crypto_hmac_sha256(data_key, CRYPTO_KEY_SIZE, purpose, sizeof(purpose) - 1, key);
}

static void checkpoint_mac(const struct audit_checkpoint *checkpoint,
                           const uint8_t key[CRYPTO_KEY_SIZE], uint8_t mac[SHA256_SIZE])
{
    char text[AUDIT_CHECKPOINT_TEXT_SIZE], hash[2 * SHA256_SIZE + 1];

    str_hex(checkpoint->hash, SHA256_SIZE, hash);
    snprintf(text, sizeof(text), "%" PRId64 ".%" PRId64 ".%s", checkpoint->seq, checkpoint->at_us,
             hash);
    crypto_hmac_sha256(key, CRYPTO_KEY_SIZE, text, strlen(text), mac);
}

void audit_checkpoint_sign(struct audit_checkpoint *checkpoint, const uint8_t key[CRYPTO_KEY_SIZE])
{
    checkpoint_mac(checkpoint, key, checkpoint->mac);
}

bool audit_checkpoint_is_signed(const struct audit_checkpoint *checkpoint,
                                const uint8_t key[CRYPTO_KEY_SIZE])
{
    uint8_t mac[SHA256_SIZE];

    checkpoint_mac(checkpoint, key, mac);
    return crypto_equal(mac, checkpoint->mac, sizeof(mac));
}

void audit_checkpoint_format(const struct audit_checkpoint *checkpoint,
                             char out[AUDIT_CHECKPOINT_TEXT_SIZE])
{
    char hash[2 * SHA256_SIZE + 1], mac[2 * SHA256_SIZE + 1];

    str_hex(checkpoint->hash, SHA256_SIZE, hash);
    str_hex(checkpoint->mac, SHA256_SIZE, mac);
    snprintf(out, AUDIT_CHECKPOINT_TEXT_SIZE, "%" PRId64 ".%" PRId64 ".%s.%s", checkpoint->seq,
             checkpoint->at_us, hash, mac);
}

bool audit_checkpoint_parse(const char *text, struct audit_checkpoint *out)
{
    size_t seq_len = strcspn(text, ".");
    const char *at = text + seq_len + (text[seq_len] == '.');
    size_t at_len = strcspn(at, ".");
    const char *hash = at + at_len + (at[at_len] == '.');
    const char *mac = hash + strcspn(hash, ".");

    *out = (struct audit_checkpoint){0};
    return str_to_i64(text, seq_len, &out->seq) && str_to_i64(at, at_len, &out->at_us) &&
           out->seq > 0 && mac - hash == 2 * SHA256_SIZE && *mac == '.' &&
           strlen(mac + 1) == 2 * SHA256_SIZE && str_unhex(hash, 2 * SHA256_SIZE, out->hash) &&
           str_unhex(mac + 1, 2 * SHA256_SIZE, out->mac);
}

/* --- the walk --------------------------------------------------------------------------------- */

void audit_verify_init(struct audit_verifier *verifier, const uint8_t *key,
                       const struct audit_checkpoint *trusted)
{
    *verifier = (struct audit_verifier){.key = key, .trusted = trusted, .version = AUDIT_V1};
}

void audit_verify_resume(struct audit_verifier *verifier, const struct audit_checkpoint *checkpoint)
{
    verifier->seq = checkpoint->seq;
    memcpy(verifier->hash, checkpoint->hash, SHA256_SIZE);
}

static bool fail(struct audit_verifier *verifier, int64_t seq, const char *fault)
{
    verifier->first_bad = seq;
    verifier->fault = fault;
    return false;
}

/* Old rows may stand in front; their new columns were empty, since no hash covered them. */
static bool version_is_right(const struct audit_verifier *verifier, const struct audit_row *row)
{
    bool has_more = row->key_id || row->address || row->request_id || row->before || row->after ||
                    row->data_class || row->purpose;

    return row->version == AUDIT_V2 ||
           (row->version == AUDIT_V1 && verifier->version == AUDIT_V1 && !has_more);
}

static bool checkpoint_holds(struct audit_verifier *verifier,
                             const struct audit_checkpoint *checkpoint, bool is_trusted)
{
    if (verifier->key && !audit_checkpoint_is_signed(checkpoint, verifier->key))
        return fail(verifier, checkpoint->seq,
                    is_trusted ? "the given checkpoint is not signed with this data key"
                               : "its checkpoint is not signed with our key");
    if (!crypto_equal(checkpoint->hash, verifier->hash, SHA256_SIZE))
        return fail(verifier, checkpoint->seq, "a checkpoint holds another hash of it");
    verifier->checkpoints++;
    return true;
}

bool audit_verify_row(struct audit_verifier *verifier, const struct audit_row *row,
                      const struct audit_checkpoint *checkpoint)
{
    int64_t seq = verifier->seq + 1;
    uint8_t hash[SHA256_SIZE];

    if (verifier->fault || verifier->has_failed)
        return false;
    if (row->seq != seq)
        return fail(verifier, seq, "it is missing");
    if (!version_is_right(verifier, row))
        return fail(verifier, seq, "its version is not one it can have");
    if (!row->prev_hash || !row->hash || !crypto_equal(row->prev_hash, verifier->hash, SHA256_SIZE))
        return fail(verifier, seq, "it does not follow on the row before");
    verifier->has_failed = !audit_row_hash(row, verifier->hash, hash);
    if (verifier->has_failed)
        return false;
    if (!crypto_equal(row->hash, hash, SHA256_SIZE))
        return fail(verifier, seq, "its hash is not that of its fields");
    verifier->seq = seq;
    verifier->version = row->version;
    verifier->rows++;
    memcpy(verifier->hash, hash, SHA256_SIZE);
    if (checkpoint && !checkpoint_holds(verifier, checkpoint, false))
        return false;
    return !verifier->trusted || verifier->trusted->seq != seq ||
           checkpoint_holds(verifier, verifier->trusted, true);
}

bool audit_verify_end(struct audit_verifier *verifier, int64_t head_seq, const uint8_t *head_hash,
                      int64_t last_checkpoint)
{
    int64_t next = verifier->seq + 1;

    if (verifier->fault || verifier->has_failed)
        return false;
    if (!head_hash)
        return fail(verifier, next, "the row of the head is gone");
    if (head_seq > verifier->seq)
        return fail(verifier, next, "it is missing: the head is further on");
    if (last_checkpoint > verifier->seq ||
        (verifier->trusted && verifier->trusted->seq > verifier->seq))
        return fail(verifier, next, "it is missing: a checkpoint is further on");
    if (head_seq < verifier->seq)
        return fail(verifier, head_seq + 1,
                    verifier->rows > 0 ? "it stands behind the head"
                                       : "it is missing: a checkpoint is further on");
    if (!crypto_equal(head_hash, verifier->hash, SHA256_SIZE))
        return fail(verifier, head_seq > 0 ? head_seq : 1, "the head holds another hash of it");
    return true;
}
