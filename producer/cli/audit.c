/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift audit`: the trail verified, and written out. */
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "producer/cli/admin_path.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"

enum { VERIFY_TIMEOUT_MS = 600000 };

/* The number of the first bad row, or 0: the exit status says the same to scripts. */
static int show_verdict(const struct cli *cli, const json_t *verdict)
{
    json_int_t first_bad = json_integer_value(json_object_get(verdict, "first_bad"));
    json_int_t rows = json_integer_value(json_object_get(verdict, "rows"));
    bool is_ok = json_is_true(json_object_get(verdict, "ok"));
    const char *fault = json_string_or_null(verdict, "fault");

    printf("%" JSON_INTEGER_FORMAT "\n", first_bad);
    output_flush();
    if (!is_ok)
        return cli_fail(cli, CLI_FAILED, "row %" JSON_INTEGER_FORMAT ": %s", first_bad,
                        fault ? fault : "bad");
    fprintf(stderr,
            "%" JSON_INTEGER_FORMAT " rows and %" JSON_INTEGER_FORMAT " checkpoints are whole\n",
            rows, json_integer_value(json_object_get(verdict, "checkpoints")));
    return CLI_DONE;
}

int audit_verify_run(struct cli *cli)
{
    struct api_request request = {
        .who = WHO_ADMIN, .method = "GET", .timeout_ms = VERIFY_TIMEOUT_MS, .is_repeatable = true};
    json_t *verdict = NULL;
    struct buf path;
    int code;

    admin_path(&path, "/admin/v1/audit/verify", NULL);
    api_put_query(&path, "checkpoint", cli_option(cli, "checkpoint"));
    request.path = path.data;
    code = api_fetch(cli, &request, &verdict);
    if (code == CLI_DONE && cli->out.is_json) {
        json_dumpf(verdict, stdout, JSON_COMPACT);
        putchar('\n');
        code = json_is_true(json_object_get(verdict, "ok")) ? CLI_DONE : CLI_FAILED;
    } else if (code == CLI_DONE) {
        code = show_verdict(cli, verdict);
    }
    json_decref(verdict);
    buf_release(&path);
    return code;
}

/* --- export ----------------------------------------------------------------------------------- */

struct export
{
    const struct cli *cli;
    char next[API_NEXT_SIZE];
    bool is_broken;
};

static void on_page(const struct api_answer *answer, void *arg)
{
    struct export *export = arg;

    export->is_broken = !output_text(&export->cli->out, answer->body, answer->body_len);
    snprintf(export->next, sizeof(export->next), "%s", answer->next_after);
}

int audit_export_run(struct cli *cli)
{
    static const char *const names[] = {"from", "to", "actor", "object"};
    struct export export = {.cli = cli};
    int code;

    do {
        struct api_request request = {.who = WHO_ADMIN, .method = "GET", .is_repeatable = true};
        struct buf path;

        admin_path(&path, "/admin/v1/audit", NULL);
        for (int i = 0; i < 4; i++)
            api_put_query(&path, names[i], cli_option(cli, names[i]));
        api_put_query(&path, "after", *export.next ? export.next : NULL);
        request.path = path.data;
        code = api_run(cli, &request, on_page, &export);
        buf_release(&path);
    } while (code == CLI_DONE && *export.next && !export.is_broken);
    return code;
}
