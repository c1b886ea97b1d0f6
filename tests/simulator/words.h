/* SPDX-License-Identifier: Apache-2.0 */
/* The answer's text: words that depend on a seed and a position only. */
#ifndef TESTS_SIMULATOR_WORDS_H
#define TESTS_SIMULATOR_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;

/* Appends word number index of the text that seed stands for; every word but the first brings the
 * space in front of it.  With is_unicode half of the words are beyond ASCII, some beyond the BMP.
 */
bool words_put(struct buf *out, uint64_t seed, int64_t index, bool is_unicode);

/* A seed from any 8 bytes or more. */
uint64_t words_seed(const void *digest, uint64_t salt);

/* The next piece of text for an echo: a run of blanks and the word after it.  Returns its length; 0
 * at the end. */
size_t words_piece(const char *text, size_t len);

#endif
