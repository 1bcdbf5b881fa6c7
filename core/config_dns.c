/* SPDX-License-Identifier: Apache-2.0
 *
 * The kinds of values that only the groups `dns` and `queue.redis` have. Pure.
 */
#include "core/base/assert.h"
#include "core/base/server_address.h"
#include "core/config_table.h"

enum {
	FORWARDERS_MAX = 8,
	DOMAINS_MAX = 6,
	SERVERS_MAX = 64,
	DNS_PORT = 53,
};

static bool
refuse_memory(struct buf *why)
{
	return value_refuse(why, span_none(), "does not fit in memory; shorten the file");
}

/* "192.0.2.53", "2001:db8::53", each with @port behind it or not. */
static bool
parse_forwarder(struct span text, struct net_address *out)
{
	size_t at = span_find(text, '@', 0);
	struct span port_text = span_after(text, at + 1);
	uint64_t port = DNS_PORT;
	struct ip ip;
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (!ip_parse(span_first(text, at), &ip) ||
	    (at < text.size && !span_to_u64(port_text, &port)) || port == 0 || port > UINT16_MAX)
		return false;
	if (memcmp(ip.bytes, mapped, sizeof mapped) == 0)
		net_address_of_ip(ip.bytes + 12, 4, (uint16_t)port, out);
	else
		net_address_of_ip(ip.bytes, 16, (uint16_t)port, out);
	return true;
}

bool
forwarders_parse(const struct span *items, size_t count, struct arena *arena,
		 struct config_forwarders *out, struct buf *why, size_t *bad)
{
	*out = (struct config_forwarders){ 0 };
	if (count == 1 && span_eq(items[0], SPAN("none")))
		return true;
	if (count == 1 && span_eq(items[0], SPAN("auto"))) {
		out->is_auto = true;
		return true;
	}
	if (count == 0 || count > FORWARDERS_MAX)
		return value_refuse(why, span_none(),
				    "has no resolver or more than 8; write auto, none, or 1 to 8");
	struct net_address *list = arena_take(arena, count * sizeof *list);
	if (list == NULL)
		return refuse_memory(why);
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (!parse_forwarder(items[i], &list[i]))
			return value_refuse(why, items[i],
					    "is no address of a resolver; write one such as "
					    "192.0.2.53 or \"2001:db8::53@5353\"");
	}
	out->items = list;
	out->count = count;
	return true;
}

void
forwarders_print(const struct config_forwarders *f, struct buf *out)
{
	if (f->is_auto || f->count == 0)
		buf_append_string(out, f->is_auto ? "auto" : "none");
	for (size_t i = 0; i < f->count; i++) {
		uint16_t port = f->items[i].head.port_network_order;
		buf_append_string(out, i == 0 ? "[\"" : ", \"");
		net_address_show_ip(&f->items[i], out);
		buf_printf(out, "@%u\"", (unsigned)(uint16_t)(port >> 8 | port << 8));
	}
	buf_append_string(out, f->count > 0 ? "]" : "");
}

bool
forwarders_eq(const struct config_forwarders *a, const struct config_forwarders *b)
{
	if (a->is_auto != b->is_auto || a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (!net_address_eq(&a->items[i], &b->items[i]))
			return false;
	}
	return true;
}

static bool
is_server(struct span text)
{
	struct server_address a;

	return server_address_parse(text, &a) && a.host.size > 0;
}

static const struct span *
domains_of(const struct option *o, const void *base, size_t *count)
{
	const struct span *items;

	memcpy(&items, (const char *)base + o->offset, sizeof items);
	memcpy(count, (const char *)base + o->count_offset, sizeof *count);
	return items;
}

bool
domains_parse(const struct option *o, const struct span *items, size_t count, struct arena *arena,
	      void *base, struct buf *why, size_t *bad)
{
	if (o->kind == OPTION_DOMAINS && count > DOMAINS_MAX)
		return value_refuse(why, span_none(), "has more than 6 domains; shorten the list");
	if (o->kind == OPTION_SERVERS && count > SERVERS_MAX)
		return value_refuse(why, span_none(), "has more than 64 servers; shorten the list");
	struct span *copies = arena_take(arena, (count + 1) * sizeof *copies);
	if (copies == NULL)
		return refuse_memory(why);
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (o->kind == OPTION_SERVERS && !is_server(items[i]))
			return value_refuse(why, items[i],
					    "is no server; write one such as redis-1:6379, "
					    "192.0.2.1:6379 or \"[2001:db8::1]:6379\"");
		if (o->kind == OPTION_DOMAINS && !value_is_domain(items[i], false))
			return value_refuse(
				why, items[i],
				"is no domain; write one such as example.org, without a dot at "
				"its beginning or end");
		copies[i] = arena_copy(arena, items[i]);
		if (copies[i].data == NULL)
			return refuse_memory(why);
	}
	const struct span *list = copies;
	memcpy((char *)base + o->offset, &list, sizeof list);
	memcpy((char *)base + o->count_offset, &count, sizeof count);
	return true;
}

void
domains_print(const struct option *o, const void *base, struct buf *out)
{
	size_t count;
	const struct span *items = domains_of(o, base, &count);

	buf_append_byte(out, '[');
	for (size_t i = 0; i < count; i++) {
		buf_append_string(out, i == 0 ? "\"" : ", \"");
		buf_append_json(out, items[i], SIZE_MAX);
		buf_append_byte(out, '"');
	}
	buf_append_byte(out, ']');
}

bool
domains_eq(const struct option *o, const void *a, const void *b)
{
	size_t counts[2];
	const struct span *left = domains_of(o, a, &counts[0]);
	const struct span *right = domains_of(o, b, &counts[1]);

	if (counts[0] != counts[1])
		return false;
	for (size_t i = 0; i < counts[0]; i++) {
		if (!span_eq(left[i], right[i]))
			return false;
	}
	return true;
}
