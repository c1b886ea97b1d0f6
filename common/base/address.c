/* SPDX-License-Identifier: Apache-2.0 */
/* Which network addresses webhooks may go to: CIDR lists and the ranges that are never public. */
#include "common/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/base/str.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* All addresses are 16 bytes; IPv4 is in its mapped form ::ffff:a.b.c.d. */
#define V4(a, b, c, d, bits_)                                                    \
    {                                                                            \
        .bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, (a), (b), (c), (d)}, \
        .bits = 96 + (bits_)                                                     \
    }
#define V6(a, b, bits_)                                                    \
    {                                                                      \
        .bytes = {(a) >> 8, (a)&0xff, (b) >> 8, (b)&0xff}, .bits = (bits_) \
    }

static const struct network mapped_v4 = V4(0, 0, 0, 0, 0);

/* IANA's special-purpose registry (RFC 6890 and later entries), and what clouds put beside it. */
static const struct network blocked_v4[] = {
    V4(0, 0, 0, 0, 8),        /* this network */
    V4(10, 0, 0, 0, 8),       /* private */
    V4(100, 64, 0, 0, 10),    /* shared by carriers; Alibaba's metadata */
    V4(127, 0, 0, 0, 8),      /* loopback */
    V4(168, 63, 129, 16, 32), /* Azure's host agent */
    V4(169, 254, 0, 0, 16),   /* link-local; metadata of most clouds */
    V4(172, 16, 0, 0, 12),    /* private */
    V4(192, 0, 0, 0, 24),     /* protocol assignments; Oracle's metadata */
    V4(192, 0, 2, 0, 24),     /* documentation */
    V4(192, 88, 99, 0, 24),   /* 6to4 relays */
    V4(192, 168, 0, 0, 16),   /* private */
    V4(198, 18, 0, 0, 15),    /* benchmarks */
    V4(198, 51, 100, 0, 24),  /* documentation */
    V4(203, 0, 113, 0, 24),   /* documentation */
    V4(224, 0, 0, 0, 4),      /* multicast */
    V4(240, 0, 0, 0, 4),      /* reserved, broadcast */
};

/* Only 2000::/3 is given out as public.  Refusing all else covers ::, ::1, ::/96, ::ffff:0:0:0/96,
 * 64:ff9b::/96, 64:ff9b:1::/48, 100::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8 and
 * whatever will be invented there.  Inside of it these are not public: */
static const struct network global_v6 = V6(0x2000, 0, 3);
static const struct network blocked_v6[] = {
    V6(0x2001, 0, 23),      /* protocol assignments, Teredo (2001::/32) among them */
    V6(0x2001, 0x0db8, 32), /* documentation */
    V6(0x2002, 0, 16),      /* 6to4 */
    V6(0x3fff, 0, 20),      /* documentation */
};

/* Ranges whose addresses lead to the IPv4 address that they carry.  (IPv4-compatible ::/96 is not
 * one of them: nothing forwards it any more, and ::1 lies in it.) */
static const struct {
    struct network network;
    int offset; /* of the four bytes */
    uint8_t mask;
} carriers[] = {
    {V6(0x0064, 0xff9b, 96), 12, 0}, /* NAT64 */
    {V6(0x2002, 0, 16), 2, 0},       /* 6to4 */
    {V6(0x2001, 0, 32), 12, 0xff},   /* Teredo: the client's address, inverted */
};

static bool network_has(const struct network *network, const uint8_t bytes[16])
{
    int whole = network->bits / 8;
    int rest = network->bits % 8;

    if (memcmp(network->bytes, bytes, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((network->bytes[whole] ^ bytes[whole]) >> (8 - rest)) == 0;
}

static bool any_has(const struct network *networks, size_t count, const uint8_t bytes[16])
{
    for (size_t i = 0; i < count; i++) {
        if (network_has(&networks[i], bytes))
            return true;
    }
    return false;
}

static void map_v4(const void *four, uint8_t out[16])
{
    memcpy(out, mapped_v4.bytes, 12);
    memcpy(out + 12, four, 4);
}

static bool bytes_are_public(const uint8_t bytes[16])
{
    if (network_has(&mapped_v4, bytes))
        return !any_has(blocked_v4, COUNT(blocked_v4), bytes);
    return network_has(&global_v6, bytes) && !any_has(blocked_v6, COUNT(blocked_v6), bytes);
}

/* The IPv4 address inside of a NAT64, 6to4 or Teredo one. */
static bool take_carried(const uint8_t bytes[16], uint8_t out[16])
{
    for (size_t i = 0; i < COUNT(carriers); i++) {
        if (!network_has(&carriers[i].network, bytes))
            continue;
        map_v4(bytes + carriers[i].offset, out);
        for (int j = 12; j < 16; j++)
            out[j] ^= carriers[i].mask;
        return true;
    }
    return false;
}

/* The carriers are not public, but an operator may allow one (NAT64, on a network without IPv4).
 * That must not open a way round the IPv4 list: what is carried has to pass as well. */
static bool bytes_are_allowed(const uint8_t bytes[16], const struct network *allow, size_t count)
{
    uint8_t carried[16];

    if (!any_has(allow, count, bytes))
        return bytes_are_public(bytes);
    if (!take_carried(bytes, carried))
        return true;
    return any_has(allow, count, carried) || bytes_are_public(carried);
}

static bool take_bytes(const struct sockaddr *address, uint8_t out[16])
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (address->sa_family == AF_INET) {
        memcpy(&v4, address, sizeof(v4));
        map_v4(&v4.sin_addr, out);
        return true;
    }
    if (address->sa_family == AF_INET6) {
        memcpy(&v6, address, sizeof(v6));
        memcpy(out, &v6.sin6_addr, 16);
        return true;
    }
    return false;
}

bool address_is_allowed(const struct sockaddr *address, const struct network *allow, size_t count)
{
    uint8_t bytes[16];

    return take_bytes(address, bytes) && bytes_are_allowed(bytes, allow, count);
}

bool networks_have(const struct network *networks, size_t count, const struct sockaddr *address)
{
    uint8_t bytes[16];

    return take_bytes(address, bytes) && any_has(networks, count, bytes);
}

/* Clears what lies past the network's bits, so that "10.1.2.3/8" means 10.0.0.0/8. */
static void clear_host_bits(struct network *network)
{
    for (int i = 0; i < 16; i++) {
        int kept = network->bits - 8 * i;

        if (kept < 8)
            network->bytes[i] &= kept > 0 ? (uint8_t)(0xff << (8 - kept)) : 0;
    }
}

static bool parse_bits(const char *slash, int most, int *bits)
{
    int64_t number;

    *bits = most;
    if (!slash)
        return true;
    if (!str_to_i64(slash + 1, strlen(slash + 1), &number) || number < 0 || number > most)
        return false;
    *bits = (int)number;
    return true;
}

bool network_parse(const char *text, struct network *out, struct err *err)
{
    struct network network = {.bits = 0};
    char host[INET6_ADDRSTRLEN] = "";
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    uint8_t four[4];
    int bits;
    bool ok = false;

    if (len < sizeof(host))
        memcpy(host, text, len);
    if (inet_pton(AF_INET, host, four) == 1) {
        map_v4(four, network.bytes);
        ok = parse_bits(slash, 32, &bits);
        bits += 96;
    } else if (inet_pton(AF_INET6, host, network.bytes) == 1) {
        ok = parse_bits(slash, 128, &bits);
    }
    if (!ok)
        return err_set(err, "network \"%s\": expected an IP address, or ADDRESS/BITS", text);
    network.bits = bits;
    clear_host_bits(&network);
    *out = network;
    return true;
}

enum { HOST_MAX = 255 };

/* inet_aton takes all the classic notations, but also anything after a space. */
static bool take_v4_literal(const char *host, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};

    if (host[strspn(host, "0123456789abcdefABCDEFxX.")] || !inet_aton(host, &v4.sin_addr))
        return false;
    *out = (struct sockaddr_storage){.ss_family = AF_INET};
    memcpy(out, &v4, sizeof(v4));
    return true;
}

static bool take_v6_literal(char *host, struct sockaddr_storage *out)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    host[strcspn(host, "%")] = '\0'; /* a zone ("%eth0") does not make it a name */
    if (inet_pton(AF_INET6, host, &v6.sin6_addr) != 1)
        return false;
    *out = (struct sockaddr_storage){.ss_family = AF_INET6};
    memcpy(out, &v6, sizeof(v6));
    return true;
}

bool address_from_literal(const char *host, struct sockaddr_storage *out)
{
    char copy[HOST_MAX + 1];
    size_t len = strlen(host);

    if (len == 0 || len > HOST_MAX)
        return false;
    if (host[0] == '[' && host[len - 1] == ']') {
        memcpy(copy, host + 1, len - 1);
        copy[len - 2] = '\0';
        return take_v6_literal(copy, out);
    }
    memcpy(copy, host, len + 1);
    if (strchr(copy, ':'))
        return take_v6_literal(copy, out);
    if (len > 1 && copy[len - 1] == '.')
        copy[len - 1] = '\0'; /* "127.0.0.1." is the same place */
    return take_v4_literal(copy, out);
}
