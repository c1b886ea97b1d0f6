/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds prompts, model names and request bodies to the simulator's readers. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulator/chat_request.h"
#include "tests/simulator/scenario.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct scenario *scenario)
{
    int status = scenario_status(scenario);

    assert(status >= 200 && status <= 599);
    assert(scenario->tokens >= 0 && scenario->tokens <= SCENARIO_TOKENS_MAX);
    assert(scenario->faults >> FAULT_COUNT == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err;
    struct scenario scenario;
    struct chat_request request;
    char *text = malloc(size + 1);

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    scenario_init(&scenario);
    (void)!scenario_from_text(&scenario, "main", text, size, &err);
    check(&scenario);
    scenario_init(&scenario);
    scenario_from_model(&scenario, text);
    check(&scenario);
    chat_request_init(&request);
    (void)!chat_request_parse(&request, text, size, true, &err);
    chat_request_release(&request);
    free(text);
    return 0;
}
