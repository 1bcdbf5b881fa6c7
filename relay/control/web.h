/* SPDX-License-Identifier: Apache-2.0
 *
 * web: one thread for what would block the control thread: HTTPS requests (libcurl's multi
 * interface) and the writing of small files.
 *
 * Requests go to the addresses that the job names and to no other: libcurl never asks the DNS, so
 * that the relay's own resolver, with its forwarders and its validation, is the only one. The
 * server must show a certificate for the URL's host that leads to a trusted CA. No redirect is
 * followed, no proxy used, nothing cached, no connection used twice; a job has one limit for its
 * time, and one for the size of what comes back.
 *
 * Files are replaced whole (core/file.h).
 *
 * A job is embedded in its owner and the thread's from web_submit() to on_done, which runs on the
 * control thread through its mailbox (the place for it was reserved before). At most WEB_JOBS_MAX
 * are under way; the owners keep their own lines.
 */
#ifndef RELAY_CONTROL_WEB_H
#define RELAY_CONTROL_WEB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/base/net_address.h"
#include "core/mailbox.h"
#include "core/worker.h"

struct web;

enum { WEB_JOBS_MAX = 64, WEB_TYPE_MAX = 128, WEB_WHY_MAX = 256, WEB_ADDRESSES_MAX = 16 };

enum web_kind { WEB_GET, WEB_POST, WEB_SAVE };

enum web_outcome {
	WEB_OK,              /* there was an answer, whatever its status; or the file is written */
	WEB_UNREACHABLE,     /* nobody there, or the connection broke */
	WEB_BAD_CERTIFICATE, /* expired, for another name, of nobody who is trusted */
	WEB_TIMED_OUT,
	WEB_TOO_BIG,
	WEB_FAILED, /* no memory, or the file cannot be written */
};

struct web_job {
	struct message message;
	struct list_node link;
	void (*on_done)(struct web_job *j); /* on the control thread */
	enum web_kind kind;

	/* What is wanted; lent. */
	const char *url;  /* https://host[:port]/path */
	const char *host; /* of the URL */
	uint16_t port;
	struct net_address addresses[WEB_ADDRESSES_MAX]; /* of the host */
	unsigned address_count;
	const char *ca_file; /* NULL: those that the system trusts */
	uint64_t timeout_ms;
	struct span body;         /* POST, SAVE */
	const char *content_type; /* POST */
	const char *path;         /* SAVE */

	/* What came of it. */
	enum web_outcome outcome;
	unsigned status;                    /* of HTTP */
	char content_type_in[WEB_TYPE_MAX]; /* "" where it has none */
	struct buf text;       /* memory of the owner; what does not fit is WEB_TOO_BIG */
	char why[WEB_WHY_MAX]; /* where it is not WEB_OK: in words */

	/* The thread's. */
	struct web *web;
	void *easy;
	void *headers;
	void *resolve;
	char error[WEB_WHY_MAX];
};

/* Main thread, before any other uses libcurl. NULL with a line in `why`. */
struct web *web_start(struct worker *control, struct buf *why);
/* No job is under way any more. */
void web_stop(struct web *w);
/* On the control thread. False: WEB_JOBS_MAX are under way. */
bool web_submit(struct web *w, struct web_job *j);
/* Requests end at once, as WEB_FAILED, those that are under way and those that come; files are
 * still written. */
void web_cut(struct web *w);
unsigned web_under_way(const struct web *w);

#endif
