/* SPDX-License-Identifier: Apache-2.0 */
/* /healthz, /readyz and /metrics on the API's own listener. */
#include "common/io/health.h"
#include "producer/handlers.h"
#include "producer/producer.h"

void live_handle(struct request_context *context)
{
    health_reply_live(context->http);
}

void ready_handle(struct request_context *context)
{
    health_reply_ready(context->http, context->producer->daemon);
}

void metrics_handle(struct request_context *context)
{
    health_reply_metrics(context->http);
}
