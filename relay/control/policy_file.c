/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/policy_file.h"

enum { NUMBERS_SIZE = 64, FIELDS = 6 };

static const char head[] = "ringpost-sts 1";

size_t
policy_file_size(const struct sts_held *h)
{
	size_t size = h->domain.size + h->id.size + NUMBERS_SIZE;

	for (unsigned i = 0; i < h->pattern_count; i++)
		size += h->patterns[i].size + 1;
	return size;
}

bool
policy_file_head(struct buf *out)
{
	buf_append_string(out, head);
	return buf_append_byte(out, '\n');
}

bool
policy_file_line(const struct sts_held *h, struct buf *out)
{
	buf_append(out, h->domain);
	buf_append_byte(out, ' ');
	buf_append(out, h->id);
	buf_append_byte(out, ' ');
	buf_append_string(out, sts_mode_label(h->mode));
	buf_append_byte(out, ' ');
	buf_append_number(out, h->max_age_s);
	buf_append_byte(out, ' ');
	buf_append_number(out, h->fetched_at_ms);
	buf_append_byte(out, ' ');
	for (unsigned i = 0; i < h->pattern_count; i++) {
		buf_append_string(out, i > 0 ? "," : "");
		buf_append(out, h->patterns[i]);
	}
	buf_append_string(out, h->pattern_count == 0 ? "-" : "");
	buf_append_byte(out, '\n');
	return !out->overflow;
}

static struct span
take_line(struct span *text)
{
	size_t end = span_find(*text, '\n', 0);
	struct span line = span_first(*text, end);

	*text = span_after(*text, end + 1);
	return line;
}

bool
policy_file_read_head(struct span *text)
{
	return span_eq(take_line(text), span_of_string(head));
}

static bool
read_mode(struct span word, enum sts_mode *out)
{
	for (*out = STS_NONE; *out <= STS_ENFORCE; (*out)++) {
		if (span_eq(word, span_of_string(sts_mode_label(*out))))
			return true;
	}
	return false;
}

static bool
read_patterns(struct span word, struct sts_policy *p)
{
	p->pattern_count = 0;
	if (span_eq(word, SPAN("-")))
		return true;
	for (size_t at = 0; at <= word.size;) {
		size_t end = span_find(word, ',', at);
		struct span pattern = span_of(word.data + at, end - at);
		if (p->pattern_count == STS_PATTERNS_MAX || !sts_pattern_is_valid(pattern))
			return false;
		p->patterns[p->pattern_count++] = pattern;
		at = end + 1;
	}
	return true;
}

struct sts_held *
policy_file_read(struct span *text)
{
	struct span line = take_line(text);
	struct span fields[FIELDS];
	struct sts_policy policy;
	uint64_t max_age_s, fetched_at_ms;
	size_t at = 0;

	for (unsigned i = 0; i < FIELDS; i++) {
		size_t end = span_find(line, ' ', at);
		fields[i] = at > line.size ? span_none() : span_of(line.data + at, end - at);
		at = end + 1;
	}
	if (at <= line.size || fields[0].size == 0 || fields[0].size > DNS_NAME_MAX ||
	    fields[1].size == 0 || fields[1].size > STS_ID_MAX ||
	    !read_mode(fields[2], &policy.mode) || !span_to_u64(fields[3], &max_age_s) ||
	    max_age_s > STS_AGE_MAX_S || !span_to_u64(fields[4], &fetched_at_ms) ||
	    fetched_at_ms > INT64_MAX || !read_patterns(fields[5], &policy))
		return NULL;
	if (policy.mode != STS_NONE && policy.pattern_count == 0)
		return NULL;
	policy.max_age_s = (uint32_t)max_age_s;
	return sts_held_new(fields[0], fields[1], &policy, fetched_at_ms);
}
