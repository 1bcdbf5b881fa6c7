/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/name.h"

enum { LABEL_MAX = 63, ESCAPE_SIZE = 4 };

/* May it stand in a label as it is? */
static bool
is_plain(uint8_t c)
{
	return c > ' ' && c < 0x7f && c != '\\' && c != '.';
}

/* The bytes of the text that make one byte of a label; 0: they are none. */
static size_t
unit_size(struct span text, size_t at)
{
	unsigned value = 0;

	if (is_plain(text.data[at]))
		return 1;
	if (text.data[at] != '\\' || text.size - at < ESCAPE_SIZE)
		return 0;
	for (size_t i = at + 1; i < at + ESCAPE_SIZE; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		value = value * 10 + text.data[i] - '0';
	}
	return value <= UINT8_MAX && !is_plain((uint8_t)value) ? ESCAPE_SIZE : 0;
}

size_t
name_normalize(struct span text, char out[DNS_NAME_MAX + 1])
{
	size_t label = 0;

	out[0] = 0;
	if (text.size > 0 && text.data[text.size - 1] == '.')
		text = span_first(text, text.size - 1);
	if (text.size == 0 || text.size > DNS_NAME_MAX)
		return 0;
	for (size_t i = 0; i < text.size;) {
		bool is_dot = text.data[i] == '.';
		size_t size = is_dot ? label > 0 : unit_size(text, i);

		label = is_dot ? 0 : label + 1;
		if (size == 0 || label > LABEL_MAX)
			return 0;
		i += size;
	}
	if (label == 0)
		return 0; /* two dots at the end */
	for (size_t i = 0; i < text.size; i++)
		out[i] = (char)ascii_lower(text.data[i]);
	out[text.size] = 0;
	return text.size;
}

size_t
name_of_bytes(struct span bytes, char out[DNS_NAME_MAX + 1])
{
	uint8_t memory[DNS_NAME_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	for (size_t i = 0; i < bytes.size && !text.overflow; i++) {
		uint8_t c = bytes.data[i];

		if (is_plain(c) || c == '.') {
			buf_append_byte(&text, c);
		} else {
			buf_append_byte(&text, '\\');
			buf_append_digits(&text, c, ESCAPE_SIZE - 1);
		}
	}
	return name_normalize(text.overflow ? span_none() : buf_span(&text), out);
}

bool
name_of_address(const struct net_address *a, struct buf *out)
{
	static const uint8_t hex[16] = "0123456789abcdef";
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	for (size_t i = size; i > 0; i--) {
		if (size == 4) {
			buf_append_number(out, ip[i - 1]);
			buf_append_byte(out, '.');
			continue;
		}
		uint8_t pair[] = { hex[ip[i - 1] & 15], '.', hex[ip[i - 1] >> 4], '.' };
		buf_append(out, span_of(pair, sizeof pair));
	}
	buf_append_string(out, size == 4 ? "in-addr.arpa" : "ip6.arpa");
	return size > 0 && !out->overflow;
}
