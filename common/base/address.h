/* SPDX-License-Identifier: Apache-2.0 */
/* Which network addresses webhooks may go to: CIDR lists and the ranges that are never public. */
#ifndef COMMON_BASE_ADDRESS_H
#define COMMON_BASE_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/base/err.h"

/* An IPv6 or (mapped) IPv4 network. */
struct network {
    uint8_t bytes[16];
    int bits; /* of 128 */
};

bool network_parse(const char *text, struct network *out, struct err *err) MUST_CHECK;

/* May a webhook connect there?  No for loopback, private, link-local, metadata, documentation,
 * multicast and reserved ranges (also inside IPv4-mapped, NAT64, 6to4 and Teredo addresses), unless
 * one of allow (count networks) holds the address.  Anything but AF_INET and AF_INET6 is no. */
bool address_is_allowed(const struct sockaddr *address, const struct network *allow,
                        size_t count) MUST_CHECK;

/* Does one of the networks hold the address? */
bool networks_have(const struct network *networks, size_t count,
                   const struct sockaddr *address) MUST_CHECK;

/* Is host (of a URL, IPv6 with or without brackets) an IP literal, in any notation a C library
 * would accept ("127.1", "0x7f000001", "2130706433")?  Then *out is filled. */
bool address_from_literal(const char *host, struct sockaddr_storage *out) MUST_CHECK;

#endif
