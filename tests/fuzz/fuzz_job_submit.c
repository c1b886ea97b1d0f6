/* SPDX-License-Identifier: Apache-2.0 */
/* Submit bodies: what is accepted renders as a job object that parses; what is not names a code. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/model/job_json.h"
#include "common/model/job_submit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

    if (job)
        check_job(job);
    else if (!*err.code)
        abort();
    job_new_free(job);
    return 0;
}
