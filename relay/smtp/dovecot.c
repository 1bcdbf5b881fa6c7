/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/dovecot.h"

#include "core/base/assert.h"
#include "core/base/base64.h"

enum { ESCAPE = 1 };

/* The next field of a line; an empty one at its end. */
static struct span
next_field(struct span *rest)
{
	size_t end = span_find(*rest, '\t', 0);
	struct span field = span_first(*rest, end);

	*rest = span_after(*rest, end + 1);
	return field;
}

static bool
read_number(struct span field, uint32_t *out)
{
	uint64_t number;

	if (!span_to_u64(field, &number) || number > UINT32_MAX)
		return false;
	*out = (uint32_t)number;
	return true;
}

static void
read_parameters(struct span rest, struct dovecot_line *out)
{
	static const struct span user = SPAN("user=");

	while (rest.size > 0) {
		struct span field = next_field(&rest);
		if (span_starts_with(field, user))
			out->user = span_after(field, user.size);
		else if (span_eq(field, SPAN("temp")) || span_eq(field, SPAN("code=temp_fail")))
			out->temporary = true;
		else if (span_eq(field, SPAN("user_disabled")) ||
			 span_eq(field, SPAN("code=user_disabled")) ||
			 span_eq(field, SPAN("pass_expired")) ||
			 span_eq(field, SPAN("code=pass_expired")))
			out->disabled = true;
	}
}

bool
dovecot_read(struct span line, struct dovecot_line *out)
{
	static const struct {
		struct span word;
		enum dovecot_kind kind;
		bool has_number;
	} words[] = {
		{ SPAN("VERSION"), DOVECOT_VERSION, true },
		{ SPAN("MECH"), DOVECOT_MECHANISM, false },
		{ SPAN("DONE"), DOVECOT_DONE, false },
		{ SPAN("OK"), DOVECOT_OK, true },
		{ SPAN("FAIL"), DOVECOT_FAIL, true },
		{ SPAN("CONT"), DOVECOT_CONTINUE, true },
	};
	struct span word = next_field(&line);

	*out = (struct dovecot_line){
		.kind = DOVECOT_OTHER,
		.mechanism = SASL_MECHANISM_COUNT,
	};
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (!span_eq(word, words[i].word))
			continue;
		out->kind = words[i].kind;
		if (words[i].has_number && !read_number(next_field(&line), &out->number))
			return false;
	}
	if (out->kind == DOVECOT_MECHANISM) {
		out->mechanism = sasl_find(next_field(&line));
		if (out->mechanism == SASL_MECHANISM_COUNT)
			out->kind = DOVECOT_OTHER;
	}
	if (out->kind == DOVECOT_CONTINUE)
		out->data = next_field(&line);
	if (out->kind == DOVECOT_OK || out->kind == DOVECOT_FAIL)
		read_parameters(line, out);
	return true;
}

bool
dovecot_unescape(struct span text, struct buf *out)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		if (c == ESCAPE) {
			if (++i == text.size)
				return false;
			switch (text.data[i]) {
			case '0':
				c = 0;
				break;
			case '1':
				c = ESCAPE;
				break;
			case 't':
				c = '\t';
				break;
			case 'n':
				c = '\n';
				break;
			case 'r':
				c = '\r';
				break;
			default:
				return false;
			}
		}
		if (!buf_append_byte(out, c))
			return false;
	}
	return true;
}

void
dovecot_greet(uint32_t number, struct buf *out)
{
	buf_printf(out, "VERSION\t%d\t1\nCPID\t%u\n", DOVECOT_VERSION_MAJOR, number);
}

void
dovecot_ask_plain(uint32_t number, struct span name, struct span password, struct span address,
		  struct buf *out)
{
	uint8_t memory[SASL_NAME_MAX + SASL_PASSWORD_MAX + 2];
	struct buf response = buf_of(memory, sizeof memory);

	buf_append_byte(&response, '\0');
	buf_append(&response, name);
	buf_append_byte(&response, '\0');
	buf_append(&response, password);
	ASSERT(!response.overflow);
	dovecot_ask_mechanism(number, SASL_PLAIN, buf_span(&response), address, out);
	explicit_bzero(memory, sizeof memory);
}

void
dovecot_ask_mechanism(uint32_t number, enum sasl_mechanism m, struct span message,
		      struct span address, struct buf *out)
{
	struct span name = sasl_name(m);

	ASSERT(number > 0 && message.size <= SASL_MESSAGE_MAX);
	/* secured: it would not take a password in plain text otherwise. The response is last. */
	buf_printf(out, "AUTH\t%u\t%.*s\tservice=smtp\tsecured\tnologin", number, SPAN_ARG(name));
	if (address.size > 0)
		buf_printf(out, "\trip=%.*s", SPAN_ARG(address));
	buf_append_string(out, "\tresp=");
	base64_encode(message, out);
	buf_append_byte(out, '\n');
	ASSERT(!out->overflow);
}

void
dovecot_continue(uint32_t number, struct span message, struct buf *out)
{
	ASSERT(number > 0 && message.size <= SASL_MESSAGE_MAX);
	buf_printf(out, "CONT\t%u\t", number);
	base64_encode(message, out);
	buf_append_byte(out, '\n');
	ASSERT(!out->overflow);
}

void
dovecot_cancel(uint32_t number, struct buf *out)
{
	ASSERT(number > 0);
	buf_printf(out, "CANCEL\t%u\n", number);
	ASSERT(!out->overflow);
}
