/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/ctl/spf_show.h"

#include <jansson.h>

enum {
	TEXT_SHOWN_MAX = 4096, /* bytes of one text, before they are escaped */
	RECORDS_SHOWN_MAX = 16,
	ESCAPED_MAX = 4 * TEXT_SHOWN_MAX + 8,
};

void
spf_show_text(struct span text, struct buf *out)
{
	static const char digits[] = "0123456789abcdef";
	struct span shown = span_first(text, TEXT_SHOWN_MAX);

	for (size_t i = 0; i < shown.size; i++) {
		uint8_t c = shown.data[i];

		if (c >= ' ' && c < 0x7f) {
			buf_append_byte(out, c);
		} else {
			buf_append_string(out, "\\x");
			buf_append_byte(out, (uint8_t)digits[c >> 4]);
			buf_append_byte(out, (uint8_t)digits[c & 15]);
		}
	}
	if (shown.size < text.size)
		buf_append_string(out, "...");
}

void *
spf_show_json_text(struct span text)
{
	char memory[ESCAPED_MAX];
	struct buf out = buf_of(memory, sizeof memory);

	spf_show_text(text, &out);
	return json_stringn(memory, out.size);
}

static void
show_record(const struct dns_record *r, enum dns_type type, struct buf *out)
{
	if (type == DNS_A || type == DNS_AAAA) {
		net_address_show_ip(&r->address, out);
	} else if (type == DNS_TXT) {
		buf_append_byte(out, '"');
		spf_show_text(r->data, out);
		buf_append_byte(out, '"');
	} else {
		if (type == DNS_MX)
			buf_printf(out, "%u ", (unsigned)r->preference);
		spf_show_text(r->name.size == 0 ? SPAN(".") : r->name, out);
	}
}

static const char *
security_text(enum dns_security s)
{
	return s == DNS_SECURE ? "secure" : "insecure";
}

/* ---- text ---- */

static void
show_answer(const struct spf_step *step, struct buf *out)
{
	const struct dns_answer *a = step->answer;

	buf_printf(out, "%s ", dns_type_text(step->type));
	spf_show_text(step->text, out);
	buf_printf(out, ": %s", dns_outcome_label(a->outcome));
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS) {
		buf_append_string(out, ": ");
		spf_show_text(a->why, out);
		return;
	}
	buf_printf(out, ", %s", security_text(a->security));
	for (unsigned i = 0; i < a->count && i < RECORDS_SHOWN_MAX; i++) {
		buf_append_string(out, i == 0 ? ": " : ", ");
		show_record(&a->records[i], step->type, out);
	}
	if (a->count > RECORDS_SHOWN_MAX)
		buf_printf(out, " and %u more", a->count - RECORDS_SHOWN_MAX);
}

static void
show_with(const char *word, struct span text, const char *between, struct span target,
	  struct buf *out)
{
	buf_append_string(out, word);
	spf_show_text(text, out);
	if (target.size == 0)
		return;
	buf_append_string(out, between);
	spf_show_text(target, out);
}

static void
show_body(const struct spf_step *s, struct buf *out)
{
	switch (s->kind) {
	case SPF_STEP_BEGIN:
		show_with("the record of ", s->domain, "", span_none(), out);
		break;
	case SPF_STEP_ANSWER:
		show_answer(s, out);
		break;
	case SPF_STEP_RECORD:
		show_with("record: ", s->text, "", span_none(), out);
		break;
	case SPF_STEP_TERM:
		show_with("term ", s->text, ", of ", s->target, out);
		break;
	case SPF_STEP_COMPARE:
		show_with("  ", s->text, "", span_none(), out);
		buf_append_string(out, s->is_match ? ": is the client's" : ": is not");
		break;
	case SPF_STEP_RESULT:
		show_with("  ", s->text, "", span_none(), out);
		buf_printf(out, ": %s%s", s->is_match ? "match, " : "no match",
			   s->is_match ? spf_result_label(s->result) : "");
		break;
	case SPF_STEP_ENTER:
		show_with("", s->text, ": goes on with ", s->target, out);
		break;
	case SPF_STEP_LEAVE:
		show_with("", s->domain, "", span_none(), out);
		buf_printf(out, " comes to %s", spf_result_label(s->result));
		break;
	case SPF_STEP_EXPLAIN:
		show_with("explanation ", s->text, "of ", s->target, out);
		break;
	case SPF_STEP_PROBLEM:
		show_with("problem: ", s->text, "", span_none(), out);
		break;
	case SPF_STEP_ASK:
		break;
	}
}

void
spf_show_step(const struct spf_step *step, struct buf *out)
{
	if (step->kind == SPF_STEP_ASK) /* its answer repeats it */
		return;
	for (unsigned i = 0; i < step->depth; i++)
		buf_append_string(out, "  ");
	show_body(step, out);
	buf_append_byte(out, '\n');
}

static void
show_line(const char *word, struct span text, struct buf *out)
{
	if (text.size == 0)
		return;
	buf_printf(out, "%-12s ", word);
	spf_show_text(text, out);
	buf_append_byte(out, '\n');
}

static uint64_t
ttl_of(const struct spf_outcome *o, uint64_t now_ms)
{
	return o->expires_at_ms == UINT64_MAX || o->expires_at_ms < now_ms
		       ? 0
		       : (o->expires_at_ms - now_ms) / 1000;
}

void
spf_show_outcome(const struct spf_outcome *o, uint64_t now_ms, struct buf *out)
{
	buf_printf(out, "\n%-12s %s\n", "result", spf_result_label(o->result));
	buf_printf(out, "%-12s %s\n", "identity", spf_identity_label(o->identity));
	show_line("domain", o->domain, out);
	show_line("mechanism", o->mechanism, out);
	show_line("of", o->mechanism_domain, out);
	show_line("explanation", o->explanation, out);
	show_line("problem", o->problem, out);
	buf_printf(out, "%-12s %u of %u, %u of %u without records\n", "lookups", o->lookups,
		   (unsigned)SPF_LOOKUPS_MAX, o->voids, (unsigned)SPF_VOIDS_MAX);
	buf_printf(out, "%-12s %s\n", "dnssec", security_text(o->security));
	buf_printf(out, "%-12s %llu s\n", "ttl", (unsigned long long)ttl_of(o, now_ms));
}

/* ---- JSON ---- */

static void
set_text(json_t *object, const char *key, struct span text)
{
	if (text.size > 0)
		json_object_set_new(object, key, spf_show_json_text(text));
}

static json_t *
answer_json(const struct spf_step *step, json_t *object)
{
	const struct dns_answer *a = step->answer;
	json_t *records = json_array();

	for (unsigned i = 0; i < a->count; i++) {
		char memory[ESCAPED_MAX];
		struct buf text = buf_of(memory, sizeof memory);

		show_record(&a->records[i], step->type, &text);
		json_array_append_new(records, json_stringn(memory, text.size));
	}
	json_object_set_new(object, "outcome", json_string(dns_outcome_label(a->outcome)));
	json_object_set_new(object, "dnssec", json_string(security_text(a->security)));
	json_object_set_new(object, "records", records);
	set_text(object, "why", a->why);
	return object;
}

void *
spf_show_step_json(const struct spf_step *s)
{
	json_t *object = json_object();
	bool decides = s->kind == SPF_STEP_LEAVE || (s->kind == SPF_STEP_RESULT && s->is_match) ||
		       (s->kind == SPF_STEP_PROBLEM && s->result != SPF_NONE);

	json_object_set_new(object, "step", json_string(spf_step_label(s->kind)));
	json_object_set_new(object, "depth", json_integer(s->depth));
	set_text(object, "domain", s->domain);
	if (s->kind == SPF_STEP_ASK || s->kind == SPF_STEP_ANSWER)
		json_object_set_new(object, "type", json_string(dns_type_text(s->type)));
	set_text(object, "text", s->text);
	set_text(object, "target", s->target);
	if (s->answer != NULL)
		answer_json(s, object);
	if (s->kind == SPF_STEP_COMPARE || s->kind == SPF_STEP_RESULT)
		json_object_set_new(object, "match", json_boolean(s->is_match));
	if (decides)
		json_object_set_new(object, "result", json_string(spf_result_label(s->result)));
	return object;
}

void *
spf_show_outcome_json(const struct spf_outcome *o, uint64_t now_ms, void *steps)
{
	json_t *object = json_object();

	json_object_set_new(object, "result", json_string(spf_result_label(o->result)));
	json_object_set_new(object, "explanation", spf_show_json_text(o->explanation));
	json_object_set_new(object, "identity", json_string(spf_identity_label(o->identity)));
	json_object_set_new(object, "domain", spf_show_json_text(o->domain));
	set_text(object, "mechanism", o->mechanism);
	set_text(object, "mechanism_domain", o->mechanism_domain);
	set_text(object, "problem", o->problem);
	json_object_set_new(object, "lookups", json_integer(o->lookups));
	json_object_set_new(object, "voids", json_integer(o->voids));
	json_object_set_new(object, "dnssec", json_string(security_text(o->security)));
	json_object_set_new(object, "ttl", json_integer((json_int_t)ttl_of(o, now_ms)));
	json_object_set_new(object, "steps", steps);
	return object;
}
