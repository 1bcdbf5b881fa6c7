/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/sts.h"

enum { KEY_MAX = 32, LABEL_MAX = 63, NUMBER_MAX = 10 };

static const char *const modes[] = {
	[STS_NONE] = "none",
	[STS_TESTING] = "testing",
	[STS_ENFORCE] = "enforce",
};

const char *
sts_mode_label(enum sts_mode m)
{
	ASSERT((size_t)m < sizeof modes / sizeof modes[0]);
	return modes[m];
}

static bool
is_alphanumeric(uint8_t c)
{
	uint8_t lower = ascii_lower(c);

	return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9');
}

/* sts-ext-name: also all that is specified. */
static bool
is_key(struct span s)
{
	if (s.size == 0 || s.size > KEY_MAX || !is_alphanumeric(s.data[0]))
		return false;
	for (size_t i = 1; i < s.size; i++) {
		uint8_t c = s.data[i];
		if (!is_alphanumeric(c) && c != '_' && c != '-' && c != '.')
			return false;
	}
	return true;
}

/* ---- the record ---- */

/* sts-ext-value of a record. */
static bool
is_record_value(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] <= ' ' || s.data[i] >= 0x7f || s.data[i] == '=')
			return false;
	}
	return s.size > 0;
}

static bool
is_id(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (!is_alphanumeric(s.data[i]))
			return false;
	}
	return s.size > 0 && s.size <= STS_ID_MAX;
}

bool
sts_record_parse(struct span text, struct span *id, bool *is_other)
{
	struct span version = SPAN("v=STSv1");
	size_t at = span_find(text, ';', 0);

	*id = span_none();
	*is_other = !span_starts_with(text, version) || at == text.size ||
		    span_trim(span_after(span_first(text, at), version.size)).size > 0;
	if (*is_other)
		return false;
	while (at < text.size) {
		size_t end = span_find(text, ';', at + 1);
		struct span field = span_trim(span_of(text.data + at + 1, end - at - 1));
		size_t equals = span_find(field, '=', 0);
		at = end;
		if (field.size == 0 && end == text.size)
			break; /* the delimiter at the end */
		struct span key = span_first(field, equals);
		struct span value = span_after(field, equals + 1);
		if (!is_key(key) || !is_record_value(value))
			return false;
		if (span_eq(key, SPAN("id")) && id->size == 0) {
			if (!is_id(value))
				return false;
			*id = value;
		}
	}
	return id->size > 0;
}

bool
sts_records_find(const struct span *texts, size_t count, struct span *id)
{
	unsigned found = 0;
	bool valid = false;

	for (size_t i = 0; i < count; i++) {
		bool is_other;
		struct span one;
		bool good = sts_record_parse(texts[i], &one, &is_other);
		if (is_other)
			continue;
		found++;
		valid = good;
		*id = one;
	}
	return found == 1 && valid;
}

/* ---- the policy ---- */

struct reading {
	struct sts_policy *policy;
	struct buf *why; /* or NULL */
	bool has_version;
	bool has_mode;
	bool has_max_age;
};

static bool
refuse(struct reading *r, const char *what, struct span value)
{
	if (r->why == NULL)
		return false;
	buf_append_string(r->why, what);
	if (value.size > 0) {
		buf_append_string(r->why, ": ");
		buf_append(r->why, span_first(value, 100));
	}
	return false;
}

static bool
is_label(struct span s)
{
	if (s.size == 0 || s.size > LABEL_MAX || s.data[0] == '-' || s.data[s.size - 1] == '-')
		return false;
	for (size_t i = 0; i < s.size; i++) {
		if (!is_alphanumeric(s.data[i]) && s.data[i] != '-' && s.data[i] != '_')
			return false;
	}
	return true;
}

bool
sts_pattern_is_valid(struct span pattern)
{
	if (pattern.size > STS_PATTERN_MAX)
		return false;
	if (span_starts_with(pattern, SPAN("*.")))
		pattern = span_after(pattern, 2);
	for (size_t at = 0; at <= pattern.size;) {
		size_t end = span_find(pattern, '.', at);
		if (!is_label(span_of(pattern.data + at, end - at)))
			return false;
		at = end + 1;
	}
	return pattern.size > 0;
}

static bool
take_mode(struct reading *r, struct span value)
{
	if (r->has_mode)
		return true;
	for (unsigned i = 0; i < sizeof modes / sizeof modes[0]; i++) {
		if (!span_eq(value, span_of_string(modes[i])))
			continue;
		r->policy->mode = (enum sts_mode)i;
		r->has_mode = true;
		return true;
	}
	return refuse(r, "no such mode", value);
}

static bool
take_max_age(struct reading *r, struct span value)
{
	uint64_t age_s;

	if (r->has_max_age)
		return true;
	if (value.size > NUMBER_MAX || !span_to_u64(value, &age_s) || age_s > STS_AGE_MAX_S)
		return refuse(r, "max_age is no number up to 31557600", value);
	r->policy->max_age_s = (uint32_t)age_s;
	r->has_max_age = true;
	return true;
}

static bool
take_pattern(struct reading *r, struct span value)
{
	/* Some write a name with a dot at its end, which means the same. */
	if (value.size > 1 && value.data[value.size - 1] == '.')
		value.size--;
	if (!sts_pattern_is_valid(value))
		return refuse(r, "mx is no name of a host", value);
	if (r->policy->pattern_count == STS_PATTERNS_MAX)
		return refuse(r, "more mx than are read (128)", span_none());
	r->policy->patterns[r->policy->pattern_count++] = value;
	return true;
}

/* Text without controls; UTF-8 in what is not known to us. */
static bool
is_value(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] < ' ' || s.data[i] == 0x7f)
			return false;
	}
	return s.size > 0;
}

static bool
take_line(struct reading *r, struct span line)
{
	size_t colon = span_find(line, ':', 0);
	struct span key = span_first(line, colon);
	struct span value = span_trim(span_after(line, colon + 1));

	if (colon == line.size || !is_key(key) || !is_value(value))
		return refuse(r, "a line is no field", line);
	if (span_eq(key, SPAN("version"))) {
		if (!r->has_version && !span_eq(value, SPAN("STSv1")))
			return refuse(r, "no such version", value);
		r->has_version = true;
		return true;
	}
	if (span_eq(key, SPAN("mode")))
		return take_mode(r, value);
	if (span_eq(key, SPAN("max_age")))
		return take_max_age(r, value);
	if (span_eq(key, SPAN("mx")))
		return take_pattern(r, value);
	return true;
}

static bool
is_complete(struct reading *r)
{
	if (!r->has_version)
		return refuse(r, "it has no version", span_none());
	if (!r->has_mode)
		return refuse(r, "it has no mode", span_none());
	if (!r->has_max_age)
		return refuse(r, "it has no max_age", span_none());
	if (r->policy->mode != STS_NONE && r->policy->pattern_count == 0)
		return refuse(r, "it names no mx", span_none());
	return true;
}

bool
sts_policy_parse(struct span text, struct sts_policy *out, struct buf *why)
{
	struct reading r = { .policy = out, .why = why };

	out->mode = STS_NONE;
	out->max_age_s = 0;
	out->pattern_count = 0;
	if (text.size > STS_TEXT_MAX)
		return refuse(&r, "it is too big", span_none());
	for (size_t at = 0; at < text.size;) {
		size_t end = span_find(text, '\n', at);
		struct span line = span_of(text.data + at, end - at);
		at = end + 1;
		if (line.size > 0 && line.data[line.size - 1] == '\r')
			line.size--;
		line = span_trim(line);
		if (line.size > 0 && !take_line(&r, line))
			return false;
	}
	return is_complete(&r);
}

bool
sts_pattern_matches(struct span pattern, struct span host)
{
	if (host.size > 0 && host.data[host.size - 1] == '.')
		host.size--;
	if (!span_starts_with(pattern, SPAN("*.")))
		return span_eq_nocase(pattern, host);
	size_t dot = span_find(host, '.', 0);
	return dot > 0 && dot < host.size &&
	       span_eq_nocase(span_after(pattern, 1), span_after(host, dot));
}

bool
sts_patterns_match(const struct span *patterns, unsigned count, struct span host)
{
	for (unsigned i = 0; i < count; i++) {
		if (sts_pattern_matches(patterns[i], host))
			return true;
	}
	return false;
}
