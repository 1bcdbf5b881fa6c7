/* SPDX-License-Identifier: Apache-2.0
 *
 * sink: catches mail: an SMTP or LMTP server that keeps nothing and misbehaves where it is told to.
 *
 * sink_start binds its addresses and runs a crew of threads (SO_REUSEPORT) until sink_stop. Each
 * connection is a struct conn with a `server` machine on it (bench/server.h, pure), whose faults
 * come from the rules (bench/fault.h). Arrivals go to the track, if there is one. A mail is counted
 * before its 250 is sent.
 *
 * Memory: a connection takes less than 1 KiB while nothing is held up; one that reads slowly or
 * answers late keeps what it has not looked at in a pooled buffer of 32 KiB; a stalled one drops
 * it, and more every ten seconds, to notice the client's end.
 */
#ifndef BENCH_SINK_H
#define BENCH_SINK_H

#include "bench/fault.h"
#include "bench/histogram.h"
#include "bench/track.h"
#include "core/base/buf.h"
#include "core/base/net_address.h"

enum { SINK_ADDRESSES_MAX = 16 };

struct sink_options {
	struct net_address addresses[SINK_ADDRESSES_MAX]; /* port 0: see sink_address */
	unsigned address_count;
	unsigned threads;
	unsigned connections_max; /* over all threads; beyond it they are closed as they come */
	bool lmtp;
	uint32_t offers;                  /* SERVER_OFFER_… bits, see bench/server.h */
	const struct fault_rules *faults; /* lent; NULL: none */
	uint64_t seed;                    /* of the faults by share */
};

struct sink_numbers {
	uint64_t connections; /* since the start */
	uint64_t open;        /* now */
	uint64_t mails;       /* taken with 250 */
	uint64_t recipients;  /* of these */
	uint64_t bytes;       /* of bodies */
	uint64_t faults;      /* rules that struck */
};

struct sink;

/* `track` may be NULL: then it only counts. NULL with a line in `why`. */
struct sink *sink_start(const struct sink_options *options, struct track *track, struct buf *why);
/* Closes all connections, joins the threads, frees. */
void sink_stop(struct sink *s);
/* Where it listens, with the port that the system has chosen where 0 was asked for. */
const struct net_address *sink_address(const struct sink *s, unsigned index);
/* Any thread, while it runs. */
void sink_count(const struct sink *s, struct sink_numbers *out);
/* Adds the end-to-end latencies of all its threads. */
void sink_latency(const struct sink *s, struct histogram_view *out);
uint64_t sink_cpu_us(const struct sink *s);

#endif
