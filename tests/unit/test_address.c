/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks reach public addresses only, whatever form the address takes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "common/base/address.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        memcpy(&storage, &v4, sizeof(v4));
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        memcpy(&storage, &v6, sizeof(v6));
    else
        fail_msg("not an address: %s", text);
    return storage;
}

static bool is_allowed(const char *text, const struct network *allow, size_t count)
{
    struct sockaddr_storage storage = address(text);

    return address_is_allowed((const struct sockaddr *)&storage, allow, count);
}

static const char *const special[] = {
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.88.99.0",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.255.255",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::ffff:169.254.169.254",
    "::ffff:0:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::1",
    "100::1",
    "2001::1",
    "2001:0:ffff::1",
    "2001:2::1",
    "2001:10::1",
    "2001:1ff:ffff::1",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "2002::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fdff::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "feff::1",
    "ff00::1",
    "ff02::1",
    "ffff::1",
    "1fff::1",
};

static void test_special_ranges_are_refused_at_both_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(special); i++) {
        if (is_allowed(special[i], NULL, 0))
            fail_msg("allowed: %s", special[i]);
    }
}

static void test_public_addresses_beside_them_are_allowed(void **state)
{
    static const char *const cases[] = {
        "1.0.0.0",          "8.8.8.8",        "9.255.255.255",   "11.0.0.0",
        "100.63.255.255",   "100.128.0.0",    "126.255.255.255", "128.0.0.0",
        "168.63.129.15",    "168.63.129.17",  "169.253.255.255", "169.255.0.0",
        "172.15.255.255",   "172.32.0.0",     "191.255.255.255", "192.0.1.0",
        "192.0.3.0",        "192.88.98.255",  "192.88.100.0",    "192.167.255.255",
        "192.169.0.0",      "198.17.255.255", "198.20.0.0",      "198.51.99.255",
        "198.51.101.0",     "203.0.112.255",  "203.0.114.0",     "223.255.255.255",
        "::ffff:8.8.8.8",   "2000::1",        "2001:200::1",     "2001:4860:4860::8888",
        "2001:db7:ffff::1", "2001:db9::1",    "2003::1",         "2606:4700::1111",
        "2a00::1",          "3ffe:ffff::1",   "3fff:1000::1",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (!is_allowed(cases[i], NULL, 0))
            fail_msg("refused: %s", cases[i]);
    }
}

static void test_other_families_are_refused(void **state)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/x"};
    struct network all;

    (void)state;
    assert_true(network_parse("::/0", &all, NULL));
    assert_false(address_is_allowed((const struct sockaddr *)&local, &all, 1));
}

static void test_allow_list_opens_just_its_networks(void **state)
{
    struct network allow[3];
    struct err err;

    (void)state;
    assert_true(network_parse("127.0.0.0/8", &allow[0], &err));
    assert_true(network_parse("::1", &allow[1], &err));
    assert_true(network_parse("10.1.0.0/20", &allow[2], &err));
    assert_true(is_allowed("127.0.0.1", allow, 3));
    assert_true(is_allowed("::ffff:127.9.9.9", allow, 3));
    assert_true(is_allowed("::1", allow, 3));
    assert_false(is_allowed("::2", allow, 3));
    assert_true(is_allowed("10.1.15.255", allow, 3));
    assert_false(is_allowed("10.1.16.0", allow, 3));
    assert_false(is_allowed("10.0.255.255", allow, 3));
    assert_false(is_allowed("64:ff9b::127.0.0.1", allow, 3));
    assert_true(is_allowed("8.8.8.8", allow, 3));
}

static void test_allowed_tunnels_do_not_lead_round_the_list(void **state)
{
    struct network allow[4];
    struct err err;

    (void)state;
    assert_true(network_parse("64:ff9b::/96", &allow[0], &err));
    assert_true(network_parse("2002::/16", &allow[1], &err));
    assert_true(network_parse("2001::/32", &allow[2], &err));
    assert_true(network_parse("10.0.0.0/8", &allow[3], &err));
    assert_true(is_allowed("64:ff9b::8.8.8.8", allow, 3));
    assert_false(is_allowed("64:ff9b::127.0.0.1", allow, 3));
    assert_false(is_allowed("64:ff9b::10.0.0.1", allow, 3));
    assert_true(is_allowed("64:ff9b::10.0.0.1", allow, 4));
    assert_true(is_allowed("2002:808:808::1", allow, 3));
    assert_false(is_allowed("2002:7f00:1::1", allow, 3));
    assert_true(is_allowed("2001::f7f7:f7f7", allow, 3));  /* 8.8.8.8 inverted */
    assert_false(is_allowed("2001::80ff:fffe", allow, 3)); /* 127.0.0.1 inverted */
}

static void test_networks_are_parsed(void **state)
{
    static const struct {
        const char *text;
        int bits;
        uint8_t first, last; /* bytes 0 and 15 */
    } cases[] = {
        {"127.0.0.1", 128, 0, 1},          {"10.1.2.3/8", 104, 0, 0}, {"1.2.3.255/25", 121, 0, 128},
        {"0.0.0.0/0", 96, 0, 0},           {"::1", 128, 0, 1},        {"::1/127", 127, 0, 0},
        {"fc00::/7", 7, 0xfc, 0},          {"ffff::/3", 3, 0xe0, 0},  {"::/0", 0, 0, 0},
        {"::ffff:1.2.3.4/128", 128, 0, 4},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct network network;
        struct err err;

        assert_true(network_parse(cases[i].text, &network, &err));
        assert_int_equal(network.bits, cases[i].bits);
        assert_int_equal(network.bytes[0], cases[i].first);
        assert_int_equal(network.bytes[15], cases[i].last);
    }
}

static void test_what_is_no_network_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "::/129",
        "::/x",
        "localhost",
        "10.0.0.0 /8",
        "0x7f.1/8",
        "fe80::1%eth0/64",
        "[::1]/128",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111/8",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct network network;
        struct err err = {.message = ""};

        assert_false(network_parse(cases[i], &network, &err));
        assert_non_null(strstr(err.message, "expected an IP address"));
    }
}

static void test_literals_in_any_notation_are_seen(void **state)
{
    static const struct {
        const char *host;
        const char *same_as;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1"},
        {"127.0.0.1.", "127.0.0.1"},
        {"127.1", "127.0.0.1"},
        {"127.0.1", "127.0.0.1"},
        {"0x7f000001", "127.0.0.1"},
        {"0X7F000001", "127.0.0.1"},
        {"0x7f.1", "127.0.0.1"},
        {"2130706433", "127.0.0.1"},
        {"017700000001", "127.0.0.1"},
        {"0177.0.0.1", "127.0.0.1"},
        {"0", "0.0.0.0"},
        {"8.8.8.8", "8.8.8.8"},
        {"::1", "::1"},
        {"[::1]", "::1"},
        {"[::ffff:127.0.0.1]", "::ffff:127.0.0.1"},
        {"fe80::1%eth0", "fe80::1"},
        {"[fe80::1%25eth0]", "fe80::1"},
        {"2001:DB8::1", "2001:db8::1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sockaddr_storage expected = address(cases[i].same_as);
        struct sockaddr_storage got;

        if (!address_from_literal(cases[i].host, &got))
            fail_msg("not seen: %s", cases[i].host);
        assert_memory_equal(&got, &expected,
                            got.ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                                     : sizeof(struct sockaddr_in6));
    }
}

static void test_names_are_not_literals(void **state)
{
    static const char *const cases[] = {
        "",   ".",    "localhost", "example.com", "1.2.3.4.5",     "4294967296",  "256.1.1.1",
        "0x", "abc",  "face.b00c", "127.0.0.1 x", "127.0.0.1\n",   "127.0.0.1..", "[",
        "[]", "[::1", "::1]",      "[127.0.0.1]", "[example.com]", ":",           "1:2",
        "%",  "[%]",  "-1",        "+1",
    };
    char long_host[300];
    struct sockaddr_storage got;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (address_from_literal(cases[i], &got))
            fail_msg("taken for a literal: %s", cases[i]);
    }
    memset(long_host, '0', sizeof(long_host));
    long_host[sizeof(long_host) - 1] = '\0';
    assert_false(address_from_literal(long_host, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_special_ranges_are_refused_at_both_ends),
        cmocka_unit_test(test_public_addresses_beside_them_are_allowed),
        cmocka_unit_test(test_other_families_are_refused),
        cmocka_unit_test(test_allow_list_opens_just_its_networks),
        cmocka_unit_test(test_allowed_tunnels_do_not_lead_round_the_list),
        cmocka_unit_test(test_networks_are_parsed),
        cmocka_unit_test(test_what_is_no_network_is_refused),
        cmocka_unit_test(test_literals_in_any_notation_are_seen),
        cmocka_unit_test(test_names_are_not_literals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
