/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/routing.h"

#include <stdlib.h>

#include "core/base/assert.h"

/* A refused body is read to its end so that the client sees our reply; this bounds the patience. */
enum { DISCARD_FACTOR = 2 };

static void
fill_options(struct routing *r)
{
	const struct config *c = r->config;
	uint32_t workers_mails = c->delivery.mails_per_connection;

	r->receiver = (struct receiver_options){
		.hostname = c->hostname,
		.size_max = c->limits.message_size_max,
		.discard_max = (uint64_t)c->limits.message_size_max * DISCARD_FACTOR,
		.recipients_max = c->limits.recipients_max,
		.mails_max = c->limits.mails_max,
		.errors_max = c->limits.errors_max,
		.junk_max = c->limits.junk_max,
		.line_max = (uint32_t)c->limits.command_size_max,
		.bare_newline = c->bare_newline == NEWLINE_NORMALIZE ? BODY_NORMALIZE : BODY_REJECT,
	};
	for (unsigned lmtp = 0; lmtp < 2; lmtp++) {
		r->sender[lmtp] = (struct sender_options){
			.hello_name = c->hostname,
			.lmtp = lmtp == 1,
			.no_pipelining = !c->delivery.pipelining,
			.no_chunking = !c->delivery.chunking,
			.recipients_max = c->delivery.recipients_max,
			.mails_max = workers_mails,
			.piece_max = (uint32_t)c->delivery.chunk_size,
		};
	}
}

static enum site_kind
kind_of(enum config_target_kind kind)
{
	switch (kind) {
	case TARGET_SMTP:
		return SITE_SMTP;
	case TARGET_LMTP:
		return SITE_LMTP;
	case TARGET_DISCARD:
		return SITE_DISCARD;
	}
	return SITE_NOWHERE;
}

/* Routes to the same destination share the least of their limits. */
static void
set_limits(struct site_book *book, const struct routing *r)
{
	uint32_t least[SITES_MAX] = { 0 };

	for (size_t i = 0; i < r->config->routes_count; i++) {
		uint32_t number = r->route_sites[i].number;
		uint32_t limit = r->config->routes[i].connections;
		if (least[number] == 0 || limit < least[number])
			least[number] = limit;
	}
	for (uint32_t n = 0; n < SITES_MAX; n++) {
		if (least[n] != 0)
			site_book_set_limit(book, (struct site_id){ n }, least[n]);
	}
}

struct routing *
routing_new(struct site_book *book, const struct config *config, struct buf *why)
{
	struct routing *r = calloc(1, sizeof *r);
	size_t count = config->routes_count;

	if (r != NULL)
		r->route_sites = calloc(count + 1, sizeof *r->route_sites);
	if (r == NULL || r->route_sites == NULL) {
		buf_append_string(why, "out of memory for the routes");
		free(r);
		return NULL;
	}
	atomic_init(&r->references, 1);
	r->config = config_get(config);
	fill_options(r);
	for (size_t i = 0; i < count; i++) {
		const struct config_route *route = &config->routes[i];
		const struct site_info *info =
			site_book_intern(book, kind_of(route->to.kind), route->to.hosts,
					 (unsigned)route->to.hosts_count, route->to.text);
		if (info == NULL) {
			buf_printf(why,
				   "routes: more than %d destinations since the start; restart",
				   SITES_MAX);
			routing_put(r);
			return NULL;
		}
		r->route_sites[i] = info->id;
	}
	set_limits(book, r);
	return r;
}

struct routing *
routing_get(struct routing *r)
{
	atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
	return r;
}

void
routing_put(struct routing *r)
{
	/* Release and acquire: whoever frees has seen what every other holder did with it. */
	if (atomic_fetch_sub_explicit(&r->references, 1, memory_order_acq_rel) != 1)
		return;
	config_put(r->config);
	free(r->route_sites);
	free(r);
}

struct span
address_domain(struct span address)
{
	/* A quoted local part may hold an '@', a domain never does: the last one counts. */
	for (size_t i = address.size; i > 0; i--) {
		if (address.data[i - 1] == '@')
			return span_after(address, i);
	}
	return span_none();
}

struct site_id
routing_site(const struct routing *r, struct span address)
{
	struct span domain = address_domain(address);
	const struct config_route *route =
		config_route_find(r->config, domain.size == 0 ? r->config->hostname : domain);

	if (route == NULL)
		return (struct site_id){ 0 };
	return r->route_sites[route - r->config->routes];
}
