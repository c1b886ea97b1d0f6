/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what the scheduler does, and the timers that do it. */
#include "scheduler/tasks.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/metrics.h"
#include "common/model/leader_store.h"
#include "scheduler/feed.h"
#include "scheduler/leader.h"
#include "scheduler/rescue.h"
#include "scheduler/scheduler.h"
#include "scheduler/webhooks.h"

enum { FAILED_PAUSE_MS = 10000, SLOW_FACTOR = 2 };

const struct task_spec task_table[] = {
    {"feed", 50, true, feed_run}, {"lanes", 200, true, feed_lanes_run},
    {"recall", 1000, true, feed_recall_run}, {"republish", 5000, true, feed_republish_run},
    {"deadlines", 500, true, deadlines_run}, {"rescue", 1000, true, rescue_run},
