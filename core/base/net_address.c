/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/net_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include "core/base/assert.h"

_Static_assert(sizeof(struct sockaddr_un) <= sizeof((struct net_address){ 0 }.bytes) &&
		       sizeof(struct sockaddr_in6) <= sizeof((struct net_address){ 0 }.bytes),
	       "every address fits");
_Static_assert(offsetof(struct sockaddr_in, sin_port) == 2 &&
		       offsetof(struct sockaddr_in6, sin6_port) == 2,
	       "head.port_network_order is the port of either family");

static void
store(struct net_address *out, const void *address, size_t size)
{
	*out = (struct net_address){ .size = (socklen_t)size };
	memcpy(out->bytes, address, size);
}

static bool
parse_unix(struct span path, struct net_address *out)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (path.size == 0 || path.data[0] != '/' || path.size >= sizeof a.sun_path ||
	    span_find(path, '\0', 0) < path.size)
		return false;
	memcpy(a.sun_path, path.data, path.size);
	store(out, &a, offsetof(struct sockaddr_un, sun_path) + path.size + 1);
	return true;
}

static bool
parse_port(struct span text, uint16_t *network_order)
{
	uint64_t port;

	if (text.size > 5 || !span_to_u64(text, &port) || port > UINT16_MAX)
		return false;
	*network_order = htons((uint16_t)port);
	return true;
}

/* inet_pton wants a NUL behind the text. */
static bool
parse_ip(int family, struct span text, void *out)
{
	char copy[INET6_ADDRSTRLEN];

	if (text.size >= sizeof copy || span_find(text, '\0', 0) < text.size)
		return false;
	memcpy(copy, text.data, text.size);
	copy[text.size] = '\0';
	return inet_pton(family, copy, out) == 1;
}

static bool
parse_v4(struct span text, struct net_address *out)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	size_t colon = span_find(text, ':', 0);

	if (colon == text.size || !parse_port(span_after(text, colon + 1), &a.sin_port) ||
	    !parse_ip(AF_INET, span_first(text, colon), &a.sin_addr))
		return false;
	store(out, &a, sizeof a);
	return true;
}

static bool
parse_v6(struct span text, struct net_address *out)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	size_t bracket = span_find(text, ']', 0);
	struct span port = span_after(text, bracket + 1);

	if (bracket == text.size || !span_starts_with(port, SPAN(":")) ||
	    !parse_port(span_after(port, 1), &a.sin6_port) ||
	    !parse_ip(AF_INET6, span_first(span_after(text, 1), bracket - 1), &a.sin6_addr))
		return false;
	store(out, &a, sizeof a);
	return true;
}

bool
net_address_parse(struct span text, struct net_address *out)
{
	if (span_starts_with(text, SPAN("unix:")))
		return parse_unix(span_after(text, 5), out);
	if (span_starts_with(text, SPAN("[")))
		return parse_v6(text, out);
	return parse_v4(text, out);
}

void
net_address_of_ip(const void *ip, size_t size, uint16_t port, struct net_address *out)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	ASSERT(size == sizeof v4.sin_addr || size == sizeof v6.sin6_addr);
	if (size == sizeof v4.sin_addr) {
		memcpy(&v4.sin_addr, ip, size);
		store(out, &v4, sizeof v4);
	} else {
		memcpy(&v6.sin6_addr, ip, size);
		store(out, &v6, sizeof v6);
	}
}

size_t
net_address_ip(const struct net_address *a, uint8_t ip[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (a->size == 0)
		return 0;
	if (a->head.family == AF_INET) {
		memcpy(ip, a->bytes + offsetof(struct sockaddr_in, sin_addr), 4);
		return 4;
	}
	if (a->head.family != AF_INET6)
		return 0;
	memcpy(ip, a->bytes + offsetof(struct sockaddr_in6, sin6_addr), 16);
	if (memcmp(ip, mapped, sizeof mapped) != 0)
		return 16;
	memmove(ip, ip + 12, 4);
	return 4;
}

bool
net_address_show_v4(const uint8_t ip[4], struct buf *out)
{
	uint8_t memory[INET_ADDRSTRLEN];
	struct buf text = buf_of(memory, sizeof memory);

	for (unsigned i = 0; i < 4; i++) {
		if (i > 0)
			buf_append_byte(&text, '.');
		buf_append_number(&text, ip[i]);
	}
	return buf_append(out, buf_span(&text)); /* whole or nothing */
}

void
net_address_show_ip(const struct net_address *a, struct buf *out)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	if (size == 16) {
		const char *shown = inet_ntop(AF_INET6, ip, text, sizeof text);
		ASSERT(shown != NULL);
		buf_append_string(out, shown);
	} else if (size == 4) {
		net_address_show_v4(ip, out);
	} else if (a->size != 0) {
		buf_append_string(out, "unix");
	}
}

/* A client without a name has a path of no bytes. */
static void
show_unix(const struct net_address *a, struct buf *out)
{
	size_t start = offsetof(struct sockaddr_un, sun_path);
	struct span path = span_after(span_of(a->bytes, a->size), start);

	buf_append_string(out, "unix:");
	buf_append(out, span_first(path, span_find(path, '\0', 0)));
}

bool
net_address_is_local(const struct net_address *a)
{
	static const uint8_t loopback[16] = { [15] = 1 };
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	if (size == 0)
		return a->size > 0 && a->any.sa_family == AF_UNIX;
	return size == 4 ? ip[0] == 127 : memcmp(ip, loopback, sizeof loopback) == 0;
}

void
net_address_show(const struct net_address *a, struct buf *out)
{
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	if (a->size == 0)
		return;
	if (size == 0) {
		show_unix(a, out);
		return;
	}
	buf_append_string(out, size == 16 ? "[" : "");
	net_address_show_ip(a, out);
	buf_append_string(out, size == 16 ? "]:" : ":");
	buf_append_number(out, ntohs(a->head.port_network_order));
}

/* The finalizer of MurmurHash3: every bit of the input moves every bit of the result. */
static uint64_t
mix(uint64_t x)
{
	x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
	x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
	return x ^ (x >> 33);
}

uint64_t
net_address_hash_ip(const struct net_address *a, uint64_t seed)
{
	uint8_t ip[16];
	uint64_t key = 0;
	size_t size = net_address_ip(a, ip);

	/* One who has a /64 has all its addresses. */
	memcpy(&key, ip, size == 16 ? 8 : size);
	return mix(mix(key + seed) ^ (seed << 32 | seed >> 32) ^ size);
}
