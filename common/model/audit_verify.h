/* SPDX-License-Identifier: Apache-2.0 */
/* Is the audit what was written?  Pure: rows, head and checkpoints go in, the first bad row comes
 * out. */
#ifndef COMMON_MODEL_AUDIT_VERIFY_H
#define COMMON_MODEL_AUDIT_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/crypto.h"
#include "common/base/err.h"

/* Three things guard the audit.  Each row's hash covers its fields and the hash of the row before:
 * an edit, a deletion, a swap and an insertion break the chain at the first row that they touch.
 * The head (another table, same transaction) holds the last number and hash: it misses a tail that
 * was cut off, and knows of no row that was put behind it.  Checkpoints, signed with a key that the
 * database does not have and also written to the scheduler's log, pin hashes for good: who rewrites
 * the chain from some row on, or cuts it together with the head, contradicts one of them.  A
 * checkpoint out of the log does so even when those in the database were deleted. */

struct audit_row {
    int64_t seq;
    int64_t at_us;
    int version;                      /* which fields the hash covers */
    const char *actor, *action;       /* strings are borrowed; those from here on may be NULL */
    const char *object, *detail;      /* JSON */
    const char *key_id, *address;     /* since version 2, as all that follow */
    const char *request_id;           /* of the HTTP request */
    const char *before, *after;       /* JSON */
    const char *data_class, *purpose; /* as the caller gave them */
    const uint8_t *prev_hash, *hash;  /* NULL unless SHA256_SIZE bytes */
};

struct audit_checkpoint {
    int64_t seq;
    uint8_t hash[SHA256_SIZE]; /* of the row seq */
    int64_t at_us;
    uint8_t mac[SHA256_SIZE];
};

/* "SEQ.MICROSECONDS.HASH.MAC": as it stands in the log, and is given back to verify by. */
enum { AUDIT_CHECKPOINT_TEXT_SIZE = 2 * 20 + 4 * SHA256_SIZE + 4 };
void audit_checkpoint_format(const struct audit_checkpoint *checkpoint,
                             char out[AUDIT_CHECKPOINT_TEXT_SIZE]);
bool audit_checkpoint_parse(const char *text, struct audit_checkpoint *out) MUST_CHECK;

/* The key of the signatures, from secrets.data_key. */
void audit_key_derive(const uint8_t data_key[CRYPTO_KEY_SIZE], uint8_t key[CRYPTO_KEY_SIZE]);
void audit_checkpoint_sign(struct audit_checkpoint *checkpoint, const uint8_t key[CRYPTO_KEY_SIZE]);
bool audit_checkpoint_is_signed(const struct audit_checkpoint *checkpoint,
                                const uint8_t key[CRYPTO_KEY_SIZE]) MUST_CHECK;

/* The state of a walk along the chain.  fault is NULL while all is well.  A walk that has failed
 * says nothing of the audit: the row behind seq could not be hashed, for want of memory or because
 * it is longer than anything that we write. */
struct audit_verifier {
    const uint8_t *key;                     /* NULL: signatures are not judged; borrowed */
    const struct audit_checkpoint *trusted; /* one from outside, or NULL; borrowed */
    int64_t seq;                            /* of the last good row */
    uint8_t hash[SHA256_SIZE];              /* its hash */
    int version;
    int64_t rows, checkpoints; /* good ones seen */
    int64_t first_bad;         /* the number of the first row that is bad or missing; 0: none */
    const char *fault;         /* what is wrong with it */
    bool has_failed;
};

/* From the first row on. */
void audit_verify_init(struct audit_verifier *verifier, const uint8_t *key,
                       const struct audit_checkpoint *trusted);
/* From behind a checkpoint that was verified. */
void audit_verify_resume(struct audit_verifier *verifier,
                         const struct audit_checkpoint *checkpoint);

/* The next row in order of seq, with the checkpoint on it (NULL: none).  False: it is bad, or the
 * walk has failed. */
bool audit_verify_row(struct audit_verifier *verifier, const struct audit_row *row,
                      const struct audit_checkpoint *checkpoint);

/* At the end of the rows: the head as it was at that moment (NULL hash: there is none) and the
 * highest number of a checkpoint.  False: rows are missing, or too many, or the walk has failed. */
bool audit_verify_end(struct audit_verifier *verifier, int64_t head_seq, const uint8_t *head_hash,
                      int64_t last_checkpoint);

/* What a row's hash has to be.  False: no memory, or the row is too long. */
bool audit_row_hash(const struct audit_row *row, const uint8_t prev_hash[SHA256_SIZE],
                    uint8_t out[SHA256_SIZE]) MUST_CHECK;

#endif
