/* SPDX-License-Identifier: Apache-2.0 */
/* Seals the audit with signed checkpoints. */
#include "scheduler/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/audit_store.h"
#include "common/model/webhook_secret.h"
#include "scheduler/scheduler.h"

enum { PAGES_MAX = 20 }; /* of a pass: it signs as far as it came, the next one goes on */

static const struct log_context log_audit = {.component = "audit"};

static const struct metric broken = {
    .name = "nightshift_audit_broken",
    .type = METRIC_GAUGE,
    .help = "1 when the audit is not what was written: run `nightshift audit verify`.",
};

struct pass {
    struct task *task;
    struct audit_verifier verifier;
    struct audit_checkpoint checkpoint; /* the last; then the next */
    uint8_t key[CRYPTO_KEY_SIZE];
    int pages;
    bool has_more;
};

void audit_declare_metrics(void)
{
    metric_set(&broken, NULL, 0);
}

static void pass_end(struct pass *pass, const struct pg_reply *failed)
{
    struct task *task = pass->task;
    bool has_more = pass->has_more && !failed;

    crypto_wipe(pass->key, sizeof(pass->key));
    free(pass);
    task_end(task, failed, has_more);
}

/* Said once by each process, and again when another row is at fault. */
static void tell_broken(const struct audit_verifier *verifier)
{
    static int64_t told;

    metric_set(&broken, NULL, verifier->fault ? 1 : 0);
    if (verifier->fault && told != verifier->first_bad)
        log_error(&log_audit, "the audit is broken: row=%lld, %s", (long long)verifier->first_bad,
                  verifier->fault);
    told = verifier->first_bad;
}

static void on_added(const struct pg_reply *reply, void *arg)
{
    struct pass *pass = arg;
    char text[AUDIT_CHECKPOINT_TEXT_SIZE];

    if (reply->status == PG_OK) {
        audit_checkpoint_format(&pass->checkpoint, text);
        log_info(&log_audit, "audit checkpoint: %s", text);
    }
    pass_end(pass, reply->status == PG_OK ? NULL : reply);
}

static void seal(struct pass *pass)
{
    struct scheduler *scheduler = pass->task->scheduler;

    pass->checkpoint.seq = pass->verifier.seq;
    pass->checkpoint.at_us = clock_now_us();
    memcpy(pass->checkpoint.hash, pass->verifier.hash, SHA256_SIZE);
    audit_checkpoint_sign(&pass->checkpoint, pass->key);
    scheduler->audit_sealed = pass->checkpoint;
    audit_checkpoint_add(scheduler->upkeep_pg, pass->task->epoch, &pass->checkpoint, on_added,
                         pass);
}

/* Nothing is known of the audit now: what was said of it last stays. */
static void end_failed(struct pass *pass)
{
    char message[64];
    const struct pg_reply failed = {.status = PG_FAILED, .sqlstate = "", .message = message};

    snprintf(message, sizeof(message), "row %lld: no memory for it",
             (long long)pass->verifier.seq + 1);
    pass->has_more = false;
    pass_end(pass, &failed);
}

static void on_chain(const struct pg_reply *reply, void *arg)
{
    struct pass *pass = arg;

    if (reply->status != PG_OK) {
        pass_end(pass, reply);
        return;
    }
    pass->has_more = audit_chain_verify(reply->result, &pass->verifier);
    if (pass->has_more && ++pass->pages < PAGES_MAX) {
        audit_chain(pass->task->scheduler->upkeep_pg, pass->verifier.seq, on_chain, pass);
        return;
    }
    if (pass->verifier.has_failed) {
        end_failed(pass);
        return;
    }
    tell_broken(&pass->verifier);
    if (!pass->verifier.fault && pass->verifier.rows > 0)
        seal(pass);
    else
        pass_end(pass, NULL);
}

/* What this process sealed before holds, whatever the table says now. */
static void on_last(const struct pg_reply *reply, void *arg)
{
    struct pass *pass = arg;
    const struct audit_checkpoint *mine = &pass->task->scheduler->audit_sealed;

    if (reply->status != PG_OK) {
        pass_end(pass, reply);
        return;
    }
    if (!audit_checkpoint_read(reply->result, &pass->checkpoint) ||
        pass->checkpoint.seq < mine->seq ||
        !audit_checkpoint_is_signed(&pass->checkpoint, pass->key))
        pass->checkpoint = *mine;
    if (pass->checkpoint.seq > 0)
        audit_verify_resume(&pass->verifier, &pass->checkpoint);
    audit_chain(pass->task->scheduler->upkeep_pg, pass->verifier.seq, on_chain, pass);
}

void audit_run(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    uint8_t data_key[CRYPTO_KEY_SIZE];
    struct pass *pass = calloc(1, sizeof(*pass));
    struct err err;

    if (!pass || !scheduler->options->webhooks.data_key ||
        !webhook_data_key_parse(scheduler->options->webhooks.data_key, data_key, &err)) {
        free(pass);
        task_end(task, NULL, false);
        return;
    }
    pass->task = task;
    audit_key_derive(data_key, pass->key);
    crypto_wipe(data_key, sizeof(data_key));
    audit_verify_init(&pass->verifier, pass->key, NULL);
    audit_checkpoint_last(scheduler->upkeep_pg, on_last, pass);
}
