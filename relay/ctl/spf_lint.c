/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/spf_lint.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/name.h"
#include "dns/spf_macro.h"
#include "dns/spf_record.h"
#include "relay/ctl/spf_show.h"

enum {
	RECORD_SIZE_HINT = 450, /* RFC 7208 3.4: so that the whole answer fits into 512 bytes */
	WIDE_V4 = 8,            /* networks of fewer bits hold more than a 256th of all */
	WIDE_V6 = 16,
	TERM_MAX = 4096, /* longer ones are found to be so, and not read */
	SHOWN_MAX = 80,
};

enum how { LINT_TOP, LINT_INCLUDE, LINT_REDIRECT };

/* What is known of a record while its terms are gone through. */
struct reading {
	struct lint *lint;
	struct span domain;
	enum how how;
	struct span text;
	struct span term; /* in hand */
	bool has_all;
	struct span redirect; /* its domain-spec */
	bool redirect_has_macros;
	unsigned redirects;
	unsigned explanations;
};

/* ---- findings ---- */

static void find(struct lint *l, bool is_error, struct span domain, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void
find(struct lint *l, bool is_error, struct span domain, const char *format, ...)
{
	va_list arguments;

	l->errors += is_error;
	if (l->count == LINT_FINDINGS_MAX)
		return;
	struct lint_finding *f = &l->findings[l->count++];
	f->is_error = is_error;
	snprintf(f->domain, sizeof f->domain, "%.*s", SPAN_ARG(domain));
	va_start(arguments, format);
	vsnprintf(f->text, sizeof f->text, format, arguments);
	va_end(arguments);
}

/* A text of the record, for a finding. */
struct shown {
	char text[4 * SHOWN_MAX + 8];
};

static struct shown
shown_of(struct span text)
{
	struct shown s;
	struct buf out = buf_of(s.text, sizeof s.text - 1);

	spf_show_text(span_first(text, SHOWN_MAX), &out);
	if (text.size > SHOWN_MAX)
		buf_append_string(&out, "...");
	s.text[out.size] = 0;
	return s;
}

static void
find_term(const struct reading *r, bool is_error, const char *what)
{
	find(r->lint, is_error, r->domain, "%s: %s", shown_of(r->term).text, what);
}

/* ---- terms that ask ---- */

static void visit(struct lint *l, struct span domain, enum how how);

static bool
is_void(const struct dns_answer *a)
{
	return a->outcome == DNS_NO_DATA || a->outcome == DNS_NO_DOMAIN;
}

/* The name that a domain-spec without macros is; 0: none. */
static struct span
name_of(const struct reading *r, struct span spec, char out[DNS_NAME_MAX + 1])
{
	if (spec.size == 0)
		return r->domain;
	size_t size = name_normalize(spec, out);
	if (size == 0)
		find_term(r, false, "that is no domain, so it never matches");
	return span_of(out, size);
}

/* Are there addresses of either family? Where not, receivers count that as void. */
static void
check_address(const struct reading *r, struct span name, bool v4_alone)
{
	struct lint *l = r->lint;
	struct dns_answer *v4 = l->ask(l->context, name, DNS_A);
	struct dns_answer *v6 = v4_alone ? dns_answer_get(v4) : l->ask(l->context, name, DNS_AAAA);

	if (is_void(v4) && is_void(v6)) {
		l->voids++;
		find_term(r, false,
			  v4_alone ? "that name has no A record" : "that name has no addresses");
	} else if (v4->outcome == DNS_FAILED || v4->outcome == DNS_BOGUS) {
		find_term(r, true, "its addresses cannot be looked up: mails get temporary errors");
	}
	dns_answer_put(v4);
	dns_answer_put(v6);
}

static void
check_hosts(const struct reading *r, struct span name)
{
	struct lint *l = r->lint;
	struct dns_answer *a = l->ask(l->context, name, DNS_MX);

	if (is_void(a)) {
		l->voids++;
		find_term(r, false, "that domain has no MX records");
	} else if (a->outcome != DNS_FOUND) {
		find_term(r, true,
			  "its MX records cannot be looked up: mails get temporary errors");
	} else if (a->count > SPF_NAMES_MAX) {
		find_term(r, true, "that domain has more than 10 MX records (RFC 7208 4.6.4)");
	}
	dns_answer_put(a);
}

static void
check_lookup(const struct reading *r, const struct spf_term *t, struct span spec)
{
	char memory[DNS_NAME_MAX + 1];

	r->lint->lookups++;
	if (t->mechanism == SPF_PTR)
		find_term(r, false,
			  "ptr is slow and unreliable, and not to be used (RFC 7208 5.5)");
	if (t->wants_name)
		find_term(r, false, "%{p} is slow and unreliable, and not to be used (7.2)");
	if (t->has_macros || t->mechanism == SPF_PTR)
		return;
	struct span name = name_of(r, spec, memory);
	if (name.size == 0)
		return;
	if (t->mechanism == SPF_INCLUDE)
		visit(r->lint, name, LINT_INCLUDE);
	else if (t->mechanism == SPF_MX)
		check_hosts(r, name);
	else
		check_address(r, name, t->mechanism == SPF_EXISTS);
}

/* ---- terms ---- */

static void
check_network(const struct reading *r, const struct spf_term *t)
{
	bool is_wide = t->mechanism == SPF_IP4 ? t->prefix_v4 < WIDE_V4 : t->prefix_v6 < WIDE_V6;

	if (is_wide && t->result == SPF_PASS)
		find_term(r, t->prefix_v4 == 0 || t->prefix_v6 == 0,
			  "that network is so large that almost anyone passes");
}

static void
check_all(struct reading *r, const struct spf_term *t)
{
	if (t->result == SPF_PASS)
		find_term(r, true, "anyone passes");
	else if (t->result == SPF_NEUTRAL && r->how != LINT_INCLUDE)
		find_term(r, false, "of others nothing is said; ~all or -all would");
	r->has_all = true;
}

static void
check_mechanism(struct reading *r, const struct spf_record *parsed)
{
	const struct spf_term *t = &parsed->terms[0];

	if (r->has_all) {
		find_term(r, false, "is never reached, since it is behind all");
		return;
	}
	if (t->mechanism == SPF_ALL)
		check_all(r, t);
	else if (t->mechanism == SPF_IP4 || t->mechanism == SPF_IP6)
		check_network(r, t);
	else
		check_lookup(r, t, spf_piece_of(parsed, t->spec));
}

static void
check_explanation(const struct reading *r, const struct spf_record *parsed)
{
	char memory[DNS_NAME_MAX + 1];
	char reason[SPF_WHY_MAX];
	struct buf why = buf_of(reason, sizeof reason - 1);
	struct spf_macro_use use;
	struct lint *l = r->lint;

	if (parsed->explanation.has_macros)
		return;
	struct span name = name_of(r, spf_piece_of(parsed, parsed->explanation.spec), memory);
	if (name.size == 0)
		return;
	struct dns_answer *a = l->ask(l->context, name, DNS_TXT);
	if (a->outcome != DNS_FOUND)
		find_term(r, false, "there is no such text, so nothing is explained");
	else if (a->count != 1)
		find_term(r, false, "there are several texts, so none is used");
	else if (!spf_macro_check(a->records[0].data, SPF_MACRO_TEXT, &use, &why))
		find_term(r, false, "that text has an error, so it is not used");
	dns_answer_put(a);
}

static void
check_modifier(struct reading *r, const struct spf_record *parsed)
{
	size_t name_size = span_find(r->term, '=', 0);
	struct span name = span_first(r->term, name_size);
	static const char *const taken_for[] = { "include", "a",   "mx",     "ptr",
						 "ip4",     "ip6", "exists", "all" };

	if (parsed->redirect.text.size > 0) {
		r->redirects++;
		r->redirect = span_after(r->term, name_size + 1);
		r->redirect_has_macros = parsed->redirect.has_macros;
		return;
	}
	if (parsed->explanation.text.size > 0) {
		r->explanations++;
		check_explanation(r, parsed);
		return;
	}
	for (size_t i = 0; i < sizeof taken_for / sizeof taken_for[0]; i++) {
		if (span_eq_nocase(name, span_of_string(taken_for[i]))) {
			find_term(r, true,
				  "is ignored: a mechanism has a colon, not an equals "
				  "sign");
			return;
		}
	}
	find_term(r, false, "is no modifier that is known, and is ignored");
}

/* A term is parsed as the only one of a record, so that each has its error. */
static void
check_term(struct reading *r)
{
	char memory[TERM_MAX + 8];
	struct buf text = buf_of(memory, sizeof memory);
	char reason[SPF_WHY_MAX];
	struct buf why = buf_of(reason, sizeof reason - 1);
	struct spf_term term;
	struct spf_record parsed = { .terms = &term };

	buf_append_string(&text, "v=spf1 ");
	if (!buf_append(&text, r->term)) {
		find_term(r, true, "is very long");
		return;
	}
	if (!spf_record_parse(buf_span(&text), &parsed, &why)) {
		find(r->lint, true, r->domain, "%.*s", SPAN_ARG(buf_span(&why)));
		return;
	}
	if (parsed.count > 0)
		check_mechanism(r, &parsed);
	else
		check_modifier(r, &parsed);
}

static bool
stands_before(const struct reading *r, size_t begin)
{
	for (size_t at = 0; at < begin;) {
		size_t end = span_find(r->text, ' ', at);

		if (span_eq_nocase(span_of(r->text.data + at, end - at), r->term))
			return true;
		at = end + 1;
	}
	return false;
}

static void
check_terms(struct reading *r)
{
	size_t at = span_find(r->text, ' ', 0);

	while (at < r->text.size && r->lint->count < LINT_FINDINGS_MAX) {
		size_t end = span_find(r->text, ' ', at);

		r->term = span_of(r->text.data + at, end - at);
		if (r->term.size > 0) {
			if (stands_before(r, at))
				find_term(r, false, "stands there twice");
			check_term(r);
		}
		at = end + 1;
	}
}

static void
check_end(struct reading *r)
{
	char memory[DNS_NAME_MAX + 1];

	if (r->redirects > 1 || r->explanations > 1)
		find(r->lint, true, r->domain, "%s may stand there only once",
		     r->redirects > 1 ? "redirect" : "exp");
	if (r->redirects > 0 && r->has_all) {
		find(r->lint, false, r->domain, "redirect is ignored, since there is all");
	} else if (r->redirects > 0) {
		r->lint->lookups++;
		r->term = r->redirect;
		struct span name =
			r->redirect_has_macros ? span_none() : name_of(r, r->redirect, memory);
		if (name.size > 0)
			visit(r->lint, name, LINT_REDIRECT);
	} else if (!r->has_all && r->how != LINT_INCLUDE) {
		find(r->lint, false, r->domain,
		     "ends neither in all nor in redirect, so of others nothing is said");
	}
}

/* ---- records ---- */

static struct span
choose_record(struct lint *l, struct span domain, enum how how, const struct dns_answer *a)
{
	struct span text = span_none();
	unsigned found = 0;

	for (unsigned i = 0; i < a->count; i++) {
		if (!spf_record_is(a->records[i].data))
			continue;
		if (found++ == 0)
			text = a->records[i].data;
	}
	if (found > 1)
		find(l, true, domain, "has %u SPF records; there may be one", found);
	else if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		find(l, true, domain, "the record cannot be looked up: %.*s",
		     SPAN_ARG(span_first(a->why, SHOWN_MAX)));
	else if (found == 0 && how == LINT_TOP)
		find(l, true, domain, "has no SPF record");
	else if (found == 0)
		find(l, true, domain, "has no SPF record, though %s",
		     how == LINT_INCLUDE ? "it is included" : "a redirect leads there");
	return text;
}

static void
check_record(struct lint *l, struct span domain, enum how how, struct span text)
{
	struct reading r = { .lint = l, .domain = domain, .how = how, .text = text };
	unsigned before = l->lookups;

	ASSERT(l->record_count < LINT_RECORDS_MAX);
	struct lint_record *record = &l->records[l->record_count++];
	struct buf shown = buf_of(record->text, sizeof record->text - 1);
	record->level = l->level - 1;
	snprintf(record->domain, sizeof record->domain, "%.*s", SPAN_ARG(domain));
	spf_show_text(span_first(text, SHOWN_MAX * 3), &shown);
	if (text.size > RECORD_SIZE_HINT)
		find(l, false, domain,
		     "the record has %zu bytes: with more than 450 its answer may not fit into a "
		     "packet of 512",
		     text.size);
	check_terms(&r);
	check_end(&r);
	record->lookups = l->lookups - before;
}

static bool
is_on_path(const struct lint *l, struct span domain)
{
	for (unsigned i = 0; i < l->level; i++) {
		if (span_eq(span_of_string(l->path[i]), domain))
			return true;
	}
	return false;
}

static void
visit(struct lint *l, struct span domain, enum how how)
{
	if (is_on_path(l, domain)) {
		find(l, true, span_of_string(l->path[l->level - 1]),
		     "leads to %.*s again, in a circle", SPAN_ARG(domain));
		return;
	}
	if (l->level == LINT_LEVELS_MAX || l->record_count == LINT_RECORDS_MAX) {
		find(l, true, domain, "is not looked at: there are too many includes");
		return;
	}
	snprintf(l->path[l->level++], DNS_NAME_MAX + 1, "%.*s", SPAN_ARG(domain));
	struct dns_answer *a = l->ask(l->context, domain, DNS_TXT);
	struct span text = choose_record(l, domain, how, a);
	if (text.size > 0)
		check_record(l, domain, how, text);
	dns_answer_put(a);
	l->level--;
}

void
lint_domain(struct lint *l, struct span domain)
{
	l->level = 0;
	visit(l, domain, LINT_TOP);
	if (l->lookups > SPF_LOOKUPS_MAX)
		find(l, true, domain,
		     "up to %u terms ask the DNS; with more than 10 receivers give up (RFC 7208 "
		     "4.6.4)",
		     l->lookups);
	if (l->voids > SPF_VOIDS_MAX)
		find(l, true, domain,
		     "up to %u terms find nothing in the DNS; with more than 2 receivers give up "
		     "(4.6.4)",
		     l->voids);
}

/* ---- showing ---- */

void
lint_show(const struct lint *l, struct buf *out)
{
	for (unsigned i = 0; i < l->record_count; i++) {
		const struct lint_record *r = &l->records[i];

		for (unsigned n = 0; n < r->level; n++)
			buf_append_string(out, "  ");
		buf_printf(out, "%s (%u lookups): %s\n", r->domain, r->lookups, r->text);
	}
	for (unsigned i = 0; i < l->count; i++) {
		const struct lint_finding *f = &l->findings[i];

		buf_printf(out, "%s: %s: %s\n", f->is_error ? "error" : "warning", f->domain,
			   f->text);
	}
	if (l->count == LINT_FINDINGS_MAX)
		buf_append_string(out, "and maybe more\n");
	buf_printf(out, "%u of 10 lookups at the most, %u of 2 find nothing; %u errors\n",
		   l->lookups, l->voids, l->errors);
}

void *
lint_show_json(const struct lint *l)
{
	json_t *records = json_array();
	json_t *findings = json_array();

	for (unsigned i = 0; i < l->record_count; i++)
		json_array_append_new(records, json_pack("{s:i s:s s:i s:s}", "level",
							 (int)l->records[i].level, "domain",
							 l->records[i].domain, "lookups",
							 (int)l->records[i].lookups, "record",
							 l->records[i].text));
	for (unsigned i = 0; i < l->count; i++)
		json_array_append_new(
			findings, json_pack("{s:s s:s s:s}", "level",
					    l->findings[i].is_error ? "error" : "warning", "domain",
					    l->findings[i].domain, "text", l->findings[i].text));
	return json_pack("{s:b s:i s:i s:i s:o s:o}", "ok", l->errors == 0, "errors",
			 (int)l->errors, "lookups", (int)l->lookups, "voids", (int)l->voids,
			 "findings", findings, "records", records);
}
