/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint of Chat Completions: key, request, scenario, faults, and off the call goes. */
#ifndef TESTS_SIMULATOR_CHAT_H
#define TESTS_SIMULATOR_CHAT_H

struct http_request;
struct simulator;

enum { CHAT_BODY_MAX = 64 << 20 };

/* provider: the segment in front of /v1, or "default". */
void chat_handle(struct simulator *simulator, struct http_request *http, const char *provider);
void chat_models(struct simulator *simulator, struct http_request *http);

#endif
