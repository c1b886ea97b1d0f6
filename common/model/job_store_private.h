/* SPDX-License-Identifier: Apache-2.0 */
/* Between the two files of the job store. */
#ifndef COMMON_MODEL_JOB_STORE_PRIVATE_H
#define COMMON_MODEL_JOB_STORE_PRIVATE_H

struct pg;
struct pg_batch;

struct job_store {
    struct pg *pg; /* lists */
    struct pg_batch *reads;
    struct pg_batch *states;
};

#endif
