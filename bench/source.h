/* SPDX-License-Identifier: Apache-2.0
 *
 * source: loads a server with mails over many connections and learns what becomes of each.
 *
 * Closed loop: each connection offers its next mail as soon as it has room for one. Open loop (rate
 * above 0): mail i is to be offered at its time, by any connection that has room; where none has,
 * it waits, and its latency counts from the time it should have been offered, so that a slow server
 * cannot hide its latency by being offered less. A connection that ends is opened again while mails
 * are to be offered; no mail is sent twice.
 *
 * source_start runs a crew of threads, which end by themselves when all mails have been offered and
 * answered, or the time is over; source_is_done tells. source_cut asks them to offer no more.
 */
#ifndef BENCH_SOURCE_H
#define BENCH_SOURCE_H

#include "bench/client.h"
#include "bench/histogram.h"
#include "bench/letter.h"
#include "bench/track.h"
#include "core/base/net_address.h"
#include "tls/tls.h"

enum { SOURCE_REASONS_MAX = 16, SOURCE_REASON_SIZE = 160 };

enum source_tls { SOURCE_PLAIN, SOURCE_STARTTLS, SOURCE_IMPLICIT };

struct source_options {
	struct net_address relay;
	enum source_tls tls;
	struct tls_setup *tls_setup; /* lent; NULL where all is plain */
	unsigned threads;
	unsigned connections; /* over all threads */
	uint32_t recipients;  /* of each mail */
	uint64_t duration_us; /* offer so long; 0: until the track's table is full */
	double rate;          /* mails a second over all threads; 0: closed loop */
	uint64_t timeout_ms;  /* for any reply, that to QUIT too */
	uint64_t seed;
	struct client_options client;  /* of every connection */
	uint32_t sender_domains;       /* of client.sender, dN. in front; 1: as it is */
	struct net_address proxy;      /* told as the client's address; size 0: no PROXY header */
	const struct letters *letters; /* lent, like domains */
	const struct domains *domains;
};

/* Why mails were not taken or connections failed: a text for people and how often. */
struct source_reason {
	uint64_t count;
	char text[SOURCE_REASON_SIZE];
};

struct source_numbers {
	uint64_t connections; /* that were up */
	uint64_t connection_errors;
	uint64_t bytes;       /* of messages offered */
	uint64_t not_offered; /* open loop: mails whose time had come before the offering ended */
	uint64_t first_offer_us, last_reply_us; /* clock_monotonic_us; 0: none */
};

struct source;

/* NULL with a line in `why`. */
struct source *source_start(const struct source_options *options, struct track *track,
			    struct buf *why);
bool source_is_done(const struct source *s);
void source_cut(struct source *s);
/* Closes what is left, joins the threads; the numbers stay until source_free. */
void source_stop(struct source *s);
void source_free(struct source *s);

/* Any thread, at any time. */
void source_count(const struct source *s, struct source_numbers *out);
/* Adds the latencies from offer (or the time it was due) to the reply to the end of data. */
void source_latency(const struct source *s, struct histogram_view *out);
uint64_t source_cpu_us(const struct source *s);
/* After source_stop: reasons, most frequent first. Returns how many. */
unsigned source_reasons(const struct source *s, struct source_reason out[SOURCE_REASONS_MAX]);

#endif
