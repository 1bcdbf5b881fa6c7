/* SPDX-License-Identifier: Apache-2.0
 *
 * The value of a route's `to`. Pure.
 */
#include "core/base/assert.h"
#include "core/config_table.h"

enum {
	HOSTS_MAX = 64,
	HOST_TEXT_MAX = 288, /* scheme, the longest name or address, port */
};

struct scheme {
	const char *text;
	enum config_target_kind kind;
	uint16_t port;
	bool tls;
};

static const struct scheme schemes[] = {
	{ "smtp://", TARGET_SMTP, 25, false },
	{ "smtps://", TARGET_SMTP, 465, true }, /* RFC 8314 3.3 */
	{ "lmtp://", TARGET_LMTP, 24, false },
};

static const struct scheme *
scheme_of(struct span text)
{
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		if (span_starts_with(text, span_of_string(schemes[i].text)))
			return &schemes[i];
	}
	return NULL;
}

/* "10.0.0.1:25", "[::1]", or a path, behind the scheme. */
static bool
parse_host_address(struct span text, const struct scheme *scheme, struct net_address *out)
{
	uint8_t memory[HOST_TEXT_MAX];
	struct buf full = buf_of(memory, sizeof memory);

	if (span_starts_with(text, SPAN("/"))) {
		buf_append(&full, SPAN("unix:"));
		buf_append(&full, text);
		return scheme->kind == TARGET_LMTP && !full.overflow &&
		       net_address_parse(buf_span(&full), out);
	}
	/* Otherwise "unix:/path" would get in through the back door. */
	if (span_starts_with(text, SPAN("unix:")))
		return false;
	if (net_address_parse(text, out))
		return out->head.port_network_order != 0;
	buf_append(&full, text);
	buf_printf(&full, ":%u", (unsigned)scheme->port);
	return !full.overflow && net_address_parse(buf_span(&full), out);
}

/* "mail.example.org:2525", behind the scheme. */
static bool
parse_host_name(struct span text, const struct scheme *scheme, struct arena *arena,
		struct config_host *out)
{
	size_t colon = span_find(text, ':', 0);
	struct span name = span_first(text, colon);
	uint64_t port = scheme->port;

	if (!value_is_named(text) || !value_is_domain(name, false))
		return false;
	if (colon < text.size && !span_to_u64(span_after(text, colon + 1), &port))
		return false;
	if (port == 0 || port > UINT16_MAX)
		return false;
	uint8_t *lower = arena_take(arena, name.size);
	if (lower == NULL)
		return false;
	for (size_t i = 0; i < name.size; i++)
		lower[i] = ascii_lower(name.data[i]);
	out->name = span_of(lower, name.size);
	out->port = (uint16_t)port;
	return true;
}

static bool
parse_host(struct span text, struct arena *arena, enum config_target_kind *kind,
	   struct config_host *host, struct buf *why)
{
	const struct scheme *scheme = scheme_of(text);

	if (span_eq(text, SPAN("mx")) || span_eq(text, SPAN("discard")))
		return value_refuse(why, text,
				    "cannot stand in a list; write it alone, as in to: mx");
	if (scheme == NULL)
		return value_refuse(
			why, text,
			"is no next hop; write mx, smtp://HOST:port, smtps://HOST:port, "
			"lmtp://HOST:port, lmtp:///path/to/socket or discard");
	*kind = scheme->kind;
	struct span rest = span_after(text, strlen(scheme->text));
	*host = (struct config_host){ .tls = scheme->tls };
	if (parse_host_address(rest, scheme, &host->address))
		return true;
	host->address.size = 0;
	if (parse_host_name(rest, scheme, arena, host))
		return true;
	if (scheme->kind == TARGET_LMTP && span_starts_with(rest, SPAN("/")))
		return value_refuse(why, text,
				    "has a path that is too long; use one of up to 107 bytes");
	return value_refuse(why, text,
			    "has no valid host; write it as smtp://192.0.2.1:25, "
			    "\"smtp://[2001:db8::1]:25\" or smtp://mail.example.org:25");
}

static void
show_host(enum config_target_kind kind, const struct config_host *host, struct buf *out)
{
	uint8_t memory[HOST_TEXT_MAX];
	struct buf address = buf_of(memory, sizeof memory);

	buf_append_string(out, kind == TARGET_LMTP ? "lmtp://"
			       : host->tls         ? "smtps://"
						   : "smtp://");
	if (host->name.size > 0) {
		buf_printf(out, "%.*s:%u", SPAN_ARG(host->name), host->port);
		return;
	}
	net_address_show(&host->address, &address);
	ASSERT(!address.overflow);
	struct span text = buf_span(&address);
	if (span_starts_with(text, SPAN("unix:")))
		text = span_after(text, 5);
	buf_append(out, text);
}

/* The text by which destinations are told apart. */
static bool
make_text(struct config_target *target, struct arena *arena)
{
	uint8_t memory[HOSTS_MAX * HOST_TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	if (target->hosts_count == 0)
		buf_append_string(&text, target->kind == TARGET_MX ? "mx" : "discard");
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
is_listed(const struct config_host *hosts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (net_address_eq(&hosts[i].address, &hosts[count].address) &&
		    span_eq(hosts[i].name, hosts[count].name) && hosts[i].port == hosts[count].port)
			return true;
	}
	return false;
}

bool
target_parse(const struct span *items, size_t count, struct arena *arena, struct config_target *out,
	     struct buf *why, size_t *bad)
{
	if (count == 1 && (span_eq(items[0], SPAN("discard")) || span_eq(items[0], SPAN("mx")))) {
		*out = (struct config_target){ .kind = span_eq(items[0], SPAN("mx"))
							       ? TARGET_MX
							       : TARGET_DISCARD };
		return make_text(out, arena);
	}
	if (count == 0 || count > HOSTS_MAX)
		return value_refuse(why, span_none(),
				    "has no next hop or more than 64; name 1 to 64");
	struct config_host *hosts = arena_take(arena, count * sizeof *hosts);
	if (hosts == NULL)
		return value_refuse(why, span_none(), "does not fit in memory; shorten the file");
	*out = (struct config_target){ .hosts = hosts, .hosts_count = count };
	for (size_t i = 0; i < count; i++) {
		enum config_target_kind kind = TARGET_SMTP;
		*bad = i;
		if (!parse_host(items[i], arena, &kind, &hosts[i], why))
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
	if (target->hosts_count == 0) {
		buf_append(out, target->text);
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
