/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server behind TLS: handshake, requests, half-close, and what is not TLS. */
#include "tests/unit/http_fixture.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static char certificate[] = "/tmp/nightshift-test-cert-XXXXXX";
static char key_file[] = "/tmp/nightshift-test-key-XXXXXX";

static X509 *self_signed(EVP_PKEY *key)
{
    X509 *cert = X509_new();

    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

static int write_certificate(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = self_signed(key);
    FILE *out = fdopen(mkstemp(certificate), "w");

    (void)state;
    PEM_write_X509(out, cert);
    fclose(out);
    out = fdopen(mkstemp(key_file), "w");
    PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    fclose(out);
    X509_free(cert);
    EVP_PKEY_free(key);
    return 0;
}

static int remove_certificate(void **state)
{
    (void)state;
    unlink(certificate);
    unlink(key_file);
    return 0;
}

static void on_done(struct http_request *request, const char *data, size_t len, void *arg)
{
    (void)arg;
    http_reply(request, 200, "text/plain", data, len);
}

static void on_half_close(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    (void)request;
    fixture->half_closes++;
}

static void handle(struct http_request *request, void *arg)
{
    struct fixture *fixture = arg;

    fixture->handled++;
    if (str_equal(http_path(request), "/hold")) {
        fixture->held = request;
        http_on_half_close(request, on_half_close, fixture);
    } else {
        http_read_body(request, 1 << 20, on_done, NULL);
    }
}

static struct fixture *tls_fixture(const struct http_limits *limits)
{
    struct http_server_options options = {
        .handler = handle, .tls_certificate = certificate, .tls_key = key_file};

    if (limits)
        options.limits = *limits;
    return fixture_new_with(options);
}

struct tls_client {
    struct client plain; /* its fd, and what was decrypted */
    SSL_CTX *ctx;
    SSL *ssl;
};

static struct tls_client tls_open(struct fixture *fixture)
{
    struct tls_client client = {.plain = client_open(fixture),
                                .ctx = SSL_CTX_new(TLS_client_method())};

    client.ssl = SSL_new(client.ctx);
    SSL_set_alpn_protos(client.ssl, (const unsigned char *)"\x02h2\x08http/1.1", 12);
    SSL_set_fd(client.ssl, client.plain.fd);
    SSL_set_connect_state(client.ssl);
    return client;
}

static void tls_close(struct tls_client *client)
{
    SSL_free(client->ssl);
    SSL_CTX_free(client->ctx);
    client_close(&client->plain);
}

static bool tls_read(struct tls_client *client)
{
    char chunk[4096];
    int n;

    while ((n = SSL_read(client->ssl, chunk, sizeof(chunk))) > 0)
        buf_append(&client->plain.in, chunk, (size_t)n);
    client->plain.is_eof = SSL_get_error(client->ssl, n) == SSL_ERROR_ZERO_RETURN;
    return client->plain.is_eof;
}

static void tls_puts(struct fixture *fixture, struct tls_client *client, const char *text)
{
    pump_until(fixture, NULL, SSL_write(client->ssl, text, (int)strlen(text)) > 0);
}

static void test_requests_over_tls_are_answered(void **state)
{
    struct fixture *fixture = tls_fixture(NULL);
    struct tls_client client = tls_open(fixture);
    const unsigned char *protocol;
    unsigned int len;

    (void)state;
    tls_puts(fixture, &client,
             "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
             "5\r\nworld\r\n0\r\n\r\n");
    pump_until(fixture, NULL, tls_read(&client));
    assert_true(client_has(&client.plain, "\r\n\r\nhelloHTTP/1.1 200"));
    assert_true(client_has(&client.plain, "connection: close\r\n\r\nworld"));
    SSL_get0_alpn_selected(client.ssl, &protocol, &len);
    assert_int_equal(len, 8);
    assert_memory_equal(protocol, "http/1.1", 8);
    tls_close(&client);
    fixture_free(fixture);
}

static void test_half_closed_tls_client_gets_its_answer(void **state)
{
    struct fixture *fixture = tls_fixture(NULL);
    struct tls_client client = tls_open(fixture);
    static char answer[1 << 20];

    (void)state;
    memset(answer, 'x', sizeof(answer));
    tls_puts(fixture, &client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, NULL, fixture->held);
    /* A large answer is under way when the client's close_notify comes. */
    http_start(fixture->held, 200, "text/plain");
    assert_true(http_write(fixture->held, answer, sizeof(answer)));
    SSL_shutdown(client.ssl);
    shutdown(client.plain.fd, SHUT_WR);
    pump_until(fixture, NULL, fixture->half_closes == 1);
    http_end(fixture->held);
    pump_until(fixture, NULL, tls_read(&client));
    assert_true(client.plain.in.len > sizeof(answer));
    assert_true(client_has(&client.plain, "\r\n0\r\n\r\n"));
    tls_close(&client);
    fixture_free(fixture);
}

static void test_handshake_that_never_comes_runs_out_of_time(void **state)
{
    struct http_limits limits = {.head_timeout_ms = 50};
    struct fixture *fixture = tls_fixture(&limits);
    struct client silent = client_open(fixture);
    struct client plain = client_open(fixture);

    (void)state;
    client_puts(fixture, &plain, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    pump_until(fixture, &plain, client_is_over(&plain));
    pump_until(fixture, &silent, client_is_over(&silent));
    assert_int_equal(fixture->handled, 0);
    client_close(&plain);
    client_close(&silent);
    fixture_free(fixture);
}

static void test_refused_connection_hears_so_through_tls(void **state)
{
    struct http_limits limits = {.max_connections = 1};
    struct fixture *fixture = tls_fixture(&limits);
    struct client first = client_open(fixture);
    struct tls_client second;

    (void)state;
    for (int i = 0; i < 5; i++)
        turn(fixture);
    second = tls_open(fixture);
    pump_until(fixture, NULL, tls_read(&second));
    assert_int_equal(status_of(second.plain.in.data), 503);
    tls_close(&second);
    client_close(&first);
    fixture_free(fixture);
}

static void test_certificate_that_is_missing_is_an_error(void **state)
{
    struct event_base *base = event_base_new();
    struct http_server_options options = {
        .handler = handle,
        .refuse = fixture_refuse,
        .tls_certificate = "/nonexistent/cert.pem",
        .tls_key = key_file,
    };
    struct err err = {{0}, {0}, {0}};

    (void)state;
    assert_null(http_server_new(base, &options, NULL, 0, &err));
    assert_non_null(strstr(err.message, "/nonexistent/cert.pem"));
    options.tls_certificate = certificate;
    options.tls_key = certificate;
    assert_null(http_server_new(base, &options, NULL, 0, &err));
    event_base_free(base);
}

static void test_bad_listen_addresses_are_errors(void **state)
{
    static const char *const bad[] = {"",           "8080",   "127.0.0.1",
                                      "127.0.0.1:", "::1:80", "1.2.3.4:99999x",
                                      ":65536",     ":-1",    "127.0.0.1:http"};
    struct err err = {{0}, {0}, {0}};
    char again[32];
    int port = 0;
    int fd;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(http_listen(bad[i], NULL, &err), -1);
    fd = http_listen(":0", &port, &err);
    assert_true(fd >= 0 && port > 0);
    snprintf(again, sizeof(again), "127.0.0.1:%d", port);
    assert_int_equal(http_listen(again, NULL, &err), -1);
    assert_non_null(strstr(err.message, again));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_over_tls_are_answered),
        cmocka_unit_test(test_half_closed_tls_client_gets_its_answer),
        cmocka_unit_test(test_handshake_that_never_comes_runs_out_of_time),
        cmocka_unit_test(test_refused_connection_hears_so_through_tls),
        cmocka_unit_test(test_certificate_that_is_missing_is_an_error),
        cmocka_unit_test(test_bad_listen_addresses_are_errors),
    };

    return cmocka_run_group_tests(tests, write_certificate, remove_certificate);
}
