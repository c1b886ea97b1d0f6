/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the parts of a simulator together. */
#include "tests/simulator/simulator.h"

#include <string.h>

#include "common/base/buf.h"
#include "common/io/http_server.h"
#include "tests/simulator/call_log.h"
#include "tests/simulator/chat_wire.h"
#include "tests/simulator/faults.h"
#include "tests/simulator/gates.h"
#include "tests/simulator/hooks.h"
#include "tests/simulator/pacer.h"

enum { PENDING_MAX = 256 << 20, HOUR_MS = 3600 * 1000 };

/* The server's own refusals, in the service's shape. */
static void refuse(struct buf *body, int status, const char *code, const char *param,
                   const char *message)
{
    chat_error(body, message, status < 500 ? "invalid_request_error" : "server_error", param, code);
}

static bool open_server(struct simulator *simulator, const struct simulator_options *options,
                        struct err *err)
{
    const struct http_server_options server = {
        .limits =
            {
                .max_connections = options->max_connections,
                .max_pending_bytes = PENDING_MAX,
                .write_timeout_ms = HOUR_MS, /* a slow reader is a client's right here */
            },
        .handler = endpoints_handle,
        .arg = simulator,
        .refuse = refuse,
    };
    int listener = http_listen(options->listen, &simulator->port, err);

    if (listener < 0)
        return false;
    simulator->server = http_server_new(simulator->base, &server, &listener, 1, err);
    return simulator->server != NULL;
}

bool simulator_open(struct simulator *simulator, struct event_base *base,
                    const struct simulator_options *options, struct err *err)
{
    *simulator = (struct simulator){
        .base = base,
        .seed = options->seed,
        .is_lenient = options->is_lenient,
    };
    simulator->pacer = pacer_new(base, (size_t)options->max_connections * 2, err);
    simulator->calls = call_log_new(base, options->log_path, err);
    simulator->faults = faults_new();
    simulator->gates = gates_new();
    simulator->hooks = hooks_new(simulator);
    if (simulator->pacer && simulator->calls && open_server(simulator, options, err))
        return true;
    simulator_close(simulator);
    return false;
}

void simulator_close(struct simulator *simulator)
{
    simulator->is_closing = true;
    http_server_free(simulator->server); /* first: its requests end in the other parts */
    call_log_free(simulator->calls);
    hooks_free(simulator->hooks);
    faults_free(simulator->faults);
    gates_free(simulator->gates);
    pacer_free(simulator->pacer);
    memset(simulator, 0, sizeof(*simulator));
}
