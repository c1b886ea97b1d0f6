/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the body of a webhook about an ended job. */
#include "common/model/webhook_body.h"

#include <assert.h>
#include <inttypes.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/money.h"
#include "common/base/str.h"

static void put_text(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    buf_put_json_text(out, text);
}

static void put_usage(const struct webhook_job *job, struct buf *out)
{
    if (!job->has_usage) {
        buf_puts(out, ",\"usage\":null");
        return;
    }
    buf_printf(out,
               ",\"usage\":{\"input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
               ",\"cached_input_tokens\":%" PRId64 ",\"total_tokens\":%" PRId64 "%s}",
               job->input_tokens, job->output_tokens, job->cached_input_tokens,
               job->input_tokens + job->output_tokens,
               job->is_usage_estimated ? ",\"usage_estimated\":true" : "");
}

bool webhook_body_write(const struct webhook_job *job, struct buf *out)
{
    char at[CLOCK_RFC3339_SIZE], id[ID_TEXT_SIZE], cost[MONEY_TEXT_SIZE];
    char digest[2 * SHA256_SIZE + 1];
    const char *state = job_state_name(job->state);

    assert(job_state_is_terminal(job->state));
    clock_format_rfc3339(job->ended_us, at);
    id_format(job->id, "job_", id);
    money_format(job->cost_nano, cost);
    if (job->result_sha256)
        str_hex(job->result_sha256, SHA256_SIZE, digest);
    buf_printf(out,
               "{\"type\":\"job.%s\",\"timestamp\":\"%s\",\"data\":{\"id\":\"%s\","
               "\"object\":\"job\",\"state\":\"%s\"",
               state, at, id, state);
    put_text(out, "workflow", job->workflow);
    buf_printf(out, ",\"metadata\":");
    buf_puts(out, job->metadata ? job->metadata : "null");
    put_usage(job, out);
    buf_printf(out, ",\"cost_usd\":\"%s\",\"result_url\":\"/v1/jobs/%s\"", cost, id);
    put_text(out, "result_sha256", job->result_sha256 ? digest : NULL);
    return buf_printf(out, ",\"sequence\":%d}}", job->sequence);
}
