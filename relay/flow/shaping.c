/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/shaping.h"

#include "relay/flow/routing.h"

struct provider {
	const char *mx;
	uint32_t connections;
	uint32_t connections_first;
	uint32_t mails_per_connection;
	uint32_t recipients_max;
};

static const struct provider providers[] = {
#define PROVIDER(mx, connections, first, mails, recipients) \
	{ mx, connections, first, mails, recipients },
#include "relay/flow/providers.def"
#undef PROVIDER
};

static bool
is_below(struct span host, struct span name)
{
	if (host.size < name.size)
		return false;
	size_t front = host.size - name.size;
	return span_eq_nocase(span_after(host, front), name) &&
	       (front == 0 || host.data[front - 1] == '.');
}

bool
shaping_covers(struct span name, struct span site)
{
	size_t begin = 0;

	site = plan_hosts_of_name(site);
	for (size_t i = 0; i <= site.size; i++) {
		if (i < site.size && site.data[i] != '=' && site.data[i] != ',')
			continue;
		if (!is_below(span_first(span_after(site, begin), i - begin), name))
			return false;
		begin = i + 1;
	}
	return site.size > 0;
}

static const struct config_site *
row_of(const struct config *c, struct span site)
{
	const struct config_site *best = NULL;

	for (size_t i = 0; i < c->sites_count; i++) {
		const struct config_site *row = &c->sites[i];
		if ((best == NULL || row->mx.size > best->mx.size) && shaping_covers(row->mx, site))
			best = row;
	}
	return best;
}

static const struct provider *
provider_of(struct span site)
{
	for (size_t i = 0; i < sizeof providers / sizeof providers[0]; i++) {
		if (shaping_covers(span_of_string(providers[i].mx), site))
			return &providers[i];
	}
	return NULL;
}

static uint32_t
least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

struct shaping
shaping_of(const struct routing *r, bool by_mx, struct span site)
{
	const struct config *c = r->config;
	const struct config_delivery *d = &c->delivery;
	struct shaping s = {
		.connections = routing_connections(r, by_mx ? SPAN("mx") : site),
		.connections_first = d->connections_first,
		.mails_per_connection = d->mails_per_connection,
		.recipients_max = d->recipients_max,
		.idle_ms = d->idle_ms,
		.source = SPAN("route"),
	};

	if (!by_mx) {
		/* The operator's own next hop: its limit is meant. */
		s.connections_first = s.connections;
		s.shared = true;
		return s;
	}
	const struct config_site *row = row_of(c, site);
	if (row != NULL) {
		return (struct shaping){
			.connections = row->connections,
			.connections_first = row->connections_first,
			.mails_per_connection = row->mails_per_connection,
			.recipients_max = row->recipients_max,
			.idle_ms = row->idle_ms,
			.rate = row->rate,
			.shared = true,
			.source = row->mx,
		};
	}
	const struct provider *p = provider_of(site);
	if (p != NULL) {
		s.connections = least(p->connections, s.connections);
		s.connections_first = p->connections_first;
		s.mails_per_connection = least(p->mails_per_connection, s.mails_per_connection);
		s.recipients_max = least(p->recipients_max, s.recipients_max);
		s.source = span_of_string(p->mx);
	}
	return s;
}
