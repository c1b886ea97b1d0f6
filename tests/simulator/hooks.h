/* SPDX-License-Identifier: Apache-2.0 */
/* A sink for webhooks: answers as its query says and keeps what it got. */
#ifndef TESTS_SIMULATOR_HOOKS_H
#define TESTS_SIMULATOR_HOOKS_H

#include "common/base/err.h"

struct hooks;
struct http_request;
struct simulator;

enum { HOOKS_RECORDS_MAX = 100000, HOOKS_NAME_SIZE = 96, HOOKS_BODY_MAX = 4 << 20 };

struct hooks *hooks_new(struct simulator *simulator);
void hooks_free(struct hooks *hooks);
void hooks_reset(struct hooks *hooks); /* records and counts; requests in flight go on */

void hooks_receive(struct hooks *hooks, struct http_request *http, const char *name);
void hooks_list(struct hooks *hooks, struct http_request *http, const char *name);

#endif
