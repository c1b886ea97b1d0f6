/* SPDX-License-Identifier: Apache-2.0 */
/* Small questions about strings: UTF-8, character classes, exact integers, nearest names. */
#ifndef COMMON_BASE_STR_H
#define COMMON_BASE_STR_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct buf;

/* strdup and calloc that exit the program with a message when memory is out: for start-up and
 * config, and for a few bytes without which there is no going on. */
char *xstrdup(const char *text) MUST_CHECK;
void *xcalloc(size_t count, size_t size) MUST_CHECK;

bool str_utf8_valid(const char *text, size_t len) MUST_CHECK; /* strict: no surrogates, no NUL */

/* The length of the longest prefix of text that ends at a character boundary. */
size_t str_utf8_boundary(const char *text, size_t len);

/* Appends text with every invalid sequence and NUL replaced by U+FFFD. */
bool str_utf8_clean(struct buf *out, const char *text, size_t len) MUST_CHECK;

/* Number of code points of valid UTF-8. */
size_t str_utf8_count(const char *text, size_t len);

/* The whole of text (len bytes) is a decimal integer.  A '-' may lead it, but no '+' and no space;
 * "-0" is none. */
bool str_to_i64(const char *text, size_t len, int64_t *out) MUST_CHECK;

bool str_is_visible_ascii(const char *text, size_t len) MUST_CHECK; /* all of 0x21..0x7e, len > 0 */

/* 1 to max of [A-Za-z0-9._/@:-]: workflow, user, purpose, data_class. */
bool str_is_label(const char *text, size_t len, size_t max) MUST_CHECK;

/* The name in names (count of them) nearest to what, by edit distance; NULL when none is close. */
const char *str_nearest(const char *what, const char *const *names, size_t count);

bool str_equal(const char *a, const char *b); /* NULL-safe */

/* Hex, lower case; out has 2 * len + 1 bytes. */
void str_hex(const void *data, size_t len, char *out);
bool str_unhex(const char *hex, size_t hex_len, void *out) MUST_CHECK;
/* The value of a hex digit in either case, -1 for any other character. */
int str_hex_digit(char c);

#endif
