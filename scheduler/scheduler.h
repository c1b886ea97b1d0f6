/* SPDX-License-Identifier: Apache-2.0 */
/* One scheduler process: what its tasks share. */
#ifndef SCHEDULER_SCHEDULER_H
#define SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/model/topics.h"
#include "scheduler/rescue_rules.h"
