/* SPDX-License-Identifier: Apache-2.0 */
/* Webhook URLs: what is refused by its text alone. */
#include "common/model/webhook_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/job.h"

static const struct {
    const char *url;
    bool is_good;
} cases[] = {
    {"https://app.example/hook", true},
    {"http://app.example/hook?x=1&y=%20", true},
    {"https://app.example:8443/", true},
    {"https://app.example", true},
    {"HTTPS://APP.example/", true},
    {"https://8.8.8.8/hook", true},
    {"https://[2606:4700::1111]/hook", true},
    {"https://localhost.example/", true},
    {"https://xn--bcher-kva.example/", true},
    /* no URL for us */
    {"", false},
    {"app.example/hook", false},
    {"/hook", false},
    {"ftp://app.example/", false},
    {"file:///etc/passwd", false},
    {"gopher://app.example/", false},
    {"javascript:alert(1)", false},
    {"https://", false},
    {"https:///hook", false},
    {"https:/app.example/hook", false},
    {"https:\\\\app.example\\hook", false},
    {"https://app.example\\@10.0.0.1/", false},
    {"https://app example/", false},
    {"https://app.example/a b", false},
    {"https://app.example/\r\nx-evil: 1", false},
    {"https://app.example/\xc3\xa9", false},
    {"https://user@app.example/", false},
    {"https://user:word@app.example/", false},
    {"https://:word@app.example/", false},
    {"https://app.example:0/", false},
    {"https://app.example:65536/", false},
    {"https://app.example:http/", false},
    /* IPv4 in all its notations */
    {"http://127.0.0.1/", false},
    {"http://127.0.0.1:8080/hook", false},
    {"http://127.0.0.1./", false},
    {"http://127.1/", false},
    {"http://2130706433/", false},
    {"http://0x7f000001/", false},
    {"http://0x7f.1/", false},
    {"http://017700000001/", false},
    {"http://0177.0.0.1/", false},
    {"http://127.000.000.001/", false},
    {"http://%31%32%37.0.0.1/", false},
    {"http://0/", false},
    {"http://0.0.0.0/", false},
    {"http://10.0.0.1/", false},
    {"http://100.64.0.1/", false},
    {"http://100.100.100.200/", false},
    {"http://168.63.129.16/", false},
    {"http://169.254.169.254/latest/meta-data/", false},
    {"http://0xa9fea9fe/", false},
    {"http://2852039166/", false},
    {"http://172.16.0.1/", false},
    {"http://172.31.255.255/", false},
    {"http://172.32.0.1/", true},
    {"http://192.0.0.192/", false},
    {"http://192.168.1.1/", false},
    {"http://198.18.0.1/", false},
    {"http://224.0.0.1/", false},
    {"http://255.255.255.255/", false},
    /* IPv6 */
    {"http://[::1]/", false},
    {"http://[::]/", false},
    {"http://[0:0:0:0:0:0:0:1]/", false},
    {"http://[::127.0.0.1]/", false},
    {"http://[::ffff:127.0.0.1]/", false},
    {"http://[::ffff:7f00:1]/", false},
    {"http://[::ffff:169.254.169.254]/", false},
    {"http://[64:ff9b::7f00:1]/", false},
    {"http://[2002:7f00:1::]/", false},
    {"http://[2001:0:0:0:0:0:80ff:fffe]/", false},
    {"http://[2001:db8::1]/", false},
    {"http://[fc00::1]/", false},
    {"http://[fd00:ec2::254]/", false},
    {"http://[fe80::1]/", false},
    {"http://[fe80::1%25eth0]/", false},
    {"http://[fe80::1%eth0]/", false},
    {"http://[ff02::1]/", false},
    {"http://[::1/", false},
};

static void test_table_of_urls(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {.message = ""};
        bool is_good = webhook_url_check(cases[i].url, NULL, 0, "webhook.url", &err);

        if (is_good != cases[i].is_good)
            fail_msg("%s: %s (%s)", cases[i].url, is_good ? "taken" : "refused", err.message);
        if (!is_good) {
            assert_string_equal(err.code, "invalid_value");
            assert_string_equal(err.param, "webhook.url");
            assert_non_null(strstr(err.message, "webhook.url: "));
        }
    }
}

static void test_allowed_network_opens_only_itself(void **state)
{
    struct network allow;
    struct err err;

    (void)state;
    assert_true(network_parse("127.0.0.0/8", &allow, &err));
    assert_true(webhook_url_check("http://127.0.0.1:9/", &allow, 1, "url", &err));
    assert_true(webhook_url_check("http://2130706433/", &allow, 1, "url", &err));
    assert_true(webhook_url_check("http://[::ffff:127.0.0.1]/", &allow, 1, "url", &err));
    assert_false(webhook_url_check("http://[::1]/", &allow, 1, "url", &err));
    assert_false(webhook_url_check("http://10.0.0.1/", &allow, 1, "url", &err));
    assert_false(webhook_url_check("http://user@127.0.0.1/", &allow, 1, "url", &err));
}

static void test_length_has_a_limit(void **state)
{
    char url[URL_MAX + 2] = "https://app.example/";
    struct err err;

    (void)state;
    memset(url + strlen(url), 'a', sizeof(url) - 1 - strlen(url));
    url[URL_MAX + 1] = '\0';
    assert_false(webhook_url_check(url, NULL, 0, "url", &err));
    url[URL_MAX] = '\0';
    assert_true(webhook_url_check(url, NULL, 0, "url", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_urls),
        cmocka_unit_test(test_allowed_network_opens_only_itself),
        cmocka_unit_test(test_length_has_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
