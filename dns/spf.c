/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/spf.h"

#include "core/base/assert.h"
#include "dns/name.h"
#include "dns/spf_machine.h"

enum { SHOWN_MAX = 100 };

/* ---- small things ---- */

static void
set_name(struct spf_name *n, struct span text)
{
	ASSERT(text.size <= DNS_NAME_MAX);
	n->size = text.size;
	if (text.size > 0)
		memcpy(n->text, text.data, text.size);
	n->text[text.size] = 0;
}

static struct spf_frame *
frame_of(struct spf *s)
{
	ASSERT(s->depth < SPF_FRAMES_MAX);
	return &s->frames[s->depth];
}

static void
show_step(struct spf *s, struct spf_step step)
{
	if (s->trace == NULL)
		return;
	step.depth = s->depth;
	step.domain = spf_name_span(&frame_of(s)->domain);
	s->trace(s->trace_context, &step);
}

/* Appends what may have come from anyone. */
static void
append_shown(struct buf *out, struct span text)
{
	struct span shown = span_first(text, SHOWN_MAX);

	for (size_t i = 0; i < shown.size; i++) {
		uint8_t c = shown.data[i];
		buf_append_byte(out, c >= ' ' && c < 0x7f ? c : '?');
	}
	if (shown.size < text.size)
		buf_append_string(out, "...");
}

static void
use_life(struct spf *s, enum dns_security security, uint64_t expires_at_ms)
{
	s->answers++;
	s->all_secure &= security == DNS_SECURE;
	if (expires_at_ms < s->outcome.expires_at_ms)
		s->outcome.expires_at_ms = expires_at_ms;
}

static void
use_answer(struct spf *s, const struct dns_answer *a)
{
	bool failed = a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS;

	use_life(s, failed ? DNS_INSECURE : a->security, a->expires_at_ms);
}

/* ---- the end ---- */

static void
finish(struct spf *s, enum spf_result result)
{
	ASSERT(s->phase != SPF_PHASE_DONE);
	s->phase = SPF_PHASE_DONE;
	s->wait = SPF_WAIT_NONE;
	s->outcome.result = result;
	s->outcome.security = s->answers > 0 && s->all_secure ? DNS_SECURE : DNS_INSECURE;
}

void
spf_finish_because(struct spf *s, enum spf_result result, struct span where, const char *what,
		   struct span why)
{
	struct buf text = buf_of(s->problem_text, sizeof s->problem_text);

	append_shown(&text, where);
	if (where.size > 0)
		buf_append_string(&text, ": ");
	buf_append_string(&text, what);
	append_shown(&text, why);
	s->outcome.problem = buf_span(&text);
	s->outcome.mechanism = span_none();
	s->outcome.mechanism_domain = span_none();
	show_step(s, (struct spf_step){ .kind = SPF_STEP_PROBLEM,
					.text = s->outcome.problem,
					.result = result });
	finish(s, result);
}

static void
permerror(struct spf *s, const char *what, struct span why)
{
	spf_finish_because(s, SPF_PERMERROR, spf_name_span(&frame_of(s)->domain), what, why);
}

static void
temperror(struct spf *s, const struct dns_answer *a)
{
	char memory[DNS_NAME_MAX + 32];
	struct buf where = buf_of(memory, sizeof memory);

	buf_append_string(&where, dns_type_text(s->question_type));
	buf_append_byte(&where, ' ');
	buf_append(&where, spf_name_span(&s->question));
	spf_finish_because(s, SPF_TEMPERROR, buf_span(&where),
			   a->outcome == DNS_BOGUS ? "the answer is bogus: " : "", a->why);
}

/* ---- questions ---- */

static void
ask(struct spf *s, enum spf_wait wait, enum dns_type type, struct span name)
{
	ASSERT(s->wait == SPF_WAIT_NONE && s->phase != SPF_PHASE_DONE);
	s->wait = wait;
	s->question_type = type;
	set_name(&s->question, name);
	show_step(s, (struct spf_step){ .kind = SPF_STEP_ASK, .type = type, .text = name });
}

static enum dns_type
address_type(const struct spf *s)
{
	return s->ip_size == 4 ? DNS_A : DNS_AAAA;
}

/* A lookup of those that have a limit. False: it is reached, and that was the end. */
static bool
count_lookup(struct spf *s)
{
	if (s->outcome.lookups++ < SPF_LOOKUPS_MAX)
		return true;
	s->outcome.lookups = SPF_LOOKUPS_MAX;
	permerror(s, "more than 10 terms that ask the DNS", span_none());
	return false;
}

/* The term in hand has an answer without records; it counts once (4.6.4). False: that was the
 * end. */
static bool
count_void(struct spf *s)
{
	if (s->is_void)
		return true;
	s->is_void = true;
	if (s->outcome.voids++ < SPF_VOIDS_MAX)
		return true;
	permerror(s, "more than 2 terms whose answer has no records", span_none());
	return false;
}

static bool
is_void(const struct dns_answer *a)
{
	return a->outcome == DNS_NO_DATA || a->outcome == DNS_NO_DOMAIN;
}

static bool
is_failure(const struct dns_answer *a)
{
	return a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS;
}

void
spf_enter_domain(struct spf *s, struct span domain, bool is_redirected)
{
	struct spf_frame *f = frame_of(s);

	spf_put_record(f);
	set_name(&f->domain, domain);
	f->at = 0;
	f->serial = ++s->serials;
	f->is_redirected = is_redirected;
	s->phase = SPF_PHASE_TERMS;
	s->is_begun = false;
	show_step(s, (struct spf_step){ .kind = SPF_STEP_BEGIN });
	ask(s, SPF_WAIT_RECORD, DNS_TXT, domain);
}

/* ---- networks ---- */

static bool
is_in_network(const uint8_t *ip, const uint8_t *network, size_t bits)
{
	size_t bytes = bits / 8;
	unsigned rest = bits % 8;

	if (memcmp(ip, network, bytes) != 0)
		return false;
	return rest == 0 || ((ip[bytes] ^ network[bytes]) >> (8 - rest)) == 0;
}

/* Has the answer an address whose network is the client's? */
static bool
answer_matches(struct spf *s, const struct dns_answer *a, uint8_t prefix_v4, uint8_t prefix_v6)
{
	size_t bits = s->ip_size == 4 ? prefix_v4 : prefix_v6;
	bool found = false;

	for (unsigned i = 0; i < a->count && !found; i++) {
		uint8_t memory[SPF_IP_TEXT_MAX];
		struct buf text = buf_of(memory, sizeof memory);
		uint8_t ip[16];

		size_t size = net_address_ip(&a->records[i].address, ip);
		found = size == s->ip_size && is_in_network(s->ip, ip, bits);
		if (s->trace == NULL)
			continue;
		net_address_show_ip(&a->records[i].address, &text);
		if (bits < s->ip_size * 8)
			buf_printf(&text, "/%zu", bits);
		show_step(s, (struct spf_step){ .kind = SPF_STEP_COMPARE,
						.text = buf_span(&text),
						.is_match = found });
	}
	return found;
}

/* ---- the client's names: ptr and %{p} ---- */

static unsigned
name_count(const struct spf *s)
{
	unsigned count = s->names == NULL ? 0 : s->names->count;

	return count < SPF_NAMES_MAX ? count : SPF_NAMES_MAX; /* the rest is ignored (4.6.4) */
}

static bool
is_below(struct span name, struct span domain)
{
	return name.size > domain.size && span_ends_with_nocase(name, domain) &&
	       name.data[name.size - domain.size - 1] == '.';
}

static void
ask_names(struct spf *s)
{
	struct net_address client;
	char memory[DNS_NAME_MAX];
	struct buf name = buf_of(memory, sizeof memory);

	net_address_of_ip(s->ip, s->ip_size, 0, &client);
	name_of_address(&client, &name);
	ask(s, SPF_WAIT_NAMES, DNS_PTR, buf_span(&name));
}

/* Looks whether the name's address is the client's; false: that is being asked for. */
static bool
is_name_judged(struct spf *s, unsigned i)
{
	char normal[DNS_NAME_MAX + 1];
	struct span name = s->names->records[i].name;

	if (s->validity[i] == SPF_NAME_UNKNOWN && name_normalize(name, normal) == 0)
		s->validity[i] = SPF_NAME_INVALID;
	if (s->validity[i] != SPF_NAME_UNKNOWN)
		return true;
	s->name = i;
	ask(s, SPF_WAIT_NAME_ADDRESS, address_type(s), name);
	return false;
}

/* For %{p}: the domain itself before names below it before others (7.3). */
static unsigned
rank_of(struct span name, struct span domain)
{
	if (span_eq_nocase(name, domain))
		return 0;
	return is_below(name, domain) ? 1 : 2;
}

/* Is %{p} known for this frame? False: something is being asked for, or it was the end. */
static bool
is_name_known(struct spf *s)
{
	struct spf_frame *f = frame_of(s);

	if (s->name_serial == f->serial)
		return true;
	if (!s->names_known) {
		bool explains =
			s->phase == SPF_PHASE_EXPLAIN_NAME || s->phase == SPF_PHASE_EXPLAIN_TEXT;
		if (explains || count_lookup(s))
			ask_names(s);
		return false;
	}
	s->values.name = span_none();
	for (unsigned rank = 0; rank < 3 && s->values.name.size == 0; rank++) {
		for (unsigned i = 0; i < name_count(s) && s->values.name.size == 0; i++) {
			struct span name = s->names->records[i].name;
			if (rank_of(name, spf_name_span(&f->domain)) != rank)
				continue;
			if (!is_name_judged(s, i))
				return false;
			if (s->validity[i] == SPF_NAME_VALID)
				s->values.name = name;
		}
	}
	s->name_serial = f->serial;
	return true;
}

/* ---- terms ---- */

static void run_leave(struct spf *s, enum spf_result result);

static struct spf_term *
term_of(struct spf *s)
{
	struct spf_frame *f = frame_of(s);

	ASSERT(f->record != NULL && f->at < f->record->count);
	return &f->record->terms[f->at];
}

static void
end_term(struct spf *s)
{
	s->is_begun = false;
	spf_put_answer(&s->hosts);
}

static void
no_match(struct spf *s)
{
	show_step(s, (struct spf_step){
			     .kind = SPF_STEP_RESULT,
			     .text = spf_piece_of(frame_of(s)->record, term_of(s)->text),
		     });
	end_term(s);
	frame_of(s)->at++;
}

static void
match(struct spf *s)
{
	struct spf_frame *f = frame_of(s);
	struct spf_term *t = term_of(s);

	end_term(s);
	if (s->depth == 0) {
		s->outcome.mechanism = spf_piece_of(f->record, t->text);
		s->outcome.mechanism_domain = spf_name_span(&f->domain);
	}
	show_step(s, (struct spf_step){
			     .kind = SPF_STEP_RESULT,
			     .text = spf_piece_of(f->record, t->text),
			     .is_match = true,
			     .result = t->result,
		     });
	run_leave(s, t->result);
}

static void
no_name(struct spf *s, struct span text)
{
	struct buf problem = buf_of(s->problem_text, sizeof s->problem_text);

	append_shown(&problem, text);
	buf_append_string(&problem, ": what its macros make is no name");
	show_step(s, (struct spf_step){ .kind = SPF_STEP_PROBLEM, .text = buf_span(&problem) });
}

/* Expands the domain-spec into the target, for which `wants_name` was seen to. False where that is
 * no name. */
static bool
expand_target(struct spf *s, struct spf_piece spec)
{
	struct spf_frame *f = frame_of(s);
	char name[DNS_NAME_MAX + 1];

	if (spec.size == 0) {
		s->target = f->domain;
		return true;
	}
	s->values.domain = spf_name_span(&f->domain);
	size_t size = spf_macro_name(spf_piece_of(f->record, spec), &s->values, name);
	set_name(&s->target, span_of(name, size));
	return size > 0;
}

/* Counts the term, and finds out what it is about. False: it goes on later, or is over. */
static bool
begin_term(struct spf *s, const struct spf_term *t)
{
	struct spf_frame *f = frame_of(s);
	struct span text = spf_piece_of(f->record, t->text);
	bool asks = t->mechanism != SPF_ALL && t->mechanism != SPF_IP4 && t->mechanism != SPF_IP6;

	if (t->wants_name && !is_name_known(s))
		return false;
	s->is_begun = true;
	s->is_void = false;
	s->target.size = 0;
	bool has_name = !asks || expand_target(s, t->spec);
	show_step(s, (struct spf_step){ .kind = SPF_STEP_TERM,
					.text = text,
					.target = spf_name_span(&s->target) });
	if (asks && !count_lookup(s))
		return false;
	if (has_name)
		return true;
	no_name(s, text);
	/* An include of what is no domain is one without a record (4.3, 5.2). */
	if (t->mechanism == SPF_INCLUDE && s->local_is_ascii)
		permerror(s, "includes what is no domain: ", text);
	else
		no_match(s);
	return false;
}

static void
run_network(struct spf *s, const struct spf_term *t)
{
	bool same = s->ip_size == (t->mechanism == SPF_IP4 ? 4 : 16);
	size_t bits = t->mechanism == SPF_IP4 ? t->prefix_v4 : t->prefix_v6;

	if (same && is_in_network(s->ip, t->ip, bits))
		match(s);
	else
		no_match(s);
}

/* Asks for the addresses of the next host; without any left, the term does not match. */
static void
run_hosts(struct spf *s)
{
	char normal[DNS_NAME_MAX + 1];

	if (s->hosts == NULL) {
		ask(s, SPF_WAIT_HOSTS, DNS_MX, spf_name_span(&s->target));
		return;
	}
	while (s->host < s->hosts->count) {
		struct span name = s->hosts->records[s->host_order[s->host]].name;
		size_t size = name_normalize(name, normal);

		if (size > 0) {
			ask(s, SPF_WAIT_HOST_ADDRESS, address_type(s), span_of(normal, size));
			return;
		}
		s->host++;
	}
	no_match(s);
}

static void
run_ptr(struct spf *s)
{
	struct span target = spf_name_span(&s->target);

	if (!s->names_known) {
		ask_names(s);
		return;
	}
	if (s->names_void && !count_void(s))
		return;
	for (unsigned i = 0; i < name_count(s); i++) {
		struct span name = s->names->records[i].name;
		bool fits = span_eq_nocase(name, target) || is_below(name, target);

		if (fits && !is_name_judged(s, i))
			return;
		bool is_match = fits && s->validity[i] == SPF_NAME_VALID;
		show_step(s, (struct spf_step){ .kind = SPF_STEP_COMPARE,
						.text = name,
						.is_match = is_match });
		if (is_match) {
			match(s);
			return;
		}
	}
	no_match(s);
}

static void
run_include(struct spf *s)
{
	struct spf_frame *f = frame_of(s);
	struct spf_name target = s->target;

	show_step(s, (struct spf_step){ .kind = SPF_STEP_ENTER,
					.text = spf_piece_of(f->record, term_of(s)->text),
					.target = spf_name_span(&target) });
	ASSERT(s->depth + 1 < SPF_FRAMES_MAX);
	s->depth++;
	spf_enter_domain(s, spf_name_span(&target), false);
}

static void
run_terms(struct spf *s)
{
	struct spf_frame *f = frame_of(s);

	if (f->at == f->record->count) {
		if (f->record->redirect.text.size > 0 && !f->record->has_all)
			s->phase = SPF_PHASE_REDIRECT;
		else
			run_leave(s, SPF_NEUTRAL);
		return;
	}
	const struct spf_term *t = term_of(s);
	if (!s->is_begun && !begin_term(s, t))
		return;
	switch ((enum spf_mechanism)t->mechanism) {
	case SPF_ALL:
		match(s);
		break;
	case SPF_IP4:
	case SPF_IP6:
		run_network(s, t);
		break;
	case SPF_A:
		ask(s, SPF_WAIT_ADDRESS, address_type(s), spf_name_span(&s->target));
		break;
	case SPF_EXISTS:
		ask(s, SPF_WAIT_ADDRESS, DNS_A, spf_name_span(&s->target)); /* also of IPv6 (5.7) */
		break;
	case SPF_MX:
		run_hosts(s);
		break;
	case SPF_PTR:
		run_ptr(s);
		break;
	case SPF_INCLUDE:
		run_include(s);
		break;
	}
}

static void
run_redirect(struct spf *s)
{
	struct spf_frame *f = frame_of(s);
	const struct spf_modifier *m = &f->record->redirect;
	struct span text = spf_piece_of(f->record, m->text);

	if (m->wants_name && !is_name_known(s))
		return;
	if (!count_lookup(s))
		return;
	if (!expand_target(s, m->spec)) {
		permerror(s, "redirects to what is no domain: ", text);
		return;
	}
	struct spf_name target = s->target;
	show_step(s, (struct spf_step){ .kind = SPF_STEP_ENTER,
					.text = text,
					.target = spf_name_span(&target) });
	spf_enter_domain(s, spf_name_span(&target), true);
}

/* check_host() of the frame comes to this. Not none, temperror and permerror, which are seen to
 * where they arise. */
static void
run_leave(struct spf *s, enum spf_result result)
{
	struct spf_frame *f = frame_of(s);

	show_step(s, (struct spf_step){ .kind = SPF_STEP_LEAVE, .result = result });
	if (s->depth > 0) {
		spf_put_record(f);
		s->depth--;
		s->phase = SPF_PHASE_TERMS;
		if (result == SPF_PASS) /* whatever else it came to, an include does not match */
			match(s);
		else
			no_match(s);
	} else if (result == SPF_FAIL && f->record->explanation.text.size > 0) {
		s->phase = SPF_PHASE_EXPLAIN_NAME;
	} else {
		finish(s, result);
	}
}

/* ---- explanations: what goes wrong here leaves the mail without one (6.2) ---- */

static void
run_explain_name(struct spf *s)
{
	const struct spf_modifier *m = &frame_of(s)->record->explanation;

	if (m->wants_name && !is_name_known(s))
		return;
	if (!expand_target(s, m->spec)) {
		no_name(s, spf_piece_of(frame_of(s)->record, m->text));
		finish(s, SPF_FAIL);
		return;
	}
	show_step(s, (struct spf_step){ .kind = SPF_STEP_EXPLAIN,
					.target = spf_name_span(&s->target) });
	ask(s, SPF_WAIT_EXPLANATION, DNS_TXT, spf_name_span(&s->target));
}

static void
run_explain_text(struct spf *s)
{
	struct span text = s->explanation->records[0].data;
	struct buf out = buf_of(s->explanation_text, sizeof s->explanation_text);
	char memory[SPF_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	struct spf_macro_use use;

	if (!spf_macro_check(text, SPF_MACRO_TEXT, &use, &why)) {
		show_step(s, (struct spf_step){ .kind = SPF_STEP_PROBLEM, .text = buf_span(&why) });
		finish(s, SPF_FAIL);
		return;
	}
	if (use.name && !is_name_known(s))
		return;
	s->values.domain = spf_name_span(&frame_of(s)->domain);
	if (spf_macro_text(text, &s->values, &out))
		s->outcome.explanation = buf_span(&out);
	show_step(s, (struct spf_step){ .kind = SPF_STEP_EXPLAIN, .text = s->outcome.explanation });
	finish(s, SPF_FAIL);
}

/* Works until there is a question or an outcome. Each step ends a term or enters a domain, and of
 * both there is a bounded number. */
static void
go_on(struct spf *s)
{
	while (s->wait == SPF_WAIT_NONE && s->phase != SPF_PHASE_DONE) {
		switch (s->phase) {
		case SPF_PHASE_TERMS:
			run_terms(s);
			break;
		case SPF_PHASE_REDIRECT:
			run_redirect(s);
			break;
		case SPF_PHASE_EXPLAIN_NAME:
			run_explain_name(s);
			break;
		case SPF_PHASE_EXPLAIN_TEXT:
			run_explain_text(s);
			break;
		case SPF_PHASE_DONE:
			break;
		}
	}
}

/* ---- answers ---- */

static void
on_record(struct spf *s, struct spf_record *record)
{
	struct spf_frame *f = frame_of(s);
	struct span domain = spf_name_span(&f->domain);

	use_life(s, record->kind == SPF_RECORD_FAILED ? DNS_INSECURE : record->security,
		 record->expires_at_ms);
	switch (record->kind) {
	case SPF_RECORD_FOUND:
		f->record = spf_record_get(record);
		show_step(s, (struct spf_step){ .kind = SPF_STEP_RECORD, .text = record->text });
		break;
	case SPF_RECORD_NONE:
		if (s->depth > 0 || f->is_redirected)
			spf_finish_because(s, SPF_PERMERROR, domain,
					   f->is_redirected ? "a redirect leads there, but "
							    : "it is included, but ",
					   record->why);
		else
			spf_finish_because(s, SPF_NONE, domain, "", record->why);
		break;
	case SPF_RECORD_SEVERAL:
	case SPF_RECORD_BROKEN:
		permerror(s, "", record->why);
		break;
	case SPF_RECORD_FAILED:
		spf_finish_because(s, SPF_TEMPERROR, domain, "", record->why);
		break;
	}
}

static void
on_address(struct spf *s, const struct dns_answer *a)
{
	const struct spf_term *t = term_of(s);

	if (is_failure(a))
		temperror(s, a);
	else if (is_void(a) && !count_void(s))
		return;
	else if (t->mechanism == SPF_EXISTS ? a->count > 0
					    : answer_matches(s, a, t->prefix_v4, t->prefix_v6))
		match(s);
	else if (a->is_cut)
		permerror(s, "more addresses than are read: ", spf_name_span(&s->target));
	else
		no_match(s);
}

/* By preference, so that the same records come to the same result, in whatever order they are. */
static void
sort_hosts(struct spf *s)
{
	const struct dns_record *records = s->hosts->records;

	for (unsigned i = 0; i < s->hosts->count; i++) {
		unsigned at = i;
		for (; at > 0 && records[i].preference < records[s->host_order[at - 1]].preference;
		     at--)
			s->host_order[at] = s->host_order[at - 1];
		s->host_order[at] = (uint8_t)i;
	}
}

static void
on_hosts(struct spf *s, struct dns_answer *a)
{
	if (is_failure(a)) {
		temperror(s, a);
	} else if (is_void(a)) {
		if (count_void(s))
			no_match(s);
	} else if (a->count > SPF_NAMES_MAX) {
		permerror(s, "more than 10 MX records: ", spf_name_span(&s->target));
	} else {
		s->hosts = dns_answer_get(a);
		s->host = 0;
		sort_hosts(s);
	}
}

static void
on_host_address(struct spf *s, const struct dns_answer *a)
{
	const struct spf_term *t = term_of(s);

	if (is_failure(a))
		temperror(s, a);
	else if (is_void(a) && !count_void(s))
		return;
	else if (answer_matches(s, a, t->prefix_v4, t->prefix_v6))
		match(s);
	else if (a->is_cut)
		permerror(s, "more addresses than are read: ", spf_name_span(&s->question));
	else
		s->host++;
}

/* A failure is no error: without names, there is no match (5.5). */
static void
on_names(struct spf *s, struct dns_answer *a)
{
	s->names_known = true;
	if (a->outcome == DNS_FOUND)
		s->names = dns_answer_get(a);
	s->names_void = is_void(a);
}

static void
on_name_address(struct spf *s, const struct dns_answer *a)
{
	ASSERT(s->name < name_count(s));
	s->validity[s->name] = answer_matches(s, a, 32, 128) ? SPF_NAME_VALID : SPF_NAME_INVALID;
}

static void
on_explanation(struct spf *s, struct dns_answer *a)
{
	if (a->outcome == DNS_FOUND && a->count == 1) {
		s->explanation = dns_answer_get(a);
		s->phase = SPF_PHASE_EXPLAIN_TEXT;
	} else {
		finish(s, SPF_FAIL);
	}
}

/* Takes the question as answered; returns which it was. */
static enum spf_wait
take_wait(struct spf *s)
{
	enum spf_wait wait = s->wait;

	ASSERT(wait != SPF_WAIT_NONE && s->phase != SPF_PHASE_DONE);
	s->wait = SPF_WAIT_NONE;
	return wait;
}

void
spf_answer_record(struct spf *s, struct spf_record *record)
{
	OBJ_CHECK(s, SPF_MAGIC);
	enum spf_wait wait = take_wait(s);
	ASSERT(wait == SPF_WAIT_RECORD);
	on_record(s, record);
	go_on(s);
}

void
spf_answer(struct spf *s, struct dns_answer *a)
{
	OBJ_CHECK(s, SPF_MAGIC);
	show_step(s, (struct spf_step){ .kind = SPF_STEP_ANSWER,
					.type = s->question_type,
					.text = spf_name_span(&s->question),
					.answer = a });
	if (s->wait == SPF_WAIT_RECORD) {
		struct spf_record *record = spf_record_new(a);
		if (record == NULL) {
			spf_give_up(s, SPF_NO_MEMORY);
			return;
		}
		spf_answer_record(s, record);
		spf_record_put(record);
		return;
	}
	enum spf_wait wait = take_wait(s);
	if (s->phase == SPF_PHASE_TERMS || s->phase == SPF_PHASE_REDIRECT)
		use_answer(s, a);
	if (wait == SPF_WAIT_ADDRESS)
		on_address(s, a);
	else if (wait == SPF_WAIT_HOSTS)
		on_hosts(s, a);
	else if (wait == SPF_WAIT_HOST_ADDRESS)
		on_host_address(s, a);
	else if (wait == SPF_WAIT_NAMES)
		on_names(s, a);
	else if (wait == SPF_WAIT_NAME_ADDRESS)
		on_name_address(s, a);
	else
		on_explanation(s, a);
	go_on(s);
}

bool
spf_next(struct spf *s, struct spf_question *q)
{
	OBJ_CHECK(s, SPF_MAGIC);
	if (s->phase == SPF_PHASE_DONE)
		return false;
	ASSERT(s->wait != SPF_WAIT_NONE);
	*q = (struct spf_question){
		.type = s->question_type,
		.name = spf_name_span(&s->question),
		.is_record = s->wait == SPF_WAIT_RECORD,
	};
	return true;
}

void
spf_give_up(struct spf *s, struct span why)
{
	OBJ_CHECK(s, SPF_MAGIC);
	if (s->phase == SPF_PHASE_DONE)
		return;
	/* Fail is fail, also where nobody says why. */
	if (s->phase == SPF_PHASE_EXPLAIN_NAME || s->phase == SPF_PHASE_EXPLAIN_TEXT)
		finish(s, SPF_FAIL);
	else
		spf_finish_because(s, SPF_TEMPERROR, spf_name_span(&frame_of(s)->domain), "", why);
}

const struct spf_outcome *
spf_outcome(const struct spf *s)
{
	OBJ_CHECK(s, SPF_MAGIC);
	ASSERT(s->phase == SPF_PHASE_DONE);
	return &s->outcome;
}
