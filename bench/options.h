/* SPDX-License-Identifier: Apache-2.0
 *
 * options: the command line of ringpost-bench, from the table options.def. Main thread.
 *
 * Every text points into argv. What is not understood is an error with the option and the remedy.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/client.h"
#include "core/base/buf.h"
#include "core/base/net_address.h"

enum { OPTIONS_TEXTS_MAX = 64 };

enum bench_command { BENCH_SOURCE, BENCH_SINK, BENCH_RUN, BENCH_REPORT };

struct bench_texts {
	const char *items[OPTIONS_TEXTS_MAX];
	unsigned count;
};

struct bench_addresses {
	struct net_address items[OPTIONS_TEXTS_MAX];
	unsigned count;
};

/* A field a kind. */
#define OPTION_FIELD_ADDRESS   struct net_address
#define OPTION_FIELD_ADDRESSES struct bench_addresses
#define OPTION_FIELD_COUNT     uint64_t
#define OPTION_FIELD_NUMBER    double
#define OPTION_FIELD_DURATION  uint64_t /* milliseconds */
#define OPTION_FIELD_TEXT      const char *
#define OPTION_FIELD_TEXTS     struct bench_texts
#define OPTION_FIELD_FLAG      bool

struct bench_options {
	enum bench_command command;
	struct net_address relay, proxy;
	struct bench_addresses sinks;
	uint64_t connections, messages, duration_ms, recipients, per_connection, domains,
		from_domains;
	uint64_t source_threads, sink_threads, sink_connections, timeout_ms;
	uint64_t baseline_ms, drain_ms, settle_ms, relay_pid, seed, interval_ms;
	double rate, zipf;
	const char *size, *corpus, *mode, *domain, *from, *hello;
	const char *tls, *login;
	const char *label, *scenario, *json, *out;
	struct bench_texts without, faults;
	bool bdat, lmtp;
	char **rest; /* what follows the options: a command to start, or files */
	unsigned rest_count;
	char **given; /* argv as it was */
	unsigned given_count;
};

/* -1: go on; else the exit status, after it has printed the help or the error. */
int options_parse(struct bench_options *o, int argc, char **argv);
/* What --mode says; false: no such word. */
bool options_mode(const struct bench_options *o, enum client_mode *out);
/* Calls on_option with the name and the value of each option of the command, as text. */
void options_show(const struct bench_options *o,
		  void (*on_option)(void *context, const char *name, const char *value),
		  void *context);

#endif
