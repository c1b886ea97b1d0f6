/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of common/model/worst_case, asked with what the request itself says. */
#include "worker/reservation.h"

#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/worst_case.h"

static int64_t member_or(const char *request, size_t len, const char *name, int64_t fallback)
{
    struct json_slice value;
    int64_t number;

    if (json_member_slice(request, len, name, &value) &&
        str_to_i64(value.text, value.len, &number) && number > 0)
        return number;
    return fallback;
}

struct reservation reservation_of(const struct target *target, const char *request, size_t len)
{
    int64_t asked =
        member_or(request, len, "max_completion_tokens", member_or(request, len, "max_tokens", 0));

    return (struct reservation){
        .input_tokens = worst_case_input_tokens(len),
        .output_tokens = worst_case_output_tokens(target, asked),
        .cost_nano = worst_case_nano(target, len, asked),
    };
}

/* No tokenizer makes more than one token of a byte. */
int64_t reservation_output(const struct reservation *reservation, int64_t bytes)
{
    return bytes < reservation->output_tokens ? bytes : reservation->output_tokens;
}
