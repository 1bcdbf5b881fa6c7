/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/spf_zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "core/base/unit.h"
#include "dns/answer.h"
#include "dns/name.h"
#include "dns/text.h"

enum {
	ROWS_MAX = 1024,
	CNAMES_MAX = 8,
	TTL_S = 300,
	ADDRESS_PORT = 0,
	NOW_S = 1700000000,
	TEXT_MAX = 70000,
};

struct row {
	char name[DNS_NAME_MAX + 1];
	unsigned type; /* 0: of any type, for what fails */
	enum dns_outcome outcome;
	bool is_secure;
	uint32_t ttl_s;
	struct dns_record record;
	char *text; /* what the record points to */
};

struct spf_zone {
	unsigned count;
	struct row rows[ROWS_MAX];
};

struct reader {
	const char *path;
	unsigned line;
	struct spf_zone *zone;
	struct spf_case now;
	bool has_case;
	void (*run)(const struct spf_case *c);
};

static void
broken(const struct reader *r, const char *why)
{
	fail_msg("%s:%u: %s", r->path, r->line, why);
}

/* ---- rows ---- */

static unsigned
type_of(struct span word)
{
	static const enum dns_type types[] = {
		DNS_A, DNS_AAAA, DNS_MX, DNS_PTR, DNS_TXT, DNS_CNAME
	};

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (span_eq(word, span_of_string(dns_type_text(types[i]))))
			return types[i];
	}
	return 0;
}

static int
hex_of(uint8_t c)
{
	c = ascii_lower(c);
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "one" "two" with \xHH, and "text"*1000 for many of the same. Joined. */
static void
read_strings(struct reader *r, struct span data, struct row *row)
{
	struct buf out = buf_of(row->text, TEXT_MAX);

	while (data.size > 0 && data.data[0] == '"') {
		size_t begin = out.size;
		size_t at = 1;
		for (; at < data.size && data.data[at] != '"'; at++) {
			uint8_t c = data.data[at];
			if (c == '\\' && at + 3 < data.size && data.data[at + 1] == 'x') {
				c = (uint8_t)(hex_of(data.data[at + 2]) * 16 +
					      hex_of(data.data[at + 3]));
				at += 3;
			}
			buf_append_byte(&out, c);
		}
		data = span_after(data, at + 1);
		size_t size = out.size - begin;
		if (data.size > 0 && data.data[0] == '*') {
			size_t digits = 1;
			uint64_t times = 0;
			while (digits < data.size && data.data[digits] >= '0' &&
			       data.data[digits] <= '9')
				digits++;
			span_to_u64(span_of(data.data + 1, digits - 1), &times);
			while (times-- > 1)
				buf_append(&out, span_of(out.data + begin, size));
			data = span_after(data, digits);
		}
		data = span_trim(data);
	}
	if (data.size > 0 || out.overflow)
		broken(r, "strings are understood only as \"one\" \"two\"*3");
	row->record.data = buf_span(&out);
}

static void
read_data(struct reader *r, struct span data, struct row *row)
{
	char name[DNS_NAME_MAX + 1];
	uint64_t preference = 0;
	struct span word;

	if (span_eq(data, SPAN("fails")) || span_eq(data, SPAN("is bogus"))) {
		row->outcome = data.size == 5 ? DNS_FAILED : DNS_BOGUS;
		return;
	}
	row->text = malloc(TEXT_MAX);
	switch (row->type) {
	case DNS_A:
	case DNS_AAAA:
		if (!text_ip(data, ADDRESS_PORT, &row->record.address))
			broken(r, "that is no address");
		return;
	case DNS_TXT:
		read_strings(r, data, row);
		return;
	case DNS_MX:
		if (!text_word(&data, &word) || !span_to_u64(word, &preference))
			broken(r, "an MX has a preference");
		data = span_trim(data);
		row->record.preference = (uint16_t)preference;
		break;
	default:
		break;
	}
	if (span_eq(data, SPAN(".")))
		return;
	size_t size = name_normalize(data, name);
	if (size == 0)
		broken(r, "that is no name");
	memcpy(row->text, name, size);
	row->record.name = span_of(row->text, size);
}

/* NAME [TTL] [secure] TYPE DATA, or NAME fails. */
static void
read_row(struct reader *r, struct span name, struct span rest)
{
	struct row *row = &r->zone->rows[r->zone->count];
	struct span word, before = rest;
	uint64_t ttl_s;

	if (r->zone->count == ROWS_MAX)
		broken(r, "the zone is too large");
	*row = (struct row){ .ttl_s = TTL_S };
	if (name_normalize(name, row->name) == 0)
		broken(r, "that is no name");
	while (text_word(&rest, &word)) {
		if (span_to_u64(word, &ttl_s))
			row->ttl_s = (uint32_t)ttl_s;
		else if (span_eq(word, SPAN("secure")))
			row->is_secure = true;
		else
			break;
		before = rest;
	}
	row->type = type_of(word);
	read_data(r, span_trim(row->type == 0 ? before : rest), row);
	if (row->type == 0 && row->outcome == DNS_FOUND)
		broken(r, "a record needs a type");
	r->zone->count++;
}

static void
clear_zone(struct spf_zone *z)
{
	for (unsigned i = 0; i < z->count; i++)
		free(z->rows[i].text);
	z->count = 0;
}

/* ---- cases ---- */

static void
finish_case(struct reader *r)
{
	struct spf_case *c = &r->now;
	struct span from = span_of_string(c->from);

	if (!r->has_case)
		return;
	r->has_case = false;
	if (c->in.client.size == 0)
		broken(r, "the test before has no ip");
	c->in.helo = span_of_string(c->helo);
	size_t at = from.size;
	while (at > 0 && from.data[at - 1] != '@')
		at--;
	c->in.local = at > 0 ? span_first(from, at - 1) : span_none();
	c->in.domain = span_after(from, at);
	r->run(c);
}

static void
begin_case(struct reader *r, struct span name)
{
	finish_case(r);
	r->has_case = true;
	r->now = (struct spf_case){
		.zone = r->zone,
		.file = r->path,
		.line = r->line,
		.helo = "mail.example.org",
		.in = { .receiver = SPAN("mx.example.com"), .now_s = NOW_S },
		.result = SPF_NONE,
		.lookups = -1,
		.voids = -1,
		.security = -1,
		.ttl_s = -1,
	};
	snprintf(r->now.name, sizeof r->now.name, "%.*s", SPAN_ARG(name));
}

static void
set_text(char *to, size_t size, struct span from)
{
	size_t n = 0;

	for (size_t i = 0; i < from.size && n + 1 < size; i++) {
		if (from.data[i] == '\\' && i + 3 < from.size && from.data[i + 1] == 'x') {
			to[n++] = (char)(hex_of(from.data[i + 2]) * 16 + hex_of(from.data[i + 3]));
			i += 3;
		} else {
			to[n++] = (char)from.data[i];
		}
	}
	to[n] = 0;
}

static bool
set_result(struct spf_case *c, struct span value)
{
	for (unsigned i = SPF_NONE; i <= SPF_PERMERROR; i++) {
		if (span_eq(value, span_of_string(spf_result_label(i)))) {
			c->result = i;
			return true;
		}
	}
	return false;
}

static bool
set_key(struct reader *r, struct span key, struct span value)
{
	struct spf_case *c = &r->now;
	uint64_t number = 0;
	bool is_number = span_to_u64(value, &number);

	if (span_eq(key, SPAN("ip")))
		return text_ip(value, 0, &c->in.client);
	if (span_eq(key, SPAN("result")))
		return set_result(c, value);
	if (span_eq(key, SPAN("helo")))
		set_text(c->helo, sizeof c->helo, value);
	else if (span_eq(key, SPAN("from")))
		set_text(c->from, sizeof c->from, value);
	else if (span_eq(key, SPAN("explanation")))
		set_text(c->explanation, sizeof c->explanation, value);
	else if (span_eq(key, SPAN("mechanism")))
		set_text(c->mechanism, sizeof c->mechanism, value);
	else if (span_eq(key, SPAN("of")))
		set_text(c->of, sizeof c->of, value);
	else if (span_eq(key, SPAN("problem")))
		set_text(c->problem, sizeof c->problem, value);
	else if (span_eq(key, SPAN("receiver")))
		c->in.receiver = span_none(); /* the only value is "none" */
	else if (span_eq(key, SPAN("identity")))
		c->in.identity = span_eq(value, SPAN("helo")) ? SPF_HELO : SPF_MAIL_FROM;
	else if (span_eq(key, SPAN("security")))
		c->security = span_eq(value, SPAN("secure")) ? DNS_SECURE : DNS_INSECURE;
	else if (span_eq(key, SPAN("lookups")) && is_number)
		c->lookups = (int)number;
	else if (span_eq(key, SPAN("voids")) && is_number)
		c->voids = (int)number;
	else if (span_eq(key, SPAN("ttl")) && is_number)
		c->ttl_s = (long)number;
	else if (!span_eq(key, SPAN("pyspf")) && !span_eq(key, SPAN("mailauth")))
		return false;
	c->has_explanation |= span_eq(key, SPAN("explanation"));
	return true;
}

static void
read_line(struct reader *r, struct span line)
{
	bool is_indented = line.size > 0 && (line.data[0] == ' ' || line.data[0] == '\t');
	struct span rest = span_trim(line);
	struct span word;

	if (rest.size == 0 || rest.data[0] == '#' || !text_word(&rest, &word))
		return;
	rest = span_trim(rest);
	if (!is_indented && span_eq(word, SPAN("zone"))) {
		finish_case(r);
		clear_zone(r->zone);
	} else if (!is_indented && span_eq(word, SPAN("test"))) {
		begin_case(r, rest);
	} else if (is_indented && r->has_case) {
		if (!set_key(r, word, rest))
			broken(r, "there is no such key, or its value is wrong");
	} else if (is_indented) {
		read_row(r, word, rest);
	} else {
		broken(r, "a line begins with zone, test, or a space");
	}
}

void
spf_zone_read(const char *path, void (*run)(const struct spf_case *c))
{
	struct reader *r = calloc(1, sizeof *r);
	char *line = malloc(SPF_CASE_LINE_MAX);
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_true(r != NULL && line != NULL);
	r->zone = calloc(1, sizeof *r->zone);
	assert_non_null(r->zone);
	r->path = path;
	r->run = run;
	while (fgets(line, SPF_CASE_LINE_MAX, f) != NULL) {
		r->line++;
		read_line(r, span_of(line, strcspn(line, "\n")));
	}
	finish_case(r);
	clear_zone(r->zone);
	fclose(f);
	free(r->zone);
	free(line);
	free(r);
}

/* ---- answers ---- */

static bool
is_at(const struct row *row, struct span name)
{
	return span_eq(span_of_string(row->name), name);
}

static bool
exists(const struct spf_zone *z, struct span name)
{
	for (unsigned i = 0; i < z->count; i++) {
		struct span row = span_of_string(z->rows[i].name);
		if (span_eq(row, name) ||
		    (row.size > name.size && row.data[row.size - name.size - 1] == '.' &&
		     span_ends_with_nocase(row, name)))
			return true;
	}
	return false;
}

static const struct row *
find_row(const struct spf_zone *z, struct span name, unsigned type)
{
	for (unsigned i = 0; i < z->count; i++) {
		if (is_at(&z->rows[i], name) && z->rows[i].type == type)
			return &z->rows[i];
	}
	return NULL;
}

struct dns_answer *
spf_zone_answer(const struct spf_zone *z, struct span name, enum dns_type type, uint64_t now_ms)
{
	struct dns_record records[DNS_RECORDS_MAX];
	struct dns_answer a = { .security = DNS_SECURE, .name = name, .records = records };
	uint32_t ttl_s = TTL_S;
	bool is_secure = true;

	for (unsigned i = 0;; i++) {
		const struct row *alias = find_row(z, a.name, DNS_CNAME);
		if (alias == NULL)
			break;
		if (i == CNAMES_MAX)
			return answer_without(DNS_FAILED, name, SPAN("a chain without end"),
					      now_ms);
		is_secure &= alias->is_secure;
		ttl_s = alias->ttl_s < ttl_s ? alias->ttl_s : ttl_s;
		a.name = alias->record.name;
	}
	for (unsigned i = 0; i < z->count; i++) {
		const struct row *row = &z->rows[i];

		if (!is_at(row, a.name) || (row->type != 0 && row->type != type))
			continue;
		if (row->outcome != DNS_FOUND)
			return answer_without(row->outcome, name, SPAN("no answer in time"),
					      now_ms);
		is_secure &= row->is_secure;
		ttl_s = row->ttl_s < ttl_s ? row->ttl_s : ttl_s;
		if (a.count == DNS_RECORDS_MAX)
			a.is_cut = true;
		else
			records[a.count++] = row->record;
	}
	a.outcome = a.count > 0 ? DNS_FOUND : exists(z, a.name) ? DNS_NO_DATA : DNS_NO_DOMAIN;
	a.security = is_secure ? DNS_SECURE : DNS_INSECURE;
	a.expires_at_ms = now_ms + ttl_s * 1000u;
	return answer_new(&a);
}
