/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses message */
#include "relay/message/authres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

enum { FIELD_MAX = 16384, LINE_MAX_SIZE = 998 };

/* What a reader makes of a value, as one text: "id|spf=pass|reason:x|smtp.helo:y|", with "/2"
 * behind a version of the method and "#2" behind one of the field; "!" where it is bad. */
static void
read_all(struct span value, struct buf *out)
{
	struct authres_reader r;
	struct authres_item item;
	enum authres_event event;
	/* Of exact size on the heap: a sanitizer sees what is read beside it. */
	uint8_t *copy = malloc(value.size + 1);

	assert_non_null(copy);
	if (value.size > 0)
		memcpy(copy, value.data, value.size);
	buf_reset(out);
	if (authres_open(&r, span_of(copy, value.size))) {
		buf_append(out, span_of(r.id.text, r.id.size));
		if (r.version != 1)
			buf_printf(out, "#%u", r.version);
		buf_append_byte(out, '|');
	}
	while ((event = authres_next(&r, &item)) != AUTHRES_END && event != AUTHRES_BAD) {
		if (event == AUTHRES_METHOD) {
			buf_append(out, item.name);
			if (item.version != 1)
				buf_printf(out, "/%u", item.version);
			buf_append_byte(out, '=');
			buf_append(out, item.result);
		} else if (event == AUTHRES_REASON) {
			buf_append_string(out, "reason:");
			buf_append(out, item.value);
		} else {
			buf_append(out, item.ptype);
			buf_append_byte(out, '.');
			buf_append(out, item.name);
			buf_append_byte(out, ':');
			buf_append(out, item.value);
		}
		buf_append_byte(out, '|');
	}
	assert_int_equal(authres_next(&r, &item), event);
	if (event == AUTHRES_BAD)
		buf_append_byte(out, '!');
	assert_false(out->overflow);
	free(copy);
}

static void
assert_read(struct span value, struct span want)
{
	static uint8_t memory[FIELD_MAX];
	struct buf out = buf_of(memory, sizeof memory);

	read_all(value, &out);
	if (!span_eq(buf_span(&out), want))
		fail_msg("of\n%.*s\ncame\n%.*s\nnot\n%.*s", SPAN_ARG(value),
			 SPAN_ARG(buf_span(&out)), SPAN_ARG(want));
}

struct row {
	const char *value;
	const char *items;
};

static const struct row fields[] = {
	/* The examples of RFC 8601, appendix B. */
	{ "example.org 1; none", "example.org|" },
	{ "example.com;\r\n spf=pass smtp.mailfrom=example.net",
	  "example.com|spf=pass|smtp.mailfrom:example.net|" },
	{ "example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass "
	  "smtp.mailfrom=example.net",
	  "example.com|auth=pass|smtp.auth:sender@example.net|spf=pass|smtp.mailfrom:example."
	  "net|" },
	{ "example.com; iprev=pass\r\n policy.iprev=192.0.2.200",
	  "example.com|iprev=pass|policy.iprev:192.0.2.200|" },
	{ "example.com;\r\n dkim=pass reason=\"good signature\"\r\n "
	  "header.i=@mail-router.example.net;"
	  "\r\n dkim=fail reason=\"bad signature\"\r\n header.i=@newyork.example.com",
	  "example.com|dkim=pass|reason:good signature|header.i:@mail-router.example.net|dkim=fail|"
	  "reason:bad signature|header.i:@newyork.example.com|" },
	{ "foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait "
	  "for it) "
	  "fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as "
	  "I "
	  "wasn't expecting it) 1362471462",
	  "foo.example.net|dkim=fail|policy.expired:1362471462|" },
	/* Comments nested, with quoted pairs, wherever a blank may stand. */
	{ "(a(b\\)c)d) \"x y\" (e) ; (f) spf (g) = (h) pass (i) smtp (j) . (k) helo (l) = (m) "
	  "\"z\\\"\" "
	  "(n)",
	  "x y|spf=pass|smtp.helo:z\"|" },
	{ "a;spf=pass(x)smtp.helo=y(z)", "a|spf=pass|smtp.helo:y|" },
	{ "a\r\n\t2\r\n\t;\r\n\tspf/3\r\n\t=\r\n\tfail\r\n\t", "a#2|spf/3=fail|" },
	{ "a; NONE (nothing)", "a|" },
	/* Values. */
	{ "a; b=c d.e=\"\"", "a|b=c|d.e:|" },
	{ "a; b=c d.e=\"x\r\n y\"", "a|b=c|d.e:x y|" },
	{ "a; b=c d.e=\"x \\\" \\\\ y\"@z.example", "a|b=c|d.e:\"x \\\" \\\\ y\"@z.example|" },
	{ "a; b=c d.e=o'brien+x=y/z@example.org", "a|b=c|d.e:o'brien+x=y/z@example.org|" },
	{ "a; b=c header.b=AbC/+=1 policy.iprev=2001:db8::1",
	  "a|b=c|header.b:AbC/+=1|policy.iprev:2001:db8::1|" },
	{ "a; b=c smtp.mailfrom=x@[192.0.2.1]", "a|b=c|smtp.mailfrom:x@[192.0.2.1]|" },
	{ "a; dkim_atps=pass x_y.z_=1", "a|dkim_atps=pass|x_y.z_:1|" },
	{ "a; spf=pass smtp.mailfrom=\xc3\xbc@\xc3\xa4.example",
	  "a|spf=pass|smtp.mailfrom:\xc3\xbc@"
	  "\xc3\xa4.example|" },
	/* Common, if not of the grammar. */
	{ "a; spf=pass;", "a|spf=pass|" },
	{ "a; spf=pass; (bye)", "a|spf=pass|" },
	/* Bad. */
	{ "", "!" },
	{ ";", "!" },
	{ "(a", "!" },
	{ "a", "a|!" },
	{ "a;", "a|!" },
	{ "a; none; spf=pass", "a|!" },
	{ "a; none x", "a|!" },
	{ "a spf=pass", "a|!" },
	{ "a; spf", "a|!" },
	{ "a; spf=", "a|!" },
	{ "a; spf/x=pass", "a|!" },
	{ "a; spf=pass smtp", "a|spf=pass|!" },
	{ "a; spf=pass smtp.=x", "a|spf=pass|!" },
	{ "a; spf=pass smtp.helo=", "a|spf=pass|!" },
	{ "a; spf=pass smtp.helo=\"x", "a|spf=pass|!" },
	{ "a; spf=pass smtp.helo=\"x\\", "a|spf=pass|!" },
	{ "a; spf=pass smtp.helo=x (", "a|spf=pass|smtp.helo:x|!" },
	{ "a; spf=pass x.y=1 reason=z", "a|spf=pass|x.y:1|!" },
	{ "a; spf=pass reason=y reason=z", "a|spf=pass|reason:y|!" },
	{ "a; spf=pass ,", "a|spf=pass|!" },
	{ "spf=pass smtp.helo=x", "spf|!" },
};

static void
fields_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		assert_read(span_of_string(fields[i].value), span_of_string(fields[i].items));
}

/* No prefix of a field makes the reader read beside it or go round in circles. */
static void
fields_are_read_at_every_cut(void **state)
{
	static uint8_t memory[FIELD_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		struct span value = span_of_string(fields[i].value);
		for (size_t n = 0; n < value.size; n++) {
			struct buf out = buf_of(memory, sizeof memory);
			read_all(span_first(value, n), &out);
		}
	}
}

static const struct row ids[] = {
	{ "mx.example.org; none", "mx.example.org" },
	{ " \r\n\tMX.Example.ORG\r\n 1; none", "mx.example.org" },
	{ "(c (d) \\( )mx.example.org(x);", "mx.example.org" },
	{ "\"mx.exam\\ple.org\" 1;", "mx.example.org" },
	{ "\"mx.example\r\n.org\"", "mx.example.org" },
	{ "mx.example.org", "mx.example.org" },
	{ "mx.example.org.;", "mx.example.org" },
	{ "mx.example.org/x;", "mx.example.org" },
	{ "mx.example.org.evil.example;", "mx.example.org.evil.example" },
	{ "evil.mx.example.org;", "evil.mx.example.org" },
	{ "; mx.example.org", NULL },
	{ "(mx.example.org", NULL },
	{ "\"mx.example.org", NULL },
	{ "", NULL },
};

static void
it_is_known_whose_a_field_is(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
		struct authres_reader r;
		bool known = authres_open(&r, span_of_string(ids[i].value));
		assert_int_equal(known, ids[i].items != NULL);
		if (!known)
			continue;
		assert_true(authres_id_is(&r.id, span_of_string(ids[i].items)));
		assert_int_equal(authres_id_is(&r.id, SPAN("mx.example.org")),
				 strcmp(ids[i].items, "mx.example.org") == 0);
	}
}

/* Longer than a name can be: it is nobody's, whatever its beginning says. */
static void
an_id_that_is_too_long_is_not_ours(void **state)
{
	uint8_t text[AUTHRES_ID_MAX + 1];
	struct authres_reader r;

	(void)state;
	memset(text, 'a', sizeof text);
	assert_true(authres_open(&r, span_of(text, sizeof text - 1)));
	assert_true(authres_id_is(&r.id, span_of(text, sizeof text - 1)));
	assert_true(authres_open(&r, span_of(text, sizeof text)));
	assert_false(authres_id_is(&r.id, span_of(text, sizeof text - 1)));
}

/* ---- writing ---- */

static void
a_field_is_written(void **state)
{
	static const char want[] =
		"Authentication-Results: mx.example.org;\r\n"
		"\tspf=pass (mx:example.net \\(x\\)) smtp.mailfrom=joe@example.net;\r\n"
		"\tspf=none reason=\"no \\\"record\\\"\" smtp.helo=\"[192.0.2.1]\"\r\n"
		"\tpolicy.iprev=\"2001:db8::1\";\r\n"
		"\tdkim/2=fail\r\n";
	uint8_t memory[1024];
	struct buf out = buf_of(memory, sizeof memory);
	struct authres_writer w;

	(void)state;
	authres_begin(&w, &out, SPAN("mx.example.org"), false);
	authres_method(&w, SPAN("spf"), 1, SPAN("pass"));
	authres_comment(&w, SPAN("mx:example.net (x)"));
	authres_property(&w, SPAN("smtp"), SPAN("mailfrom"), SPAN("joe@example.net"));
	authres_method(&w, SPAN("spf"), 1, SPAN("none"));
	authres_reason(&w, SPAN("no \"record\""));
	authres_property(&w, SPAN("smtp"), SPAN("helo"), SPAN("[192.0.2.1]"));
	authres_property(&w, SPAN("policy"), SPAN("iprev"), SPAN("2001:db8::1"));
	authres_method(&w, SPAN("dkim"), 2, SPAN("fail"));
	assert_true(authres_end(&w));
	if (!span_eq(buf_span(&out), span_of_string(want)))
		fail_msg("came\n%.*s", SPAN_ARG(buf_span(&out)));
}

static void
a_field_without_methods_says_none(void **state)
{
	uint8_t memory[64];
	struct buf out = buf_of(memory, sizeof memory);
	struct authres_writer w;

	(void)state;
	authres_begin(&w, &out, SPAN("a"), false);
	assert_true(authres_end(&w));
	assert_true(span_eq(buf_span(&out), SPAN("Authentication-Results: a; none\r\n")));
	out = buf_of(memory, 16);
	buf_append_byte(&out, 'x');
	authres_begin(&w, &out, SPAN("a"), false);
	assert_false(authres_end(&w));
	assert_int_equal(out.size, 1);
}

/* What others say cannot break out of its place. */
static void
values_of_others_are_made_harmless(void **state)
{
	static const char want[] = "Authentication-Results: a;\r\n"
				   "\tspf=fail (x\\)?? b) smtp.mailfrom=\"a??Bcc: x\\\" ?\";\r\n"
				   "\tspf=fail smtp.mailfrom=\xc3\xbc@x\r\n";
	uint8_t memory[512];
	struct buf out = buf_of(memory, sizeof memory);
	struct authres_writer w;

	(void)state;
	authres_begin(&w, &out, SPAN("a"), false);
	authres_method(&w, SPAN("spf"), 1, SPAN("fail"));
	authres_comment(&w, SPAN("x)\r\n b"));
	authres_property(&w, SPAN("smtp"), SPAN("mailfrom"), SPAN("a\r\nBcc: x\" \xc3\xbc"));
	w.utf8 = true;
	authres_method(&w, SPAN("spf"), 1, SPAN("fail"));
	authres_property(&w, SPAN("smtp"), SPAN("mailfrom"), SPAN("\xc3\xbc@x"));
	assert_true(authres_end(&w));
	if (!span_eq(buf_span(&out), span_of_string(want)))
		fail_msg("came\n%.*s", SPAN_ARG(buf_span(&out)));
}

/* ---- what is written is read ---- */

static unsigned
next(unsigned *seed)
{
	*seed = *seed * 1103515245U + 12345U;
	return *seed >> 16;
}

static struct span
random_text(unsigned *seed, uint8_t *memory, size_t most)
{
	static const char alphabet[] = "abcXYZ019.-_@@\"\\() ;=:/[],<>\t?\xc3\xbc+'";
	size_t size = next(seed) % (most + 1);

	for (size_t i = 0; i < size; i++)
		memory[i] = next(seed) % 40 == 0
				    ? (uint8_t)next(seed)
				    : (uint8_t)alphabet[next(seed) % (sizeof alphabet - 1)];
	return span_of(memory, size);
}

/* What the writer makes of it: see `clean` there. */
static void
append_expected(struct buf *out, struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool pair = c == 0xc3 && i + 1 < text.size && (text.data[i + 1] & 0xc0) == 0x80;
		buf_append_byte(out, c >= ' ' && c < 0x7f ? c : '?');
		i += pair;
	}
}

static bool
has_odd_bytes(struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		if (s.data[i] >= 0x80 && s.data[i] != 0xc3 && s.data[i] != 0xbc)
			return true;
	}
	return false;
}

static void
assert_folded(struct span field)
{
	while (field.size > 0) {
		size_t end = span_find(field, '\n', 0);
		assert_true(end < field.size && end > 1 && end <= LINE_MAX_SIZE);
		assert_int_equal(field.data[end - 1], '\r');
		assert_int_equal(span_find(span_first(field, end - 1), '\r', 0), end - 1);
		field = span_after(field, end + 1);
		assert_true(field.size == 0 || field.data[0] == '\t');
	}
}

static void
what_is_written_is_read(void **state)
{
	static uint8_t field_memory[FIELD_MAX], want_memory[FIELD_MAX],
		text_memory[AUTHRES_TEXT_MAX];
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct buf out = buf_of(field_memory, sizeof field_memory);
		struct buf want = buf_of(want_memory, sizeof want_memory);
		struct authres_writer w;
		unsigned methods = next(&seed) % 4;
		authres_begin(&w, &out, SPAN("mx1.example.org"), false);
		buf_append_string(&want, "mx1.example.org|");
		for (unsigned i = 0; i < methods; i++) {
			unsigned version = 1 + next(&seed) % 2, properties = next(&seed) % 4;
			authres_method(&w, SPAN("spf"), version, SPAN("pass"));
			buf_append_string(&want, version == 1 ? "spf=pass|" : "spf/2=pass|");
			for (unsigned k = 0; k < properties; k++) {
				size_t most = next(&seed) % 20 == 0 ? AUTHRES_TEXT_MAX : 20;
				struct span text = random_text(&seed, text_memory, most);
				unsigned kind = next(&seed) % 3;
				if (has_odd_bytes(text))
					continue;
				if (kind == 0) {
					authres_comment(&w, text);
					continue;
				}
				if (kind == 1 && k == 0) {
					authres_reason(&w, text);
					buf_append_string(&want, "reason:");
				} else {
					authres_property(&w, SPAN("smtp"), SPAN("mailfrom"), text);
					buf_append_string(&want, "smtp.mailfrom:");
				}
				append_expected(&want, text);
				buf_append_byte(&want, '|');
			}
		}
		assert_true(authres_end(&w));
		assert_folded(buf_span(&out));
		struct span value =
			span_after(buf_span(&out), sizeof "Authentication-Results:" - 1);
		assert_read(value, buf_span(&want));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_are_read),
		cmocka_unit_test(fields_are_read_at_every_cut),
		cmocka_unit_test(it_is_known_whose_a_field_is),
		cmocka_unit_test(an_id_that_is_too_long_is_not_ours),
		cmocka_unit_test(a_field_is_written),
		cmocka_unit_test(a_field_without_methods_says_none),
		cmocka_unit_test(values_of_others_are_made_harmless),
		cmocka_unit_test(what_is_written_is_read),
	};

	return cmocka_run_group_tests_name("authres", tests, NULL, NULL);
}
