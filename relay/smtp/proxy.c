/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/proxy.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/base/buf.h"

static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
				       0x0a, 'Q',  'U',  'I',  'T',  0x0a };

enum {
	FIXED_SIZE = 16, /* of version 2: signature, command, family, length */
	COMMAND_LOCAL = 0x20,
	COMMAND_PROXY = 0x21,
	FAMILY_TCP4 = 0x11,
	FAMILY_TCP6 = 0x21,
	/* Of the two addresses and ports. */
	ADDRESSES_TCP4 = 12,
	ADDRESSES_TCP6 = 36,
	ADDRESS_TEXT_MAX = 64,
	PORT_TEXT_MAX = 5,
};

static enum proxy_result
bad(struct proxy *out, const char *why)
{
	out->why = why;
	return PROXY_BAD;
}

/* Does it begin as the other does, as far as there is any of it? */
static bool
may_be(struct span in, struct span whole)
{
	return span_eq(span_first(in, whole.size), span_first(whole, in.size));
}

/* ---- version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n" ---- */

/* Cuts a word off at the one space behind it; false where there is none. */
static bool
take_word(struct span *rest, struct span *word)
{
	size_t end = span_find(*rest, ' ', 0);

	*word = span_first(*rest, end);
	if (end == rest->size)
		return false;
	*rest = span_after(*rest, end + 1);
	return true;
}

static bool
is_port(struct span text)
{
	uint64_t port;

	return text.size > 0 && text.size <= PORT_TEXT_MAX && span_to_u64(text, &port) &&
	       port <= UINT16_MAX && (text.size == 1 || text.data[0] != '0');
}

static bool
read_address(struct span ip, struct span port, bool v6, struct net_address *out)
{
	uint8_t memory[ADDRESS_TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	if ((span_find(ip, ':', 0) < ip.size) != v6 || !is_port(port))
		return false;
	buf_append_string(&text, v6 ? "[" : "");
	buf_append(&text, ip);
	buf_append_string(&text, v6 ? "]:" : ":");
	buf_append(&text, port);
	return !text.overflow && net_address_parse(buf_span(&text), out) &&
	       out->any.sa_family == (v6 ? AF_INET6 : AF_INET);
}

/* What stands between "PROXY " and the line's end. */
static enum proxy_result
read_words(struct span rest, struct proxy *out)
{
	struct span family, client, server, port;
	bool more = take_word(&rest, &family);

	if (span_eq(family, SPAN("UNKNOWN")))
		return PROXY_LOCAL; /* whatever follows */
	bool v6 = span_eq(family, SPAN("TCP6"));
	if (!v6 && !span_eq(family, SPAN("TCP4")))
		return bad(out, "a PROXY line is for TCP4, TCP6 or UNKNOWN");
	if (!more || !take_word(&rest, &client) || !take_word(&rest, &server) ||
	    !take_word(&rest, &port) || !read_address(client, port, v6, &out->client) ||
	    !read_address(server, rest, v6, &out->server))
		return bad(out, "a PROXY line has two addresses and two ports");
	return PROXY_TOLD;
}

static enum proxy_result
read_text(struct span in, struct proxy *out)
{
	struct span line = span_first(in, PROXY_TEXT_MAX);
	size_t end = span_find(line, '\r', 0);
	struct span start = SPAN("PROXY ");

	/* The first byte that may follow CR is LF, whether it has come or not. */
	if (end + 1 < line.size && line.data[end + 1] != '\n')
		return bad(out, "a PROXY line has a CR in it");
	if (span_find(span_first(line, end), '\n', 0) < end)
		return bad(out, "a PROXY line ends in CR LF");
	if (end + 1 >= PROXY_TEXT_MAX)
		return bad(out, "a PROXY line is too long");
	if (end + 1 >= line.size)
		return PROXY_MORE;
	out->size = end + 2;
	return read_words(span_after(span_first(line, end), start.size), out);
}

/* ---- version 2 ---- */

/* Client, server, client's port, server's port. */
static void
take_addresses(const uint8_t *data, size_t ip_size, struct proxy *out)
{
	const uint8_t *ports = data + 2 * ip_size;

	net_address_of_ip(data, ip_size, (uint16_t)(ports[0] << 8 | ports[1]), &out->client);
	net_address_of_ip(data + ip_size, ip_size, (uint16_t)(ports[2] << 8 | ports[3]),
			  &out->server);
}

static enum proxy_result
read_binary(struct span in, struct proxy *out)
{
	size_t least = 0;

	if (in.size > 12 && in.data[12] != COMMAND_LOCAL && in.data[12] != COMMAND_PROXY)
		return bad(out, "a PROXY header of a version or command that is not known");
	if (in.size < FIXED_SIZE)
		return PROXY_MORE;
	size_t length = (size_t)in.data[14] << 8 | in.data[15];
	bool told = in.data[12] == COMMAND_PROXY;
	if (told && in.data[13] == FAMILY_TCP4)
		least = ADDRESSES_TCP4;
	else if (told && in.data[13] == FAMILY_TCP6)
		least = ADDRESSES_TCP6;
	if (length < least)
		return bad(out, "a PROXY header is too short for its addresses");
	if (length > PROXY_HEADER_MAX - FIXED_SIZE)
		return bad(out, "a PROXY header is too long");
	if (in.size < FIXED_SIZE + length)
		return PROXY_MORE;
	out->size = FIXED_SIZE + length;
	if (least == 0)
		return PROXY_LOCAL;
	take_addresses(in.data + FIXED_SIZE, least == ADDRESSES_TCP4 ? 4 : 16, out);
	return PROXY_TOLD;
}

enum proxy_result
proxy_read(struct span in, struct proxy *out)
{
	struct span binary = span_of(signature, sizeof signature);

	*out = (struct proxy){ 0 };
	if (in.size == 0)
		return PROXY_MORE;
	if (may_be(in, binary))
		return in.size < binary.size ? PROXY_MORE : read_binary(in, out);
	if (!may_be(in, SPAN("PROXY ")))
		return bad(out, "no PROXY header");
	return in.size < SPAN("PROXY ").size ? PROXY_MORE : read_text(in, out);
}
