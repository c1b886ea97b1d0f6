/* SPDX-License-Identifier: Apache-2.0 */
/* TLS under a server connection, or nothing. */
#include "common/io/http_tls.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

static bool tls_err(struct err *err, const char *what, const char *file)
{
    char reason[160];

    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    ERR_clear_error();
    return err_set(err, "%s %s: %s", what, file, reason);
}

/* A client that offers h2 as well must be told which one it got. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    for (unsigned int i = 0; i < in_len; i += in[i] + 1u) {
        if (in[i] == ours[0] && i + 9 <= in_len && memcmp(in + i, ours, 9) == 0) {
            *out = in + i + 1;
            *out_len = 8;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static bool tls_load(SSL_CTX *tls, const char *certificate, const char *key, struct err *err)
{
    if (!key)
        return err_set(err, "TLS certificate %s: no key file is given with it", certificate);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1)
        return tls_err(err, "read TLS certificate", certificate);
    if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        return tls_err(err, "read TLS key", key);
    if (SSL_CTX_check_private_key(tls) != 1)
        return tls_err(err, "the TLS certificate does not belong to key", key);
    return true;
}

struct ssl_ctx_st *http_tls_new(const char *certificate, const char *key, struct err *err)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

    if (!tls) {
        tls_err(err, "set up TLS with", certificate);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS); /* an idle connection keeps no 34 KiB */
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    if (tls_load(tls, certificate, key, err))
        return tls;
    SSL_CTX_free(tls);
    return NULL;
}

void http_tls_free(struct ssl_ctx_st *tls)
{
    SSL_CTX_free(tls);
}

struct bufferevent *http_tls_accept(struct event_base *base, struct ssl_ctx_st *tls, int fd)
{
    /* Deferred: a callback never runs inside a call of ours. */
    int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    struct bufferevent *bev;
    SSL *ssl;

    if (!tls)
        return bufferevent_socket_new(base, fd, options);
    ssl = SSL_new(tls);
    if (!ssl)
        return NULL;
    bev = bufferevent_openssl_socket_new(base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, options);
    if (!bev) {
        SSL_free(ssl);
        return NULL;
    }
    /* Our framing tells where a message ends; a missing close_notify cuts nothing unseen. */
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

bool http_tls_is_on(struct bufferevent *bev)
{
    return bufferevent_openssl_get_ssl(bev) != NULL;
}

void http_tls_shutdown(struct bufferevent *bev)
{
    SSL *ssl = bufferevent_openssl_get_ssl(bev);

    if (ssl && SSL_is_init_finished(ssl)) {
        SSL_shutdown(ssl);
        ERR_clear_error();
    }
}
