/* SPDX-License-Identifier: Apache-2.0
 *
 * What a context of the library is told, of a worker or of a tool.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>

#include "core/base/assert.h"
#include "dns/context.h"
#include "dns/resolv_conf.h"

enum {
	SOCKETS_MIN = 16,
	SOCKETS_MAX = 512,
	STREAMS_MIN = 4,
	STREAMS_MAX = 32,
	CACHE_MIN = 256 * 1024,
	/* How long the library remembers that a server is down. With its own 15 minutes a lone
	 * forwarder that had been silent for 200 s was not asked again for over a minute after its
	 * return (measured with 1.17.1; 11 s with 30 s); a lower infra-cache-max-rtt, which looks
	 * like the remedy, makes it never ask again. */
	HOST_MEMORY_S = 30,
	TEXT_MAX = 300,
	RESOLV_CONF_SIZE = 64 * 1024,
	LINE_MAX_SIZE = 8192, /* of a file of anchors; RSA keys of 4096 bits take 700 */
};

struct context_share
context_share(const struct resolver_options *options, unsigned worker_count)
{
	struct context_share s = { .queries_max = options->queries_max / worker_count };

	ASSERT(worker_count > 0);
	if (s.queries_max == 0)
		s.queries_max = 1;
	/* What finds no socket free waits inside the library. */
	s.sockets = s.queries_max < SOCKETS_MIN   ? SOCKETS_MIN
		    : s.queries_max > SOCKETS_MAX ? SOCKETS_MAX
						  : s.queries_max;
	s.streams = s.sockets / 8 < STREAMS_MIN   ? STREAMS_MIN
		    : s.sockets / 8 > STREAMS_MAX ? STREAMS_MAX
						  : s.sockets / 8;
	s.cache_bytes = options->cache_bytes / 2 / worker_count;
	return s;
}

static bool
set(struct ub_ctx *c, const char *name, const char *value, struct buf *why)
{
	int failed = ub_ctx_set_option(c, name, value);

	if (failed != 0)
		buf_printf(why,
			   "libunbound does not take %s %s: %s; install libunbound8 of "
			   "Debian 12 or newer",
			   name, value, ub_strerror(failed));
	return failed == 0;
}

static bool
set_number(struct ub_ctx *c, const char *name, uint64_t value, struct buf *why)
{
	char text[24];

	snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	return set(c, name, text, why);
}

static bool
set_options(struct ub_ctx *c, const struct resolver_options *options,
	    const struct context_share *share, struct buf *why)
{
	uint64_t cache = share->cache_bytes < CACHE_MIN ? CACHE_MIN : share->cache_bytes;
	bool validates = options->trust_anchors != NULL;

	return set_number(c, "outgoing-range:", share->sockets, why) &&
	       set_number(c, "outgoing-num-tcp:", share->streams, why) &&
	       /* Ours is the bound; theirs would drop questions instead of letting them wait. */
	       set_number(c, "num-queries-per-thread:",
			  (ORPHANS_PER_PLACE + 2) * share->queries_max + 64, why) &&
	       set_number(c, "msg-cache-size:", cache / 3, why) &&
	       set_number(c, "rrset-cache-size:", cache / 3 * 2, why) &&
	       set_number(c, "key-cache-size:", cache / 8, why) &&
	       /* One thread uses a context. */
	       set(c, "msg-cache-slabs:", "1", why) && set(c, "rrset-cache-slabs:", "1", why) &&
	       set(c, "key-cache-slabs:", "1", why) && set(c, "infra-cache-slabs:", "1", why) &&
	       set(c, "module-config:", validates ? "validator iterator" : "iterator", why) &&
	       set(c, "trust-anchor-signaling:", "no", why) &&
	       /* Who wants another order shuffles by themselves; SPF takes the first ten names. */
	       set(c, "rrset-roundrobin:", "no", why) &&
	       set_number(c, "infra-host-ttl:", HOST_MEMORY_S, why) &&
	       set(c, "do-not-query-localhost:", "no", why);
}

/* A resolver of the site knows the names of its private networks; the roots do not, and the library
 * answers for them, as it should. */
static bool
set_forwarders(struct ub_ctx *c, const struct resolver_options *options, struct buf *why)
{
	for (unsigned i = 0; i < options->forwarder_count; i++) {
		char memory[TEXT_MAX];
		struct buf text = buf_of(memory, sizeof memory - 1);
		const struct net_address *a = &options->forwarders[i];

		net_address_show_ip(a, &text);
		buf_printf(&text, "@%u", (unsigned)ntohs(a->head.port_network_order));
		memory[text.size] = 0;
		if (ub_ctx_set_fwd(c, memory) != 0) {
			buf_printf(why,
				   "dns.forwarders: %s is none; write the address of a "
				   "resolver",
				   memory);
			return false;
		}
	}
	return options->forwarder_count == 0 || (set(c, "unblock-lan-zones:", "yes", why) &&
						 set(c, "insecure-lan-zones:", "yes", why));
}

/* The library takes any file as long as it can be opened, and fails at the first question. */
static bool
check_anchors(const char *path, struct buf *why)
{
	char line[LINE_MAX_SIZE];
	unsigned found = 0;
	FILE *f = fopen(path, "re");

	if (f == NULL) {
		buf_printf(why,
			   "dns.trust_anchors: %s: %s; install dns-root-data, name a file "
			   "that can be read, or write none",
			   path, strerror(errno));
		return false;
	}
	while (fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, ";\n")] = 0;
		found += strstr(line, "DS") != NULL || strstr(line, "DNSKEY") != NULL;
	}
	fclose(f);
	if (found == 0)
		buf_printf(why,
			   "dns.trust_anchors: %s has no DS and no DNSKEY record; name a file "
			   "such as /usr/share/dns/root.key, or write none",
			   path);
	return found > 0;
}

static bool
add_anchors(struct ub_ctx *c, const char *path, struct buf *why)
{
	if (path == NULL)
		return true;
	if (!check_anchors(path, why))
		return false;
	int failed = ub_ctx_add_ta_file(c, path);
	if (failed != 0)
		buf_printf(why, "dns.trust_anchors: %s: %s; name another file", path,
			   ub_strerror(failed));
	return failed == 0;
}

/* Last of all: this ends the configuration. */
static bool
add_zones(struct ub_ctx *c, const struct resolver_options *options, struct buf *why)
{
	for (unsigned i = 0; i < options->transparent_count; i++) {
		char zone[DNS_NAME_MAX + 1];
		struct span name = options->transparent[i];

		snprintf(zone, sizeof zone, "%.*s", SPAN_ARG(name));
		if (strcmp(zone, "localhost") == 0) {
			buf_printf(why,
				   "dns.special_zones: localhost is always this host; leave it "
				   "out");
			return false;
		}
		int failed = ub_ctx_zone_add(c, zone, "transparent");
		if (failed == 0)
			continue;
		buf_printf(why, "dns.special_zones: %s: %s; name a domain such as test", zone,
			   ub_strerror(failed));
		return false;
	}
	return true;
}

bool
context_configure(struct ub_ctx *c, const struct resolver_options *options,
		  const struct context_share *share, struct buf *why)
{
	return set_options(c, options, share, why) && set_forwarders(c, options, why) &&
	       add_anchors(c, options->trust_anchors, why) && add_zones(c, options, why);
}

void
context_forwarders(const struct resolver_options *options, struct resolver_options *own)
{
	FILE *f = options->forwarders_auto ? fopen(options->resolv_conf, "re") : NULL;
	char *text = f == NULL ? NULL : malloc(RESOLV_CONF_SIZE);

	*own = *options;
	if (text != NULL) {
		size_t size = fread(text, 1, RESOLV_CONF_SIZE, f);
		own->forwarder_count = resolv_conf_servers(span_of(text, size), own->forwarders,
							   DNS_FORWARDERS_MAX);
	}
	free(text);
	if (f != NULL)
		fclose(f);
}
