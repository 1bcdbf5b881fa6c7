/* SPDX-License-Identifier: Apache-2.0
 *
 * http: /metrics, /healthz and /readyz for Prometheus and load balancers, read-only, over
 * libmicrohttpd on a thread of its own. It reads the metrics blocks of all threads (metric.h allows
 * it at any time) and asks the control thread's flags; it never touches a worker.
 *
 *   /healthz  200 while every worker has turned within the last 10 s, else 503
 *   /readyz   200 while mail is taken, 503 while starting, draining or unable to keep mail; says
 *             how many mails lie in the fallback of a shared queue
 */
#ifndef RELAY_CONTROL_HTTP_H
#define RELAY_CONTROL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/metric.h"
#include "core/net.h"

struct http;

struct http_source {
	const struct metrics *const *blocks;
	size_t block_count;
	/* Called on the HTTP thread. */
	bool (*is_healthy)(void *context);
	enum err (*readiness)(void *context); /* ERR_OK: it takes mail; else why not */
	/* Mails for which this node is needed where it should not be; 0: it is disposable, or is
	 * not meant to be. */
	uint64_t (*kept_mails)(void *context);
	void (*before_metrics)(void *context);
	void *context;
};

/* Binds and serves; the socket is bound before it returns. NULL with a line in `why`. */
struct http *http_start(const struct net_address *address, const struct http_source *source,
			struct buf *why);
void http_stop(struct http *h);

#endif
