/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/address.h"

#include "core/base/utf8.h"

/* Parsers below take the text and return how many bytes at its start belong to what they parse;
 * 0 is not one of it. They are the productions of RFC 5321 4.1.2 under their own names. */

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter_or_digit(uint8_t c)
{
	uint8_t lower = ascii_lower(c);
	return is_digit(c) || (lower >= 'a' && lower <= 'z');
}

static bool
is_atext(uint8_t c)
{
	switch (c) {
	case '!':
	case '#':
	case '$':
	case '%':
	case '&':
	case '\'':
	case '*':
	case '+':
	case '-':
	case '/':
	case '=':
	case '?':
	case '^':
	case '_':
	case '`':
	case '{':
	case '|':
	case '}':
	case '~':
		return true;
	default:
		return is_letter_or_digit(c);
	}
}

/* UTF8-non-ascii (RFC 6531 3.3) at the start of s, without the C1 controls. */
static size_t
non_ascii(struct span s)
{
	if (s.size == 0 || s.data[0] < 0x80)
		return 0;
	size_t length = utf8_length(s);
	if (length == 2 && s.data[0] == 0xc2 && s.data[1] < 0xa0)
		return 0;
	return length;
}

static uint8_t
byte_at(struct span s, size_t i)
{
	return i < s.size ? s.data[i] : '\0';
}

/* Where the Atom from `i` on ends: bytes of atext and characters beyond ASCII. */
static size_t
atom_end(struct span s, size_t i)
{
	while (i < s.size) {
		size_t length = is_atext(s.data[i]) ? 1 : non_ascii(span_after(s, i));
		if (length == 0)
			break;
		i += length;
	}
	return i;
}

static size_t
dot_string(struct span s)
{
	size_t i = 0;

	for (;;) {
		size_t end = atom_end(s, i);
		if (end == i)
			return 0; /* empty, or a dot with no atom behind it */
		if (byte_at(s, end) != '.')
			return end;
		i = end + 1;
	}
}

static size_t
quoted_string(struct span s)
{
	size_t i = 1;

	if (byte_at(s, 0) != '"')
		return 0;
	while (i < s.size && s.data[i] != '"') {
		bool pair = s.data[i] == '\\'; /* quoted-pairSMTP: a printable ASCII character */
		i += pair;
		size_t length = byte_at(s, i) >= ' ' && byte_at(s, i) < 0x7f ? 1 : 0;
		if (length == 0 && !pair)
			length = non_ascii(span_after(s, i));
		if (length == 0)
			return 0;
		i += length;
	}
	return i < s.size ? i + 1 : 0;
}

/* Where the letters and digits from `i` on end; '_' see address.h. */
static size_t
let_dig_end(struct span s, size_t i)
{
	while (i < s.size) {
		uint8_t c = s.data[i];
		size_t length = is_letter_or_digit(c) || c == '_' ? 1 : non_ascii(span_after(s, i));
		if (length == 0)
			break;
		i += length;
	}
	return i;
}

/* sub-domain: no hyphen at either end. Its length may be beyond ADDRESS_LABEL_MAX. */
static size_t
sub_domain(struct span s)
{
	size_t end = let_dig_end(s, 0);

	while (end > 0 && byte_at(s, end) == '-') {
		size_t start = end;
		while (byte_at(s, start) == '-')
			start++;
		end = let_dig_end(s, start);
		if (end == start)
			return 0;
	}
	return end;
}

/* Domain. *label_max is the length of its longest label. */
static size_t
domain(struct span s, size_t *label_max)
{
	size_t i = 0;

	*label_max = 0;
	for (;;) {
		size_t length = sub_domain(span_after(s, i));
		if (length == 0)
			return 0;
		*label_max = length > *label_max ? length : *label_max;
		i += length;
		if (byte_at(s, i) != '.')
			return i;
		i++;
	}
}

/* IPv4-address-literal without its brackets: four numbers of one to three digits. */
static bool
parse_ipv4(struct span s, uint8_t *ip)
{
	size_t i = 0;

	for (unsigned part = 0; part < 4; part++) {
		unsigned value = 0;
		size_t start = i;
		while (is_digit(byte_at(s, i)) && i - start < 3)
			value = value * 10 + (unsigned)(s.data[i++] - '0');
		if (i == start || value > 255)
			return false;
		ip[part] = (uint8_t)value;
		if (part < 3 && byte_at(s, i++) != '.')
			return false;
	}
	return i == s.size;
}

static int
hex_value(uint8_t c)
{
	uint8_t lower = ascii_lower(c);
	return is_digit(c) ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Groups of an IPv6 address up to the end or to "::", an IPv4 tail included. Returns the bytes of
 * text and sets the bytes of address; 0 groups are not an error. */
static size_t
ipv6_groups(struct span s, uint8_t *ip, size_t *ip_size, size_t ip_max)
{
	size_t i = 0;

	*ip_size = 0;
	while (*ip_size + 2 <= ip_max) {
		size_t start = i;
		unsigned value = 0;
		while (i < s.size && i - start < 4 && hex_value(s.data[i]) >= 0)
			value = value << 4 | (unsigned)hex_value(s.data[i++]);
		if (byte_at(s, i) == '.' && *ip_size + 4 <= ip_max &&
		    parse_ipv4(span_after(s, start), ip + *ip_size)) {
			*ip_size += 4;
			return s.size;
		}
		if (i == start)
			return start > 0 ? start - 1 : 0; /* without the colon that led here */
		ip[(*ip_size)++] = (uint8_t)(value >> 8);
		ip[(*ip_size)++] = (uint8_t)value;
		if (byte_at(s, i) != ':' || byte_at(s, i + 1) == ':')
			return i;
		i++;
	}
	return i > 0 ? i - 1 : 0;
}

/* IPv6-addr. "::" may stand for one group too (RFC 4291 2.2), wider than RFC 5321. */
static bool
parse_ipv6(struct span s, uint8_t *ip)
{
	uint8_t tail[16];
	size_t head_size;
	size_t tail_size = 0;
	size_t i = ipv6_groups(s, ip, &head_size, 16);

	if (i == s.size)
		return head_size == 16;
	if (byte_at(s, i) != ':' || byte_at(s, i + 1) != ':' || head_size > 14)
		return false;
	struct span rest = span_after(s, i + 2);
	if (ipv6_groups(rest, tail, &tail_size, 14 - head_size) != rest.size)
		return false;
	memset(ip + head_size, 0, 16 - head_size);
	memcpy(ip + 16 - tail_size, tail, tail_size);
	return true;
}

static enum address_error
parse_literal(struct span s, enum address_kind *kind, uint8_t *ip)
{
	struct span inside = span_of(s.data + 1, s.size - 2);

	memset(ip, 0, 16);
	if (parse_ipv4(inside, ip)) {
		*kind = ADDRESS_IPV4;
		return ADDRESS_OK;
	}
	if (span_eq_nocase(span_first(inside, 5), SPAN("IPv6:"))) {
		*kind = ADDRESS_IPV6;
		return parse_ipv6(span_after(inside, 5), ip) ? ADDRESS_OK : ADDRESS_SYNTAX;
	}
	/* Standardized-tag ":" 1*dcontent */
	size_t colon = span_find(inside, ':', 0);
	if (colon == 0 || colon + 1 >= inside.size || inside.data[colon - 1] == '-')
		return ADDRESS_SYNTAX;
	for (size_t i = 0; i < inside.size; i++) {
		uint8_t c = inside.data[i];
		if (i < colon ? !is_letter_or_digit(c) && c != '-'
			      : c <= ' ' || c >= 0x7f || c == '[' || c == '\\')
			return ADDRESS_SYNTAX;
	}
	return ADDRESS_ODD_LITERAL;
}

/* What follows the '@': sets kind, domain and ip. */
static enum address_error
parse_domain_part(struct span s, struct address *out, size_t *used)
{
	size_t label_max;

	if (byte_at(s, 0) == '[') {
		size_t end = span_find(s, ']', 0);
		if (end == s.size)
			return ADDRESS_SYNTAX;
		out->domain = span_first(s, end + 1);
		*used = end + 1;
		return parse_literal(out->domain, &out->kind, out->ip);
	}
	*used = domain(s, &label_max);
	if (*used == 0)
		return ADDRESS_SYNTAX;
	out->kind = ADDRESS_DOMAIN;
	out->domain = span_first(s, *used);
	return *used > ADDRESS_DOMAIN_MAX || label_max > ADDRESS_LABEL_MAX ? ADDRESS_TOO_LONG
									   : ADDRESS_OK;
}

/* Mailbox, or a local part alone where domainless is set and no '@' follows. */
static enum address_error
parse_mailbox(struct span s, bool domainless, struct address *out, size_t *used)
{
	size_t local = byte_at(s, 0) == '"' ? quoted_string(s) : dot_string(s);
	size_t behind = 0;

	*out = (struct address){ .quoted = byte_at(s, 0) == '"', .local = span_first(s, local) };
	if (local == 0)
		return ADDRESS_SYNTAX;
	if (byte_at(s, local) != '@') {
		*used = local;
		out->kind = ADDRESS_POSTMASTER;
		return domainless && address_is_postmaster(out) ? ADDRESS_OK : ADDRESS_SYNTAX;
	}
	enum address_error error = parse_domain_part(span_after(s, local + 1), out, &behind);
	*used = local + 1 + behind;
	out->utf8 = utf8_has_non_ascii(span_first(s, *used));
	if (error == ADDRESS_OK && (local > ADDRESS_LOCAL_MAX || *used + 2 > ADDRESS_PATH_MAX))
		return ADDRESS_TOO_LONG;
	return error;
}

/* A-d-l with the colon behind it; 0 where there is none, which is fine. */
static size_t
source_route(struct span s)
{
	size_t i = 0;
	size_t label_max;

	while (byte_at(s, i) == '@') {
		size_t length = domain(span_after(s, i + 1), &label_max);
		if (length == 0)
			return 0;
		i += 1 + length;
		if (byte_at(s, i) == ':')
			return i + 1;
		if (byte_at(s, i) != ',')
			return 0;
		i++;
	}
	return 0;
}

/* A syntax error is told apart where bytes are not even UTF-8. */
static enum address_error
explain(struct span s, enum address_error error)
{
	return error == ADDRESS_SYNTAX && !utf8_is_valid(s) ? ADDRESS_BAD_UTF8 : error;
}

enum address_error
address_parse_path(struct span in, unsigned allow, struct address *out, size_t *used)
{
	size_t mailbox = 0;

	*used = 0;
	if (byte_at(in, 0) != '<')
		return ADDRESS_SYNTAX;
	if (byte_at(in, 1) == '>' && (allow & ADDRESS_ALLOW_NULL)) {
		*out = (struct address){ .kind = ADDRESS_NULL };
		*used = 2;
		return ADDRESS_OK;
	}
	size_t start = 1 + source_route(span_after(in, 1));
	bool domainless = start == 1 && (allow & ADDRESS_ALLOW_POSTMASTER);
	enum address_error error = parse_mailbox(span_after(in, start), domainless, out, &mailbox);
	if (error == ADDRESS_OK && byte_at(in, start + mailbox) != '>')
		error = ADDRESS_SYNTAX;
	*used = start + mailbox + 1;
	return explain(in, error);
}

enum address_error
address_parse_mailbox(struct span in, struct address *out)
{
	size_t used = 0;
	enum address_error error = parse_mailbox(in, false, out, &used);

	return explain(in, error == ADDRESS_OK && used != in.size ? ADDRESS_SYNTAX : error);
}

bool
address_is_domain(struct span s)
{
	size_t label_max;
	size_t length = domain(s, &label_max);

	return length > 0 && length == s.size && length <= ADDRESS_DOMAIN_MAX &&
	       label_max <= ADDRESS_LABEL_MAX;
}

bool
address_is_literal(struct span s, enum address_kind *kind, uint8_t *ip)
{
	return s.size > 2 && s.data[0] == '[' && span_find(s, ']', 0) == s.size - 1 &&
	       parse_literal(s, kind, ip) == ADDRESS_OK;
}

bool
address_unquote(const struct address *a, struct buf *out)
{
	struct span s = a->local;

	if (!a->quoted)
		return buf_append(out, s);
	for (size_t i = 1; i + 1 < s.size; i++) {
		if (s.data[i] == '\\')
			i++;
		buf_append_byte(out, s.data[i]);
	}
	return !out->overflow;
}

bool
address_is_postmaster(const struct address *a)
{
	uint8_t memory[ADDRESS_LOCAL_MAX];
	struct buf local = buf_of(memory, sizeof memory);

	return address_unquote(a, &local) && span_eq_nocase(buf_span(&local), SPAN("postmaster"));
}

bool
address_show(const struct address *a, struct buf *out)
{
	buf_append_byte(out, '<');
	buf_append(out, a->local);
	if (a->domain.size > 0) {
		buf_append_byte(out, '@');
		buf_append(out, a->domain);
	}
	return buf_append_byte(out, '>') && !out->overflow;
}
