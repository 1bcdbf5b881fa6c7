/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/spf_record.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "core/base/assert.h"
#include "dns/spf_macro.h"

enum {
	SHOWN_MAX = 80, /* of a term, in a reason */
	VERSION_SIZE = 6,
	PREFIX_V4_MAX = 32,
	PREFIX_V6_MAX = 128,
	IP_TEXT_MAX = 64,
};

/* What may stand behind the name of a mechanism. */
enum argument {
	ARGUMENT_NONE,
	ARGUMENT_DOMAIN,      /* ":" domain-spec */
	ARGUMENT_MAY_DOMAIN,  /* the same, or nothing */
	ARGUMENT_DOMAIN_CIDR, /* [ ":" domain-spec ] [ dual-cidr-length ] */
	ARGUMENT_NETWORK,
};

static const struct {
	const char *name;
	enum argument argument;
} mechanisms[] = {
	[SPF_ALL] = { "all", ARGUMENT_NONE },       [SPF_INCLUDE] = { "include", ARGUMENT_DOMAIN },
	[SPF_A] = { "a", ARGUMENT_DOMAIN_CIDR },    [SPF_MX] = { "mx", ARGUMENT_DOMAIN_CIDR },
	[SPF_PTR] = { "ptr", ARGUMENT_MAY_DOMAIN }, [SPF_IP4] = { "ip4", ARGUMENT_NETWORK },
	[SPF_IP6] = { "ip6", ARGUMENT_NETWORK },    [SPF_EXISTS] = { "exists", ARGUMENT_DOMAIN },
};

enum { MECHANISMS = sizeof mechanisms / sizeof mechanisms[0] };

bool
spf_record_is(struct span text)
{
	return span_eq_nocase(span_first(text, VERSION_SIZE), SPAN("v=spf1")) &&
	       (text.size == VERSION_SIZE || text.data[VERSION_SIZE] == ' ');
}

unsigned
spf_record_terms_max(struct span text)
{
	unsigned count = 0;

	for (size_t i = 1; i < text.size; i++)
		count += text.data[i - 1] == ' ' && text.data[i] != ' ';
	return count;
}

/* ---- one term ---- */

struct reading {
	struct spf_record *record;
	struct span term; /* in hand */
	struct buf *why;
};

static bool
refuse(const struct reading *r, const char *reason)
{
	struct span shown = span_first(r->term, SHOWN_MAX);

	buf_reset(r->why);
	for (size_t i = 0; i < shown.size; i++) {
		uint8_t c = shown.data[i];
		buf_append_byte(r->why, c >= ' ' && c < 0x7f ? c : '?');
	}
	buf_append_string(r->why, shown.size < r->term.size ? "...: " : ": ");
	buf_append_string(r->why, reason);
	return false;
}

static struct spf_piece
piece_of(const struct reading *r, struct span s)
{
	ASSERT(s.data >= r->record->text.data);
	return (struct spf_piece){ (uint32_t)(s.data - r->record->text.data), (uint32_t)s.size };
}

static bool
is_name_byte(uint8_t c, bool is_first)
{
	uint8_t lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') ||
	       (!is_first && ((c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'));
}

/* A domain-spec. */
static bool
read_domain(const struct reading *r, struct span text, struct spf_piece *spec, bool *has_macros,
	    bool *wants_name)
{
	char memory[SPF_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory - 1);
	struct spf_macro_use use;

	if (text.size == 0)
		return refuse(r, "a domain is missing");
	if (!spf_macro_check(text, SPF_MACRO_NAME, &use, &why)) {
		memory[why.size] = 0;
		return refuse(r, memory);
	}
	if (!spf_macro_ends_in_domain(text, &use))
		return refuse(r, "a domain must end in a dot and a top-level name, or in a macro");
	*spec = piece_of(r, text);
	*has_macros = use.any;
	*wants_name = use.name;
	return true;
}

/* "/" and a number at the end of `text`, which is taken off with `slashes` slashes. *prefix stays
 * where there is none. */
static bool
take_prefix(struct span *text, size_t slashes, uint32_t most, uint8_t *prefix)
{
	size_t begin = text->size;
	uint64_t number;

	while (begin > 0 && text->data[begin - 1] >= '0' && text->data[begin - 1] <= '9')
		begin--;
	struct span digits = span_after(*text, begin);
	if (digits.size == 0 || begin < slashes || text->data[begin - 1] != '/')
		return true;
	bool is_double = begin > 1 && text->data[begin - 2] == '/';
	if (is_double != (slashes == 2))
		return true;
	if ((digits.data[0] == '0' && digits.size > 1) || !span_to_u64(digits, &number) ||
	    number > most)
		return false;
	*prefix = (uint8_t)number;
	*text = span_first(*text, begin - slashes);
	return true;
}

/* The number of the whole text, which begins with "/" or is empty. */
static bool
read_prefix(struct span text, uint32_t most, uint8_t *prefix)
{
	return text.size == 0 || (take_prefix(&text, 1, most, prefix) && text.size == 0);
}

/* qnum "." qnum "." qnum "." qnum: no zeros in front, unlike what inet_pton of other systems
 * takes. */
static bool
read_v4(struct span text, uint8_t ip[16])
{
	unsigned parts = 0;

	for (size_t at = 0; parts < 4; parts++) {
		size_t end = span_find(text, '.', at);
		struct span digits = span_of(text.data + at, end - at);
		uint64_t number;

		if (digits.size == 0 || digits.size > 3 || !span_to_u64(digits, &number) ||
		    number > UINT8_MAX || (digits.data[0] == '0' && digits.size > 1))
			return false;
		ip[parts] = (uint8_t)number;
		if (end == text.size)
			return parts == 3;
		at = end + 1;
	}
	return false;
}

static bool
read_v6(struct span text, uint8_t ip[16])
{
	char memory[IP_TEXT_MAX];

	if (text.size >= sizeof memory || span_find(text, 0, 0) < text.size)
		return false;
	snprintf(memory, sizeof memory, "%.*s", SPAN_ARG(text));
	return inet_pton(AF_INET6, memory, ip) == 1;
}

static bool
read_network(const struct reading *r, struct span argument, struct spf_term *t)
{
	bool is_v4 = t->mechanism == SPF_IP4;

	if (argument.size == 0 || argument.data[0] != ':')
		return refuse(r, "a network is missing");
	argument = span_after(argument, 1);
	size_t slash = span_find(argument, '/', 0);
	struct span ip = span_first(argument, slash);
	if (is_v4 ? !read_v4(ip, t->ip) : !read_v6(ip, t->ip))
		return refuse(r, is_v4 ? "that is no IPv4 address" : "that is no IPv6 address");
	if (!read_prefix(span_after(argument, slash), is_v4 ? PREFIX_V4_MAX : PREFIX_V6_MAX,
			 is_v4 ? &t->prefix_v4 : &t->prefix_v6))
		return refuse(r, "the length of the network is wrong");
	return true;
}

static bool
read_argument(const struct reading *r, struct span argument, struct spf_term *t)
{
	enum argument allowed = mechanisms[t->mechanism].argument;

	if (allowed == ARGUMENT_NETWORK)
		return read_network(r, argument, t);
	if (allowed == ARGUMENT_DOMAIN_CIDR &&
	    (!take_prefix(&argument, 2, PREFIX_V6_MAX, &t->prefix_v6) ||
	     !take_prefix(&argument, 1, PREFIX_V4_MAX, &t->prefix_v4)))
		return refuse(r, "the length of the network is wrong");
	if (argument.size == 0)
		return allowed != ARGUMENT_DOMAIN || refuse(r, "a domain is missing");
	if (allowed == ARGUMENT_NONE)
		return refuse(r, "this mechanism takes no argument");
	if (argument.data[0] != ':')
		return refuse(r, "this mechanism takes no length of a network here");
	return read_domain(r, span_after(argument, 1), &t->spec, &t->has_macros, &t->wants_name);
}

static bool
read_mechanism(const struct reading *r, struct span body, size_t name_size, struct spf_term *t)
{
	struct span name = span_first(body, name_size);

	for (unsigned i = 0; i < MECHANISMS; i++) {
		if (!span_eq_nocase(name, span_of_string(mechanisms[i].name)))
			continue;
		t->mechanism = (uint8_t)i;
		t->prefix_v4 = PREFIX_V4_MAX;
		t->prefix_v6 = PREFIX_V6_MAX;
		return read_argument(r, span_after(body, name_size), t);
	}
	return refuse(r, "there is no such mechanism");
}

static bool
read_modifier(const struct reading *r, size_t name_size)
{
	struct span name = span_first(r->term, name_size);
	struct span value = span_after(r->term, name_size + 1);
	struct spf_modifier *m = span_eq_nocase(name, SPAN("redirect")) ? &r->record->redirect
				 : span_eq_nocase(name, SPAN("exp"))    ? &r->record->explanation
									: NULL;
	char memory[SPF_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory - 1);
	struct spf_macro_use use;

	if (m != NULL && m->text.size > 0)
		return refuse(r, "this modifier may stand there only once");
	if (m != NULL) {
		m->text = piece_of(r, r->term);
		return read_domain(r, value, &m->spec, &m->has_macros, &m->wants_name);
	}
	if (spf_macro_check(value, SPF_MACRO_MODIFIER, &use, &why))
		return true;
	memory[why.size] = 0;
	return refuse(r, memory);
}

static bool
read_term(struct reading *r)
{
	static const struct {
		uint8_t c;
		enum spf_result result;
	} qualifiers[] = {
		{ '+', SPF_PASS }, { '-', SPF_FAIL }, { '~', SPF_SOFTFAIL }, { '?', SPF_NEUTRAL }
	};
	struct spf_term t = { .text = piece_of(r, r->term), .result = SPF_PASS };
	struct span body = r->term;
	size_t name_size = 0;

	for (size_t i = 0; i < sizeof qualifiers / sizeof qualifiers[0]; i++) {
		if (r->term.data[0] == qualifiers[i].c) {
			t.result = (uint8_t)qualifiers[i].result;
			body = span_after(r->term, 1);
		}
	}
	while (name_size < body.size && is_name_byte(body.data[name_size], name_size == 0))
		name_size++;
	if (name_size > 0 && name_size < body.size && body.data[name_size] == '=') {
		if (body.size < r->term.size)
			return refuse(r, "a modifier takes no qualifier");
		return read_modifier(r, name_size);
	}
	if (!read_mechanism(r, body, name_size, &t))
		return false;
	r->record->has_all |= t.mechanism == SPF_ALL;
	r->record->terms[r->record->count++] = t;
	return true;
}

bool
spf_record_parse(struct span text, struct spf_record *out, struct buf *why)
{
	struct reading r = { .record = out, .why = why };

	ASSERT(spf_record_is(text));
	out->text = text;
	out->redirect = (struct spf_modifier){ 0 };
	out->explanation = (struct spf_modifier){ 0 };
	out->has_all = false;
	out->count = 0;
	for (size_t at = VERSION_SIZE; at < text.size;) {
		size_t end = span_find(text, ' ', at);

		r.term = span_of(text.data + at, end - at);
		if (r.term.size > 0 && !read_term(&r))
			return false;
		at = end + 1;
	}
	return true;
}
