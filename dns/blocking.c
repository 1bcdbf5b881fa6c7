/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/blocking.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unbound.h>

#include "core/base/assert.h"
#include "dns/answer.h"
#include "dns/context.h"
#include "dns/name.h"
#include "dns/packet.h"

enum { CLASS_IN = 1, CACHE_BYTES = 4 << 20, QUERIES_MAX = 64 };

struct blocking {
	struct ub_ctx *context;
	struct packet packet;
};

struct waiting {
	bool is_done;
	int failed;
	struct ub_result *result;
};

/* Not of clock.h, which is the daemon's way to the machine. */
static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct blocking *
blocking_new(const struct resolver_options *options, struct buf *why)
{
	struct blocking *b = calloc(1, sizeof *b);
	struct resolver_options own;

	context_forwarders(options, &own);
	own.queries_max = QUERIES_MAX;
	own.cache_bytes = CACHE_BYTES;
	struct context_share share = context_share(&own, 1);
	if (b != NULL)
		b->context = ub_ctx_create();
	if (b == NULL || b->context == NULL) {
		buf_append_string(why, "no memory for a resolver");
		blocking_free(b);
		return NULL;
	}
	ub_ctx_debugout(b->context, NULL);
	if (context_configure(b->context, &own, &share, why)) {
		ub_ctx_async(b->context, 1); /* by a thread */
		return b;
	}
	blocking_free(b);
	return NULL;
}

void
blocking_free(struct blocking *b)
{
	if (b == NULL)
		return;
	if (b->context != NULL)
		ub_ctx_delete(b->context);
	free(b);
}

static void
on_result(void *context, int failed, struct ub_result *result)
{
	struct waiting *w = context;

	w->is_done = true;
	w->failed = failed;
	w->result = result;
}

static void
wait_for(struct blocking *b, const struct waiting *w, uint64_t until_ms)
{
	while (!w->is_done) {
		struct pollfd fd = { .fd = ub_fd(b->context), .events = POLLIN };
		uint64_t now = now_ms();

		if (now >= until_ms)
			return;
		uint64_t left = until_ms - now < INT32_MAX ? until_ms - now : INT32_MAX;
		if (poll(&fd, 1, (int)left) > 0)
			ub_process(b->context);
	}
}

static struct dns_answer *
make_answer(struct blocking *b, struct span name, enum dns_type type, const struct ub_result *r)
{
	struct answer_source from = {
		.name = name,
		.type = type,
		.rcode = (unsigned)r->rcode,
		.packet = span_of(r->answer_packet,
				  r->answer_packet == NULL ? 0 : (size_t)r->answer_len),
		.is_secure = r->secure,
		.is_bogus = r->bogus,
		.why_bogus = span_of_string(r->why_bogus),
	};

	return answer_read(&from, now_ms(), &b->packet);
}

struct dns_answer *
blocking_ask(struct blocking *b, struct span name, enum dns_type type, uint64_t until_ms)
{
	char text[DNS_NAME_MAX + 1];
	struct span normal = span_of(text, name_normalize(name, text));
	struct waiting w = { 0 };
	int id = 0;

	if (normal.size == 0)
		return answer_without(DNS_NO_DOMAIN, span_none(), SPAN("is no name"), 0);
	int failed = ub_resolve_async(b->context, text, (int)type, CLASS_IN, &w, on_result, &id);
	if (failed == 0)
		wait_for(b, &w, until_ms);
	if (failed == 0 && !w.is_done) {
		ub_cancel(b->context, id);
		return answer_without(DNS_FAILED, normal, SPAN("no answer in time"), 0);
	}
	if (failed == 0)
		failed = w.failed;
	if (failed != 0)
		return answer_without(DNS_FAILED, normal, span_of_string(ub_strerror(failed)), 0);
	struct dns_answer *a = make_answer(b, normal, type, w.result);
	ub_resolve_free(w.result);
	return a;
}
