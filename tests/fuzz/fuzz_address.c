/* SPDX-License-Identifier: Apache-2.0 */
/* Every form of an address gets the same verdict, and no tunnel leads round it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(truth)          \
    do {                      \
        if (!(truth))         \
            __builtin_trap(); \
    } while (0)

static bool v4_allowed(const uint8_t four[4], const struct network *allow, size_t count)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};

    memcpy(&v4.sin_addr, four, 4);
    return address_is_allowed((const struct sockaddr *)&v4, allow, count);
}

static bool v6_allowed(const uint8_t bytes[16], const struct network *allow, size_t count)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    memcpy(&v6.sin6_addr, bytes, 16);
    return address_is_allowed((const struct sockaddr *)&v6, allow, count);
}

static void check_forms(const uint8_t bytes[16], const struct network *allow, size_t count)
{
    uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    uint8_t nat64[16] = {0x00, 0x64, 0xff, 0x9b};
    struct network all_nat64 = {.bits = 96};

    memcpy(mapped + 12, bytes + 12, 4);
    memcpy(nat64 + 12, bytes + 12, 4);
    memcpy(all_nat64.bytes, nat64, 12);
    CHECK(v4_allowed(bytes + 12, allow, count) == v6_allowed(mapped, allow, count));
    CHECK(!v6_allowed(nat64, NULL, 0));
    CHECK(v6_allowed(nat64, &all_nat64, 1) == v4_allowed(bytes + 12, NULL, 0));
    CHECK(!v6_allowed(bytes, NULL, 0) || v6_allowed(bytes, allow, count));
    if (v6_allowed(bytes, NULL, 0))
        CHECK((bytes[0] & 0xe0) == 0x20 || memcmp(bytes, mapped, 12) == 0);
}

static void check_text(const char *text, const uint8_t bytes[16])
{
    struct sockaddr_storage literal;
    struct network network;
    struct err err;

    if (network_parse(text, &network, &err)) {
        CHECK(network.bits >= 0 && network.bits <= 128);
        check_forms(bytes, &network, 1);
        check_forms(network.bytes, &network, 1);
    }
    if (address_from_literal(text, &literal)) {
        CHECK(literal.ss_family == AF_INET || literal.ss_family == AF_INET6);
        if (address_is_allowed((const struct sockaddr *)&literal, NULL, 0))
            CHECK(strncmp(text, "127.", 4) != 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size < 16)
        return 0;
    check_forms(data, NULL, 0);
    text = strndup((const char *)data + 16, size - 16);
    if (text)
        check_text(text, data);
    free(text);
    return 0;
}
