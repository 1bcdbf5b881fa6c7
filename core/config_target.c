/* SPDX-License-Identifier: Apache-2.0
 *
 * The value of a route's `to`. Pure.
 */
#include "core/base/assert.h"
#include "core/config_table.h"

enum {
	HOSTS_MAX = 64,
	HOST_TEXT_MAX = 160, /* scheme and the longest address */
};

/* "10.0.0.1:25", "[::1]", or a path, behind the scheme. */
static bool
parse_host_address(struct span text, bool smtp, struct net_address *out)
{
	uint8_t memory[HOST_TEXT_MAX];
	struct buf full = buf_of(memory, sizeof memory);

	if (span_starts_with(text, SPAN("/"))) {
		buf_append(&full, SPAN("unix:"));
		buf_append(&full, text);
		return !smtp && !full.overflow && net_address_parse(buf_span(&full), out);
	}
	/* Otherwise "unix:/path" would get in through the back door. */
	if (span_starts_with(text, SPAN("unix:")))
		return false;
	if (net_address_parse(text, out))
		return out->head.port_network_order != 0;
	buf_append(&full, text);
	buf_append_string(&full, smtp ? ":25" : ":24");
	return !full.overflow && net_address_parse(buf_span(&full), out);
}

static bool
parse_host(struct span text, enum config_target_kind *kind, struct net_address *host,
	   struct buf *why)
{
	bool smtp = span_starts_with(text, SPAN("smtp://"));

	if (span_eq(text, SPAN("mx")))
		return value_refuse(
			why, text,
			"cannot be used yet, since it needs the resolver; write the next hop "
			"as smtp://IP:port");
	if (span_eq(text, SPAN("discard")))
		return value_refuse(why, text, "cannot stand in a list; write to: discard");
	if (!smtp && !span_starts_with(text, SPAN("lmtp://")))
		return value_refuse(why, text,
				    "is no next hop; write smtp://IP:port, lmtp://IP:port, "
				    "lmtp:///path/to/socket or discard");
	*kind = smtp ? TARGET_SMTP : TARGET_LMTP;
	struct span rest = span_after(text, 7);
	if (parse_host_address(rest, smtp, host))
		return true;
	if (value_is_named(rest))
		return value_refuse(why, text,
				    "has a host name, which cannot be used yet, since it needs the "
				    "resolver; write the IP address");
	if (!smtp && span_starts_with(rest, SPAN("/")))
		return value_refuse(why, text,
				    "has a path that is too long; use one of up to 107 bytes");
	return value_refuse(why, text,
			    "has no valid address; write it as smtp://192.0.2.1:25 or "
			    "\"smtp://[2001:db8::1]:25\"");
}

static void
show_host(enum config_target_kind kind, const struct net_address *host, struct buf *out)
{
	uint8_t memory[HOST_TEXT_MAX];
	struct buf address = buf_of(memory, sizeof memory);

	net_address_show(host, &address);
	ASSERT(!address.overflow);
	struct span text = buf_span(&address);
	if (span_starts_with(text, SPAN("unix:")))
		text = span_after(text, 5);
	buf_append_string(out, kind == TARGET_SMTP ? "smtp://" : "lmtp://");
	buf_append(out, text);
}

/* The text by which destinations are told apart. */
static bool
make_text(struct config_target *target, struct arena *arena)
{
	uint8_t memory[HOSTS_MAX * HOST_TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	if (target->kind == TARGET_DISCARD)
		buf_append_string(&text, "discard");
	for (size_t i = 0; i < target->hosts_count; i++) {
		if (i > 0)
			buf_append_byte(&text, ',');
		show_host(target->kind, &target->hosts[i], &text);
	}
	ASSERT(!text.overflow);
	target->text = arena_copy(arena, buf_span(&text));
	return target->text.data != NULL;
}

static bool
is_listed(const struct net_address *hosts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (net_address_eq(&hosts[i], &hosts[count]))
			return true;
	}
	return false;
}

bool
target_parse(const struct span *items, size_t count, struct arena *arena, struct config_target *out,
	     struct buf *why, size_t *bad)
{
	if (count == 1 && span_eq(items[0], SPAN("discard"))) {
		*out = (struct config_target){ .kind = TARGET_DISCARD };
		return make_text(out, arena);
	}
	if (count == 0 || count > HOSTS_MAX)
		return value_refuse(why, span_none(),
				    "has no next hop or more than 64; name 1 to 64");
	struct net_address *hosts = arena_take(arena, count * sizeof *hosts);
	if (hosts == NULL)
		return value_refuse(why, span_none(), "does not fit in memory; shorten the file");
	*out = (struct config_target){ .hosts = hosts, .hosts_count = count };
	for (size_t i = 0; i < count; i++) {
		enum config_target_kind kind = TARGET_SMTP;
		*bad = i;
		if (!parse_host(items[i], &kind, &hosts[i], why))
			return false;
		if (i > 0 && kind != out->kind)
			return value_refuse(
				why, items[i],
				"mixes SMTP and LMTP; use one of them for the whole list");
		if (is_listed(hosts, i))
			return value_refuse(why, items[i], "is listed twice; remove one of them");
		out->kind = kind;
	}
	return make_text(out, arena);
}

void
target_print(const struct config_target *target, struct buf *out)
{
	if (target->kind == TARGET_DISCARD) {
		buf_append_string(out, "discard");
		return;
	}
	for (size_t i = 0; i < target->hosts_count; i++) {
		uint8_t memory[HOST_TEXT_MAX];
		struct buf host = buf_of(memory, sizeof memory);
		show_host(target->kind, &target->hosts[i], &host);
		buf_append_string(out, i == 0 ? "[\"" : ", \"");
		buf_append_json(out, buf_span(&host), SIZE_MAX); /* a path may have quotes */
		buf_append_byte(out, '"');
	}
	buf_append_byte(out, ']');
}
