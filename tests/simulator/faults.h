/* SPDX-License-Identifier: Apache-2.0 */
/* Faults that stand for a provider until cleared, and the counts behind `times`. */
#ifndef TESTS_SIMULATOR_FAULTS_H
#define TESTS_SIMULATOR_FAULTS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;
struct faults;
struct scenario;

enum { FAULTS_STANDING_MAX = 256, FAULTS_KEYS_MAX = 1000000 };

struct faults *faults_new(void);
void faults_free(struct faults *faults);
void faults_reset(struct faults *faults); /* standing faults and counts */

/* body: {"provider":"main" or "*", "status":429, ..., "times":N}: knobs of the scenario by name.
 * Replaces what stood for the provider. */
bool faults_stand(struct faults *faults, const char *body, size_t len, struct err *err) MUST_CHECK;
void faults_clear(struct faults *faults, const char *provider); /* NULL: all */
/* {"object":"list","data":[the bodies with "used":calls it applied to]} */
void faults_describe(const struct faults *faults, struct buf *out);

/* Decides what befalls this call: a standing fault of its provider goes over the scenario and is
 * counted; else `times` of the scenario is judged by its key (or default_key), and the fault taken
 * out when its calls are used up. */
void faults_apply(struct faults *faults, const char *provider, const char *default_key,
                  struct scenario *scenario);

#endif
