/* SPDX-License-Identifier: Apache-2.0 */
/* Keys, prompts and answers stay out of core files. */
#ifndef COMMON_BASE_DUMP_H
#define COMMON_BASE_DUMP_H

/* From now on neither this process nor what it forks leaves a core file, is handed to a collector
 * of cores, or lets others of its user attach to it or read its memory.  (Marking single buffers
 * with MADV_DONTDUMP would add nothing.)  Call it before any secret is read; a program that is
 * executed afterwards has to call it again. */
void dump_forbid(void);

#endif
