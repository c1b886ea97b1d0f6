/* SPDX-License-Identifier: Apache-2.0 */
/* What tests ask the simulator itself: calls, counts, standing faults, gates, reset. */
#ifndef TESTS_SIMULATOR_CONTROL_H
#define TESTS_SIMULATOR_CONTROL_H

struct http_request;
struct simulator;

/* name: what stands behind the path ("" where nothing does). */
void control_calls(struct simulator *simulator, struct http_request *http, const char *name);
void control_stats(struct simulator *simulator, struct http_request *http, const char *name);
void control_reset(struct simulator *simulator, struct http_request *http, const char *name);
void control_faults_get(struct simulator *simulator, struct http_request *http, const char *name);
void control_faults_post(struct simulator *simulator, struct http_request *http, const char *name);
void control_faults_delete(struct simulator *simulator, struct http_request *http,
                           const char *name);
void control_release(struct simulator *simulator, struct http_request *http, const char *name);
void control_unrelease(struct simulator *simulator, struct http_request *http, const char *name);

#endif
