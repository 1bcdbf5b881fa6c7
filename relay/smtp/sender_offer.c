/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/sender_parts.h"

/* The next word, without the blanks around it; *line moves behind it. */
static struct span
take_word(struct span *line)
{
	struct span rest = span_trim(*line);
	size_t end = 0;

	while (end < rest.size && rest.data[end] != ' ' && rest.data[end] != '\t')
		end++;
	*line = span_after(rest, end);
	return span_first(rest, end);
}

/* "NAME=number" of RFC 9422: one to six digits, not zero. */
static void
learn_limit(struct span word, struct span name, uint32_t *out)
{
	uint64_t value;

	if (word.size <= name.size || word.size > name.size + 7 || word.data[name.size] != '=')
		return;
	if (!span_eq_nocase(span_first(word, name.size), name))
		return;
	if (span_to_u64(span_after(word, name.size + 1), &value) && value > 0)
		*out = (uint32_t)value;
}

static void
learn_limits(struct sender_offer *o, struct span rest)
{
	/* A reply line bounds the words. */
	for (struct span word = take_word(&rest); word.size > 0; word = take_word(&rest)) {
		learn_limit(word, SPAN("RCPTMAX"), &o->recipient_max);
		learn_limit(word, SPAN("MAILMAX"), &o->mail_max);
		learn_limit(word, SPAN("RCPTDOMAINMAX"), &o->recipient_domain_max);
	}
}

static void
learn_size(struct sender_offer *o, struct span rest)
{
	uint64_t value;

	o->size = true;
	/* "SIZE" and "SIZE 0" state no limit (RFC 1870 4). */
	if (span_to_u64(take_word(&rest), &value))
		o->size_max = value;
}

static void
learn_mechanisms(struct sender_offer *o, struct span rest)
{
	for (struct span word = take_word(&rest); word.size > 0; word = take_word(&rest)) {
		enum sasl_mechanism m = sasl_find(word);
		if (m < SASL_MECHANISM_COUNT)
			o->auth |= (uint8_t)SASL_BIT(m);
	}
}

void
offer_learn(struct sender_offer *o, struct span line)
{
	struct span rest = line;
	/* "AUTH=LOGIN" is what servers of before RFC 2554 say, some of them to this day. */
	struct span old = SPAN("AUTH=");
	bool is_old = line.size > old.size && span_eq_nocase(span_first(line, old.size), old);
	struct span word = is_old ? SPAN("AUTH") : take_word(&rest);
	const struct {
		struct span keyword;
		bool *flag;
	} flags[] = {
		{ SPAN("PIPELINING"), &o->pipelining },
		{ SPAN("CHUNKING"), &o->chunking },
		{ SPAN("8BITMIME"), &o->eight_bit_mime },
		{ SPAN("SMTPUTF8"), &o->smtputf8 },
		{ SPAN("DSN"), &o->dsn },
		{ SPAN("STARTTLS"), &o->starttls },
		{ SPAN("REQUIRETLS"), &o->require_tls },
	};

	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		if (span_eq_nocase(word, flags[i].keyword))
			*flags[i].flag = true;
	}
	if (span_eq_nocase(word, SPAN("SIZE")))
		learn_size(o, rest);
	else if (span_eq_nocase(word, SPAN("LIMITS")))
		learn_limits(o, rest);
	else if (span_eq_nocase(word, SPAN("AUTH")))
		learn_mechanisms(o, is_old ? span_after(line, old.size) : rest);
}
