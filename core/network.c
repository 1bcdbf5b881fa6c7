/* SPDX-License-Identifier: Apache-2.0 */
#include "core/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "core/base/assert.h"
#include "core/base/net_address.h"

static const uint8_t mapped_prefix[12] = { [10] = 0xff, [11] = 0xff };

static struct ip
ip_of_v4(const void *four)
{
	struct ip ip;

	memcpy(ip.bytes, mapped_prefix, sizeof mapped_prefix);
	memcpy(ip.bytes + 12, four, 4);
	return ip;
}

bool
ip_is_v4(const struct ip *ip)
{
	return memcmp(ip->bytes, mapped_prefix, sizeof mapped_prefix) == 0;
}

bool
ip_parse(struct span text, struct ip *out)
{
	char string[INET6_ADDRSTRLEN];
	uint8_t address[16];

	/* A NUL inside would hide what follows from inet_pton. */
	if (text.size == 0 || text.size >= sizeof string || span_find(text, 0, 0) < text.size)
		return false;
	memcpy(string, text.data, text.size);
	string[text.size] = 0;
	if (inet_pton(AF_INET, string, address) == 1) {
		*out = ip_of_v4(address);
		return true;
	}
	if (inet_pton(AF_INET6, string, address) != 1)
		return false;
	memcpy(out->bytes, address, sizeof address);
	return true;
}

bool
ip_of_sockaddr(const struct sockaddr *address, struct ip *out)
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in v4;
		memcpy(&v4, address, sizeof v4);
		*out = ip_of_v4(&v4.sin_addr);
		return true;
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 v6;
		memcpy(&v6, address, sizeof v6);
		memcpy(out->bytes, &v6.sin6_addr, sizeof out->bytes);
		return true;
	}
	return false;
}

bool
ip_show(const struct ip *ip, struct buf *out)
{
	char string[INET6_ADDRSTRLEN];

	if (ip_is_v4(ip))
		return net_address_show_v4(ip->bytes + 12, out);
	const char *text = inet_ntop(AF_INET6, ip->bytes, string, sizeof string);
	ASSERT(text != NULL);
	return buf_append_string(out, text);
}

/* Are the first `bits` bits of a and b the same? */
static bool
prefix_eq(const struct ip *a, const struct ip *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a->bytes, b->bytes, whole) != 0)
		return false;
	return rest == 0 || (a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

static bool
has_bits_behind(const struct ip *ip, unsigned bits)
{
	for (unsigned i = bits; i < 128; i++) {
		if ((ip->bytes[i / 8] >> (7 - i % 8) & 1) != 0)
			return true;
	}
	return false;
}

bool
network_parse(struct span text, struct network *out)
{
	size_t slash = span_find(text, '/', 0);
	uint64_t bits = 128;

	if (!ip_parse(span_first(text, slash), &out->base))
		return false;
	/* The notation decides what the prefix counts: "::ffff:0:0/96" is a prefix of IPv6. */
	bool v4 = span_find(text, ':', 0) == text.size;
	if (slash < text.size) {
		struct span digits = span_after(text, slash + 1);
		if (digits.size > 3 || !span_to_u64(digits, &bits) || bits > (v4 ? 32 : 128))
			return false;
		if (v4)
			bits += 96;
	}
	out->bits = (uint8_t)bits;
	return !has_bits_behind(&out->base, out->bits);
}

bool
network_show(const struct network *n, struct buf *out)
{
	bool v4 = ip_is_v4(&n->base) && n->bits >= 96;
	unsigned bits = v4 ? n->bits - 96U : n->bits;

	if (!v4 && ip_is_v4(&n->base))
		return buf_printf(out, "::ffff:0:0/%u", bits);
	return ip_show(&n->base, out) && (n->bits == 128 || buf_printf(out, "/%u", bits));
}

bool
network_contains(const struct network *n, const struct ip *ip)
{
	ASSERT(n->bits <= 128);
	/* Without this ::/0 and other short prefixes of zeros would cover IPv4 in its mapped form;
	 * an IPv6 rule is for IPv6. */
	if (n->bits < 96 && ip_is_v4(ip))
		return false;
	return prefix_eq(&n->base, ip, n->bits);
}

bool
network_list_contains(const struct network_list *list, const struct ip *ip)
{
	for (size_t i = 0; i < list->count; i++) {
		if (network_contains(&list->items[i], ip))
			return true;
	}
	return false;
}
