/* SPDX-License-Identifier: Apache-2.0 */
/* TLS under a server connection, or nothing. */
#ifndef COMMON_IO_HTTP_TLS_H
#define COMMON_IO_HTTP_TLS_H

#include <stdbool.h>

#include "common/base/err.h"

struct bufferevent;
struct event_base;
struct ssl_ctx_st;

/* TLS 1.2 or newer with that certificate chain and key (PEM files).  NULL with err. */
struct ssl_ctx_st *http_tls_new(const char *certificate, const char *key,
                                struct err *err) MUST_CHECK;
void http_tls_free(struct ssl_ctx_st *tls);

/* A bufferevent over the connected socket fd that closes it when freed; plain when tls is NULL.
 * NULL when there is no memory; fd is then still open. */
struct bufferevent *http_tls_accept(struct event_base *base, struct ssl_ctx_st *tls, int fd);

bool http_tls_is_on(struct bufferevent *bev);
/* Tells a TLS peer that nothing more comes (close_notify); does nothing on a plain one. */
void http_tls_shutdown(struct bufferevent *bev);

#endif
