/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/fault.h"

#include "core/base/assert.h"
#include "core/base/unit.h"

enum argument { ARGUMENT_NONE, ARGUMENT_PHASE, ARGUMENT_BYTES, ARGUMENT_DURATION };

static const struct row {
	const char *word;
	enum argument argument;
	enum fault_phase phase;
	const char *text;
} kinds[FAULT_KIND_COUNT] = {
#define FAULT(name, word, argument, phase, text) \
	[FAULT_##name] = { word, ARGUMENT_##argument, FAULT_AT_##phase, text },
#include "bench/faults.def"
#undef FAULT
};

static const struct {
	const char *word;
	const char *text;
} phases[FAULT_PHASE_COUNT] = {
#define FAULT_PHASE(name, word, text) [FAULT_AT_##name] = { word, text },
#include "bench/fault_phases.def"
#undef FAULT_PHASE
};

static const char *const forms[] = {
	[ARGUMENT_NONE] = "",
	[ARGUMENT_PHASE] = "=PHASE",
	[ARGUMENT_BYTES] = "=SIZE",
	[ARGUMENT_DURATION] = "=TIME[@PHASE]",
};

_Static_assert(FAULT_PATTERN_MAX <= UINT8_MAX, "its size is kept in a byte");

/* ---- reading a rule ---- */

static bool
refuse(struct buf *why, struct span what, const char *remedy)
{
	buf_append_byte(why, '\'');
	buf_append_json(why, what, 60);
	buf_append_string(why, "' ");
	buf_append_string(why, remedy);
	return false;
}

static void
list_words(struct buf *why, enum fault_phase from)
{
	for (unsigned i = from; i < FAULT_PHASE_COUNT; i++)
		buf_printf(why, "%s%s", i > (unsigned)from ? ", " : "", phases[i].word);
}

/* "12.5%" in millionths of a per cent. */
static bool
read_share(struct span text, uint32_t *share)
{
	size_t dot = span_find(text, '.', 0);
	struct span fraction = span_after(text, dot + 1);
	uint64_t whole;
	uint64_t part = 0;

	if (!span_to_u64(span_first(text, dot), &whole) || whole > 100)
		return false;
	if (dot < text.size && (fraction.size > 6 || !span_to_u64(fraction, &part)))
		return false;
	for (size_t i = fraction.size; i < 6; i++)
		part *= 10;
	whole = whole * (FAULT_SHARE_WHOLE / 100) + part;
	if (whole == 0 || whole > FAULT_SHARE_WHOLE)
		return false;
	*share = (uint32_t)whole;
	return true;
}

static bool
read_when(struct fault_rule *r, struct span text, struct buf *why)
{
	size_t per_cent = span_find(text, '%', 0);
	size_t comma = span_find(text, ',', 0);
	bool has_share = per_cent < text.size && (comma == text.size || comma == per_cent + 1) &&
			 (comma < text.size || per_cent + 1 == text.size);
	struct span pattern = text;

	r->share = FAULT_SHARE_WHOLE;
	if (has_share) {
		pattern = span_after(text, comma + 1);
		if (!read_share(span_first(text, per_cent), &r->share))
			return refuse(why, span_first(text, per_cent + 1),
				      "is no share; write more than 0 and at most 100 per cent "
				      "with up to six decimals, as in 0.1%");
	}
	if (pattern.size == 0 && (!has_share || comma < text.size))
		return refuse(why, text,
			      "does not say when; write a share, a pattern of recipients or "
			      "SHARE,PATTERN in front of the colon, as in 5%:defer");
	if (pattern.size > FAULT_PATTERN_MAX)
		return refuse(why, pattern, "is too long a pattern; 128 bytes are the limit");
	if (pattern.size > 0)
		memcpy(r->pattern, pattern.data, pattern.size);
	r->pattern_size = (uint8_t)pattern.size;
	return true;
}

static bool
read_phase(struct fault_rule *r, struct span text, struct buf *why)
{
	for (unsigned i = 0; i < FAULT_PHASE_COUNT; i++) {
		if (span_eq(text, span_of_string(phases[i].word))) {
			r->phase = (uint8_t)i;
			return true;
		}
	}
	refuse(why, text, "is no phase; write one of ");
	list_words(why, FAULT_AT_CONNECT);
	return false;
}

static bool
read_rate(struct fault_rule *r, struct span text, struct buf *why)
{
	uint64_t rate;

	/* The unit may be left out: these are small numbers. */
	if ((!span_to_u64(text, &rate) && !size_parse(text, &rate)) || rate < FAULT_RATE_MIN ||
	    rate > UINT32_MAX)
		return refuse(why, text,
			      "is no number of bytes a second; write as in slow=100 or slow=10KiB");
	r->amount = (uint32_t)rate;
	/* The pattern is known to match at a RCPT. */
	if (r->pattern_size > 0)
		r->phase = FAULT_AT_RCPT;
	return true;
}

static bool
read_duration(struct fault_rule *r, struct span text, struct buf *why)
{
	size_t at = span_find(text, '@', 0);
	uint64_t ms;

	if (!duration_parse(span_first(text, at), &ms) || ms == 0 || ms > FAULT_LATE_MAX_MS)
		return refuse(why, span_first(text, at),
			      "is no duration; write a number with ms, s, m or h, at most 24h, as "
			      "in late=500ms");
	r->amount = (uint32_t)ms;
	return at == text.size || read_phase(r, span_after(text, at + 1), why);
}

static bool
read_argument(struct fault_rule *r, struct span what, struct buf *why)
{
	size_t equals = span_find(what, '=', 0);
	struct span text = span_after(what, equals + 1);
	const struct row *row = &kinds[r->kind];

	if (row->argument == ARGUMENT_NONE) {
		if (equals < what.size)
			return refuse(why, what, "takes no argument; leave out what begins with =");
		return true;
	}
	if (text.size == 0) {
		refuse(why, what, "lacks its argument; write ");
		buf_printf(why, "%s%s", row->word, forms[row->argument]);
		return false;
	}
	if (row->argument == ARGUMENT_PHASE)
		return read_phase(r, text, why);
	if (row->argument == ARGUMENT_BYTES)
		return read_rate(r, text, why);
	return read_duration(r, text, why);
}

static bool
read_what(struct fault_rule *r, struct span what, struct buf *why)
{
	struct span word = span_first(what, span_find(what, '=', 0));

	for (unsigned i = FAULT_NONE + 1; i < FAULT_KIND_COUNT; i++) {
		if (span_eq(word, span_of_string(kinds[i].word))) {
			r->kind = (uint8_t)i;
			r->phase = (uint8_t)kinds[i].phase;
			return read_argument(r, what, why);
		}
	}
	refuse(why, word, "is nothing that the sink can do; write one of ");
	for (unsigned i = FAULT_NONE + 1; i < FAULT_KIND_COUNT; i++)
		buf_printf(why, "%s%s", i > FAULT_NONE + 1 ? ", " : "", kinds[i].word);
	return false;
}

bool
fault_add(struct fault_rules *all, struct span text, struct buf *why)
{
	struct fault_rule r = { 0 };
	uint32_t bit;
	size_t colon = text.size;

	/* The last one: an address may hold one, too ([IPv6:...]). */
	while (colon > 0 && text.data[colon - 1] != ':')
		colon--;
	if (colon == 0)
		return refuse(why, text,
			      "is no rule; write WHEN:WHAT, as in 5%:defer or *@slow.test:late=2s");
	if (all->count == FAULT_RULES_MAX)
		return refuse(why, text, "is one rule too many; 32 are the limit");
	if (!read_when(&r, span_first(text, colon - 1), why) ||
	    !read_what(&r, span_after(text, colon), why))
		return false;
	if (r.pattern_size > 0 && r.phase < FAULT_AT_RCPT) {
		refuse(why, text, "matches recipients before any is known; use one of ");
		list_words(why, FAULT_AT_RCPT);
		return false;
	}
	bit = 1U << all->count;
	all->rules[all->count++] = r;
	all->phases |= 1U << r.phase;
	all->general |= r.pattern_size == 0 ? bit : 0;
	all->replies |= r.kind <= FAULT_REFUSE_DATA ? bit : 0;
	return true;
}

/* ---- help ---- */

void
fault_show_help(struct buf *out)
{
	uint8_t memory[64];

	buf_append_string(
		out, "WHEN:WHAT; WHEN is a share (5%), a pattern of recipients (*@slow.test) or "
		     "SHARE,PATTERN.\nWHAT is one of:\n");
	for (unsigned i = FAULT_NONE + 1; i < FAULT_KIND_COUNT; i++) {
		struct buf left = buf_of(memory, sizeof memory);
		buf_printf(&left, "%s%s", kinds[i].word, forms[kinds[i].argument]);
		buf_printf(out, "  %-20.*s%s\n", SPAN_ARG(buf_span(&left)), kinds[i].text);
	}
	buf_printf(out, "PHASE (of late: %s unless told) is one of:\n",
		   phases[kinds[FAULT_LATE].phase].word);
	for (unsigned i = 0; i < FAULT_PHASE_COUNT; i++)
		buf_printf(out, "  %-20s%s\n", phases[i].word, phases[i].text);
}

/* ---- striking ---- */

/* Backtracks to the last * only, which suffices, since * matches anything. */
static bool
matches(struct span pattern, struct span text)
{
	size_t p = 0;
	size_t t = 0;
	size_t star = SIZE_MAX; /* position behind the last one */
	size_t held = 0;        /* first byte that it does not cover */

	while (t < text.size) {
		if (p < pattern.size && pattern.data[p] == '*') {
			star = ++p;
			held = t;
		} else if (p < pattern.size &&
			   ascii_lower(pattern.data[p]) == ascii_lower(text.data[t])) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star;
			t = ++held;
		} else {
			return false;
		}
	}
	while (p < pattern.size && pattern.data[p] == '*')
		p++;
	return p == pattern.size;
}

uint32_t
fault_match(const struct fault_rules *all, struct span recipient)
{
	uint32_t matched = all->general;

	for (unsigned i = 0; i < all->count; i++) {
		const struct fault_rule *r = &all->rules[i];
		if (r->pattern_size > 0 && matches(span_of(r->pattern, r->pattern_size), recipient))
			matched |= 1U << i;
	}
	return matched;
}

/* splitmix64. */
static uint64_t
draw(uint64_t *random)
{
	uint64_t z = *random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static bool
strikes(const struct fault_rule *r, uint64_t *random)
{
	if (r->share == FAULT_SHARE_WHOLE)
		return true;
	return (draw(random) >> 32) * FAULT_SHARE_WHOLE >> 32 < r->share;
}

void
fault_judge(const struct fault_rules *all, enum fault_phase phase, uint32_t matched,
	    uint64_t *random, struct fault_verdict *out)
{
	*out = (struct fault_verdict){ .kind = FAULT_NONE };
	for (unsigned i = 0; i < all->count; i++) {
		const struct fault_rule *r = &all->rules[i];
		bool decides = r->kind != FAULT_SLOW && r->kind != FAULT_LATE;

		if (r->phase != phase || (matched & 1U << i) == 0 || !strikes(r, random))
			continue;
		if (decides ? out->kind != FAULT_NONE
			    : (r->kind == FAULT_SLOW ? out->rate : out->late_ms) != 0)
			continue;
		out->struck++;
		if (decides)
			out->kind = r->kind;
		else if (r->kind == FAULT_SLOW)
			out->rate = r->amount;
		else
			out->late_ms = r->amount;
	}
}
