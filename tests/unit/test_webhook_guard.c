/* SPDX-License-Identifier: Apache-2.0 */
/* The addresses that webhooks may connect to. */
#include "common/model/webhook_guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

static struct event_base *base;

static bool allows(struct webhook_guard *guard, const char *literal)
{
    struct sockaddr_storage address;

    assert_true(address_from_literal(literal, &address));
    return webhook_guard_allows((const struct sockaddr *)&address, guard);
}

static void test_hosts_are_found_in_every_form(void **state)
{
    static const struct {
        const char *text;
        const char *hosts[3];
    } cases[] = {
        {"postgresql://user:w@rd@db.example:5432/jobs?sslmode=require", {"db.example"}},
        {"postgres://10.0.0.1,10.0.0.2:5433/jobs", {"10.0.0.1", "10.0.0.2"}},
        {"postgresql://user@[2606:4700::1]:5432/jobs", {"2606:4700::1"}},
        {"postgresql:///jobs?host=/tmp", {NULL}},
        {"host=a.example,b.example port=5432 dbname=jobs", {"a.example", "b.example"}},
        {"redis://:word@cache.example:6379/0", {"cache.example"}},
        {"unix:///run/redis.sock", {NULL}},
        {"k1.example:9092,k2.example:9092,[2606:4700::2]:9092",
         {"k1.example", "k2.example", "2606:4700::2"}},
        {"127.0.0.1:9092", {"127.0.0.1"}},
        {"", {NULL}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char hosts[3][256];
        size_t count = webhook_guard_hosts(cases[i].text, hosts, 3);

        for (size_t k = 0; k < 3 && cases[i].hosts[k]; k++) {
            assert_true(k < count);
            assert_string_equal(hosts[k], cases[i].hosts[k]);
        }
        assert_true(count == 3 || !cases[i].hosts[count]);
    }
}

static void test_backends_are_no_targets_though_public(void **state)
{
    static const char *const backends[] = {"postgresql://8.8.8.8:5432/jobs", NULL,
                                           "8.8.4.4:9092,[2606:4700::2]:9092"};
    struct webhook_guard *guard = webhook_guard_new(base, NULL, 0, backends, 3);

    (void)state;
    assert_false(allows(guard, "8.8.8.8"));
    assert_false(allows(guard, "8.8.4.4"));
    assert_false(allows(guard, "::ffff:8.8.4.4"));
    assert_false(allows(guard, "2606:4700::2"));
    assert_true(allows(guard, "1.1.1.1"));
    assert_true(allows(guard, "2606:4700::3"));
    assert_false(allows(guard, "10.0.0.1"));
    webhook_guard_free(guard);
}

static void test_what_the_configuration_allows_is_allowed(void **state)
{
    static const char *const backends[] = {"127.0.0.1:9092"};
    struct network allow[2];
    struct webhook_guard *guard;

    (void)state;
    assert_true(network_parse("127.0.0.0/8", &allow[0], NULL));
    assert_true(network_parse("8.8.8.8", &allow[1], NULL));
    guard = webhook_guard_new(base, allow, 2, backends, 1);
    assert_true(allows(guard, "127.0.0.1"));
    assert_true(allows(guard, "8.8.8.8"));
    assert_false(allows(guard, "::1"));
    assert_false(allows(guard, "169.254.169.254"));
    webhook_guard_free(guard);
}

static void test_names_of_backends_are_looked_up(void **state)
{
    static const char *const backends[] = {"redis://localhost:6379"};
    struct webhook_guard *guard = webhook_guard_new(base, NULL, 0, backends, 1);

    (void)state;
    /* Loopback is refused anyway: what counts is that the lookup ends, or can be cut. */
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_false(allows(guard, "127.0.0.1"));
    webhook_guard_free(guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts_are_found_in_every_form),
        cmocka_unit_test(test_backends_are_no_targets_though_public),
        cmocka_unit_test(test_what_the_configuration_allows_is_allowed),
        cmocka_unit_test(test_names_of_backends_are_looked_up),
    };
    int failed;

    base = event_base_new();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    event_base_free(base);
    return failed;
}
