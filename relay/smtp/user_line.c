/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/user_line.h"

#include "core/base/base64.h"
#include "relay/smtp/address.h"

/* Words that were seen are bits, so that none stands twice. */
struct reading {
	struct user_line *line;
	unsigned seen;
};

struct word {
	struct span name;
	const char *(*read)(struct user_line *line, struct span value);
};

bool
user_line_item(struct span *list, struct span *item)
{
	if (list->size == 0)
		return false;
	size_t end = span_find(*list, ',', 0);
	*item = span_first(*list, end);
	*list = span_after(*list, end + 1);
	return true;
}

static int
hex_digit(uint8_t c)
{
	c = ascii_lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
user_line_fingerprint(struct span text, uint8_t out[USER_FINGERPRINT_SIZE])
{
	for (unsigned i = 0; i < USER_FINGERPRINT_SIZE; i++) {
		if (i > 0 && text.size > 0 && text.data[0] == ':')
			text = span_after(text, 1);
		if (text.size < 2 || hex_digit(text.data[0]) < 0 || hex_digit(text.data[1]) < 0)
			return false;
		out[i] = (uint8_t)(hex_digit(text.data[0]) << 4 | hex_digit(text.data[1]));
		text = span_after(text, 2);
	}
	return text.size == 0;
}

bool
user_line_is_name(struct span name)
{
	return sasl_is_fit(name, SASL_NAME_MAX) && name.data[0] != '#' &&
	       span_find(name, ' ', 0) == name.size && !span_eq(name, SPAN("secret"));
}

static bool
is_sender(struct span item)
{
	uint8_t memory[ADDRESS_DOMAIN_MAX + 2];
	struct buf text = buf_of(memory, sizeof memory);
	struct address a;

	if (span_eq(item, SPAN("*")))
		return true;
	if (item.size == 0 || item.data[0] != '@')
		return address_parse_mailbox(item, &a) == ADDRESS_OK;
	return buf_append_byte(&text, 'a') && buf_append(&text, item) &&
	       address_parse_mailbox(buf_span(&text), &a) == ADDRESS_OK;
}

static const char *
read_from(struct user_line *line, struct span value)
{
	struct span rest = value;
	struct span item;

	while (user_line_item(&rest, &item)) {
		if (!is_sender(item))
			return "from= has something else than addresses (ann@example.org), domains "
			       "(@example.org) and *; write them with commas and without blanks";
	}
	line->from = value;
	return NULL;
}

static const char *
read_certificate(struct user_line *line, struct span value)
{
	uint8_t fingerprint[USER_FINGERPRINT_SIZE];
	struct span rest = value;
	struct span item;

	while (user_line_item(&rest, &item)) {
		if (!user_line_fingerprint(item, fingerprint))
			return "certificate= has something else than SHA-256 fingerprints; write "
			       "what "
			       "`openssl x509 -noout -fingerprint -sha256` shows behind the =";
	}
	line->certificates = value;
	return NULL;
}

static const char *
read_limit(struct user_line *line, enum user_limit limit, struct span value)
{
	uint64_t number;

	if (span_eq(value, SPAN("none"))) {
		line->limits[limit] = USER_LIMIT_NONE;
		return NULL;
	}
	if (!span_to_u64(value, &number) || number == 0 || number >= USER_LIMIT_NONE)
		return "has a limit that is no number; write 1 to 4294967294, or none";
	line->limits[limit] = (uint32_t)number;
	return NULL;
}

static const char *
read_mails_per_hour(struct user_line *line, struct span value)
{
	return read_limit(line, USER_MAILS_PER_HOUR, value);
}

static const char *
read_mails_per_day(struct user_line *line, struct span value)
{
	return read_limit(line, USER_MAILS_PER_DAY, value);
}

static const char *
read_recipients_per_hour(struct user_line *line, struct span value)
{
	return read_limit(line, USER_RECIPIENTS_PER_HOUR, value);
}

static const char *
read_recipients_per_day(struct user_line *line, struct span value)
{
	return read_limit(line, USER_RECIPIENTS_PER_DAY, value);
}

static const char *
read_connections(struct user_line *line, struct span value)
{
	return read_limit(line, USER_CONNECTIONS, value);
}

static const struct word words[] = {
	{ SPAN("from"), read_from },
	{ SPAN("certificate"), read_certificate },
	{ SPAN("mails_per_hour"), read_mails_per_hour },
	{ SPAN("mails_per_day"), read_mails_per_day },
	{ SPAN("recipients_per_hour"), read_recipients_per_hour },
	{ SPAN("recipients_per_day"), read_recipients_per_day },
	{ SPAN("connections"), read_connections },
};

/* Cuts the first word off *rest. */
static struct span
next_word(struct span *rest)
{
	size_t end = 0;

	while (end < rest->size && rest->data[end] != ' ' && rest->data[end] != '\t')
		end++;
	struct span word = span_first(*rest, end);
	*rest = span_trim(span_after(*rest, end));
	return word;
}

static const char *
read_word(struct reading *r, struct span text)
{
	size_t equals = span_find(text, '=', 0);
	struct span name = span_first(text, equals);
	struct span value = span_after(text, equals + 1);

	if (span_eq(text, SPAN("disabled"))) {
		r->line->disabled = true;
		return NULL;
	}
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (!span_eq(name, words[i].name))
			continue;
		if (value.size == 0)
			return "has a word without a value; write it behind the =, or leave it out";
		if (r->seen & 1U << i)
			return "has a word twice; write it once, with commas";
		r->seen |= 1U << i;
		return words[i].read(r->line, value);
	}
	return "has a word that is not known; it may be from=, certificate=, mails_per_hour=, "
	       "mails_per_day=, recipients_per_hour=, recipients_per_day=, connections= or "
	       "disabled";
}

static const char *
read_secret(struct span rest, struct user_line *out)
{
	struct buf secret = buf_of(out->secret, sizeof out->secret);

	out->kind = USER_LINE_SECRET;
	if (!base64_decode(rest, &secret) || secret.size < 16)
		return "is no secret; write 16 to 64 random bytes in base64 behind it";
	out->secret_size = secret.size;
	return NULL;
}

const char *
user_line_parse(struct span line, struct user_line *out)
{
	struct reading r = { .line = out };

	*out = (struct user_line){ .kind = USER_LINE_NOTHING };
	if (line.size > 0 && line.data[line.size - 1] == '\r')
		line.size--;
	if (line.size > USER_LINE_MAX)
		return "is too long; a line has at most 8192 bytes";
	line = span_trim(line);
	if (line.size == 0 || line.data[0] == '#')
		return NULL;
	out->name = next_word(&line);
	if (span_eq(out->name, SPAN("secret")))
		return read_secret(line, out);
	out->kind = USER_LINE_USER;
	if (!user_line_is_name(out->name))
		return "begins with no user name; it has 1 to 255 bytes of UTF-8 and no controls";
	struct span verifier = next_word(&line);
	out->has_verifier = !span_eq(verifier, SPAN("-"));
	if (out->has_verifier && !sasl_verifier_parse(verifier, &out->verifier))
		return "has no verifier of a password behind the name; make it with `ringpostctl "
		       "user "
		       "passwd`, or write - for a user without a password";
	while (line.size > 0) {
		const char *fault = read_word(&r, next_word(&line));
		if (fault != NULL)
			return fault;
	}
	return NULL;
}
