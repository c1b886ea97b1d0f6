/* SPDX-License-Identifier: Apache-2.0 */
/* Submit bodies: what is accepted renders as a job object that parses; what is not names a code. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/model/job_json.h"
#include "common/model/job_submit.h"
#include "common/model/price_guard.h"
#include "common/model/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is refused under a ceiling says which field and what of it; what is not, has nothing that a
 * price would have to tell of. */
static void check_price(const struct job_new *job)
{
    static char model[] = "m";
    const struct target target = {.model = model};
    struct err err = {{0}, {0}, {0}};
    struct request_facts facts;
    bool is_plain;

    request_facts_read(job->request, job->request_len, &facts);
    is_plain = !facts.priced && !facts.has_unknown;
    if (price_guard_target(&target, &facts, &err) != is_plain)
        abort();
    if (!is_plain && (strncmp(err.param, "request", 7) != 0 || !*err.message))
        abort();
}

static void check_job(struct job_new *job)
{
    struct buf out;
    json_t *root;

    job_submit_stamp(job, id_make(1));
    buf_init(&out, JOB_JSON_MAX);
    if (!job_json_submitted(job, &out))
        abort();
    root = json_parse(out.data, out.len, JSON_READ_STRICT, NULL);
    if (!root || strlen(job->request) != job->request_len)
        abort();
    json_decref(root);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct job_rules rules = {.takes_idempotency_key = true};
    struct err err = {{0}, {0}, {0}};
    struct job_new *job = job_submit_read((const char *)data, size, &rules, &err);

    if (job) {
        check_price(job);
        check_job(job);
    } else if (!*err.code)
        abort();
    job_new_free(job);
    return 0;
}
