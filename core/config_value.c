/* SPDX-License-Identifier: Apache-2.0
 *
 * The kinds of values: parsing, printing, comparing. Pure.
 */
#include <inttypes.h>

#include "core/base/assert.h"
#include "core/base/server_address.h"
#include "core/base/unit.h"
#include "core/base/utf8.h"
#include "core/config_table.h"

enum {
	SEQUENCE_MAX = 10000, /* items of a list of scalars */
	DOMAIN_MAX = 255,     /* RFC 5321 4.5.3.1.2 */
	LABEL_MAX = 63,
	DELIMITERS_MAX = 8,
	WORD_MAX = 48,
	LOCAL_MAX = 64, /* RFC 5321 4.5.3.1.1 */
};

/* "'x' ": what the file says, cut, in front of the message. */
static void
quote(struct buf *why, struct span text)
{
	buf_append_byte(why, '\'');
	buf_append_json(why, text, 60);
	buf_append_string(why, text.size > 60 ? "...' " : "' ");
}

bool
value_refuse(struct buf *why, struct span text, const char *message)
{
	quote(why, text);
	buf_append_string(why, message);
	return false;
}

/* Puts a number into the field, which is as wide as the kind says. */
static void
store(const struct option *o, void *base, uint64_t value)
{
	void *field = (char *)base + o->offset;
	uint32_t narrow = (uint32_t)value;

	if (o->kind == OPTION_NUMBER || o->kind == OPTION_POWER || o->kind == OPTION_AUTO_NUMBER) {
		ASSERT(value <= UINT32_MAX);
		memcpy(field, &narrow, sizeof narrow);
	} else {
		memcpy(field, &value, sizeof value);
	}
}

static uint64_t
fetch(const struct option *o, const void *base)
{
	const void *field = (const char *)base + o->offset;
	uint64_t value;
	uint32_t narrow;

	if (o->kind == OPTION_NUMBER || o->kind == OPTION_POWER || o->kind == OPTION_AUTO_NUMBER) {
		memcpy(&narrow, field, sizeof narrow);
		return narrow;
	}
	memcpy(&value, field, sizeof value);
	return value;
}

static bool
quantity_parse(enum option_kind kind, struct span text, uint64_t *out)
{
	switch (kind) {
	case OPTION_SIZE:
	case OPTION_AUTO_SIZE:
		return size_parse(text, out);
	case OPTION_DURATION:
	case OPTION_DURATIONS:
		return duration_parse(text, out);
	default:
		return span_to_u64(text, out);
	}
}

/* A number, size or duration within the row's range. */
static bool
parse_quantity(const struct option *o, struct span text, uint64_t *out, struct buf *why)
{
	uint64_t least, most, plain;
	bool unit = o->kind != OPTION_NUMBER && o->kind != OPTION_POWER &&
		    o->kind != OPTION_AUTO_NUMBER;

	if (!quantity_parse(o->kind, text, out)) {
		quote(why, text);
		bool bare = unit && span_to_u64(text, &plain);
		buf_append_string(why, bare ? "has no unit; write " : "is not valid; write ");
		buf_append_string(why, value_describe(o->kind));
		return false;
	}
	bool known = quantity_parse(o->kind, span_of_string(o->least), &least) &&
		     quantity_parse(o->kind, span_of_string(o->most), &most);
	ASSERT(known);
	if (*out < least || *out > most) {
		quote(why, text);
		buf_printf(why, "is out of range; choose between %s and %s", o->least, o->most);
		return false;
	}
	if (o->kind == OPTION_POWER && (*out & (*out - 1)) != 0)
		return value_refuse(why, text,
				    "is not a power of two; choose one such as 64, 128 or 256");
	return true;
}

static bool
parse_bool(const struct option *o, struct span text, void *base, struct buf *why)
{
	bool *field = (bool *)((char *)base + o->offset);

	*field = span_eq(text, SPAN("true"));
	if (*field || span_eq(text, SPAN("false")))
		return true;
	return value_refuse(why, text, "is not valid; write true or false");
}

static bool
parse_choice(const struct option *o, struct span text, void *base, struct buf *why)
{
	const struct choice *choice = o->choice;

	for (unsigned i = 0; i < choice->count; i++) {
		if (!span_eq(text, span_of_string(choice->words[i].word)))
			continue;
		if (choice->words[i].remedy == NULL) {
			memcpy((char *)base + o->offset, &i, sizeof i);
			return true;
		}
		quote(why, text);
		buf_printf(why, "cannot be used yet; %s", choice->words[i].remedy);
		return false;
	}
	value_refuse(why, text, "is not valid; write ");
	bool first = true;
	for (unsigned i = 0; i < choice->count; i++) {
		if (choice->words[i].remedy != NULL)
			continue;
		buf_printf(why, first ? "%s" : " or %s", choice->words[i].word);
		first = false;
	}
	return false;
}

bool
value_is_domain(struct span text, bool wide)
{
	size_t label = 0;

	if (text.size == 0 || text.size > DOMAIN_MAX || !utf8_is_valid(text))
		return false;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool edge = i == 0 || text.data[i - 1] == '.' || i + 1 == text.size ||
			    text.data[i + 1] == '.';
		bool letter = (c >= '0' && c <= '9') ||
			      (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
			      (wide && (c >= 0x80 || c == '_'));
		if (c == '.' ? label == 0 : !letter && (c != '-' || edge))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MAX)
			return false;
	}
	return label > 0;
}

static bool
is_user_name(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool letter = (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || c == '_';
		bool other = (c >= '0' && c <= '9') || c == '-' || c == '.';
		if (!letter && (i == 0 || !other))
			return false;
	}
	return text.size > 0 && text.size <= 32;
}

static bool
is_path(struct span text)
{
	return span_starts_with(text, SPAN("/")) && text.size < 4000 &&
	       span_find(text, 0, 0) == text.size;
}

/* What an unquoted local part may have besides letters and digits (RFC 5322 3.2.3), but the dot. */
static bool
is_delimiters(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		if (span_find(SPAN("!#$%&'*+-/=?^_`{|}~"), text.data[i], 0) == 19)
			return false;
	}
	return text.size <= DELIMITERS_MAX;
}

/* A dot-atom of RFC 5322 3.2.3, '@', and a domain: what needs no quotes in a From field. */
static bool
is_mailbox(struct span text)
{
	size_t at = span_find(text, '@', 0);

	if (at == 0 || at > LOCAL_MAX || !value_is_domain(span_after(text, at + 1), false))
		return false;
	for (size_t i = 0; i < at; i++) {
		uint8_t c = text.data[i];
		bool letter =
			(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || (c >= '0' && c <= '9');
		bool dot = c == '.' && i > 0 && i + 1 < at && text.data[i - 1] != '.';
		if (!letter && !dot && span_find(SPAN("!#$%&'*+-/=?^_`{|}~"), c, 0) == 19)
			return false;
	}
	return true;
}

/* What can stand in keys, in commands and in what people read, without quotes. */
static bool
is_word(struct span text)
{
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = ascii_lower(text.data[i]);
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (!letter && (c == 0 || strchr("-_.:@+/", c) == NULL))
			return false;
	}
	return text.size > 0 && text.size <= WORD_MAX;
}

/* NULL, or what is wrong with a text of this kind. */
static const char *
text_fault(enum option_kind kind, struct span text)
{
	struct server_address server;
	bool literal = text.size > 2 && text.data[0] == '[' && text.data[text.size - 1] == ']';

	switch (kind) {
	case OPTION_AUTO_FILE:
		if (span_eq(text, SPAN("auto")))
			return NULL;
		/* fall through */
	case OPTION_FILE:
		if (span_eq(text, SPAN("none")) || is_path(text))
			return NULL;
		return "is no absolute path; write one that starts with /, or none";
	case OPTION_HOSTNAME:
		return value_is_domain(text, false)
			       ? NULL
			       : "is no host name; write one such as mx1.example.org";
	case OPTION_NAME:
		return is_user_name(text) ? NULL : "is no user name; write one such as ringpost";
	case OPTION_PATH:
		return is_path(text) ? NULL : "is no absolute path; write one that starts with /";
	case OPTION_MAILBOX:
		return is_mailbox(text) ? NULL
					: "is no mail address; write one such as "
					  "postmaster@example.org, without a name or brackets";
	case OPTION_WORD:
		return is_word(text) ? NULL
				     : "is no word of up to 48 letters, digits and - _ . : @ + /; "
				       "write one such as ringpost";
	case OPTION_SERVER:
		return server_address_parse(text, &server)
			       ? NULL
			       : "is no server; write one such as redis:6379, 127.0.0.1:6379 or "
				 "unix:/run/redis/redis.sock";
	case OPTION_DELIMITERS:
		if (is_delimiters(text))
			return NULL;
		return "are no delimiters; write characters such as + or -, or \"\" for none";
	case OPTION_ROUTE_DOMAIN:
		if (span_eq(text, SPAN("*")))
			return NULL;
		/* fall through */
	default:
		if (span_starts_with(text, SPAN(".")))
			text = span_after(text, 1);
		else if (literal)
			return NULL;
		return value_is_domain(text, true)
			       ? NULL
			       : "is no domain; write one such as example.org or "
				 ".example.org, in UTF-8, without a dot at the end";
	}
}

static bool
parse_text(const struct option *o, struct span text, struct arena *arena, void *base,
	   struct buf *why)
{
	const char *fault = text_fault(o->kind, text);

	if (fault != NULL)
		return value_refuse(why, text, fault);
	struct span copy = arena_copy(arena, text);
	memcpy((char *)base + o->offset, &copy, sizeof copy);
	return copy.data != NULL ||
	       value_refuse(why, text, "does not fit in memory; shorten the file");
}

static bool
parse_recipients(const struct option *o, struct span text, struct arena *arena, void *base,
		 struct buf *why)
{
	struct config_recipients r = { .kind = RECIPIENTS_ANY };

	if (span_starts_with(text, SPAN("/")) && text_fault(OPTION_PATH, text) == NULL) {
		r.kind = RECIPIENTS_FILE;
		r.file = arena_copy(arena, text);
		if (r.file.data == NULL)
			return value_refuse(why, text, "does not fit in memory; shorten the file");
	} else if (span_eq(text, SPAN("callout"))) {
		r.kind = RECIPIENTS_CALLOUT;
	} else if (!span_eq(text, SPAN("any"))) {
		return value_refuse(
			why, text,
			"is not valid; write any, callout or the absolute path of a file");
	}
	memcpy((char *)base + o->offset, &r, sizeof r);
	return true;
}

bool
value_is_named(struct span text)
{
	struct span host = span_first(text, span_find(text, ':', 0));
	bool letter = false;

	for (size_t i = 0; i < host.size; i++)
		letter |= ascii_lower(host.data[i]) >= 'a' && ascii_lower(host.data[i]) <= 'z';
	return letter && value_is_domain(host, true);
}

static bool
parse_address(const struct option *o, struct span text, void *base, struct buf *why)
{
	struct net_address address;

	if (!span_starts_with(text, SPAN("unix:")) && net_address_parse(text, &address) &&
	    address.head.port_network_order != 0) {
		memcpy((char *)base + o->offset, &address, sizeof address);
		return true;
	}
	if (value_is_named(text))
		return value_refuse(
			why, text,
			"has a host name, which cannot be used yet; write the IP address and port");
	return value_refuse(
		why, text,
		"is no address with port; write one such as 127.0.0.1:25 or \"[::1]:25\"");
}

static bool
parse_networks(const struct option *o, const struct span *items, size_t count, struct arena *arena,
	       void *base, struct buf *why, size_t *bad)
{
	struct network *networks = arena_take(arena, (count + 1) * sizeof *networks);

	if (networks == NULL)
		return value_refuse(why, span_none(), "does not fit in memory; shorten the list");
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (!network_parse(items[i], &networks[i]))
			return value_refuse(
				why, items[i],
				"is no network; write one such as 192.0.2.0/24 or "
				"\"2001:db8::/32\", with no bits set behind the prefix");
	}
	struct network_list list = { networks, count };
	memcpy((char *)base + o->offset, &list, sizeof list);
	return true;
}

static bool
parse_durations(const struct option *o, const struct span *items, size_t count, struct arena *arena,
		void *base, struct buf *why, size_t *bad)
{
	uint64_t *values = arena_take(arena, (count + 1) * sizeof *values);

	if (values == NULL || count == 0)
		return value_refuse(why, span_none(),
				    "is empty; write durations such as [1m, 5m, 1h]");
	for (size_t i = 0; i < count; i++) {
		*bad = i;
		if (!parse_quantity(o, items[i], &values[i], why))
			return false;
	}
	const uint64_t *list = values;
	memcpy((char *)base + o->offset, &list, sizeof list);
	memcpy((char *)base + o->count_offset, &count, sizeof count);
	return true;
}

static bool
parse_scalar(const struct option *o, struct span text, struct arena *arena, void *base,
	     struct buf *why)
{
	uint64_t quantity;

	switch (o->kind) {
	case OPTION_BOOL:
		return parse_bool(o, text, base, why);
	case OPTION_CHOICE:
		return parse_choice(o, text, base, why);
	case OPTION_AUTO_NUMBER:
	case OPTION_AUTO_SIZE:
		if (span_eq(text, SPAN("auto"))) {
			store(o, base, 0);
			return true;
		}
		/* fall through */
	case OPTION_NUMBER:
	case OPTION_POWER:
	case OPTION_SIZE:
	case OPTION_DURATION:
		if (!parse_quantity(o, text, &quantity, why))
			return false;
		store(o, base, quantity);
		return true;
	case OPTION_ADDRESS:
		return parse_address(o, text, base, why);
	case OPTION_RECIPIENTS:
		return parse_recipients(o, text, arena, base, why);
	default:
		return parse_text(o, text, arena, base, why);
	}
}

bool
value_parse(const struct option *o, const struct span *items, size_t count, struct arena *arena,
	    void *base, struct buf *why, size_t *bad)
{
	*bad = 0;
	if (count > SEQUENCE_MAX)
		return value_refuse(why, span_none(),
				    "has more than 10000 items; shorten the list");
	switch (o->kind) {
	case OPTION_NETWORKS:
		return parse_networks(o, items, count, arena, base, why, bad);
	case OPTION_DURATIONS:
		return parse_durations(o, items, count, arena, base, why, bad);
	case OPTION_TARGET:
		return target_parse(items, count, arena,
				    (struct config_target *)(void *)((char *)base + o->offset), why,
				    bad);
	case OPTION_FORWARDERS:
		return forwarders_parse(
			items, count, arena,
			(struct config_forwarders *)(void *)((char *)base + o->offset), why, bad);
	case OPTION_DOMAINS:
	case OPTION_SERVERS:
		return domains_parse(o, items, count, arena, base, why, bad);
	case OPTION_FINGERPRINTS:
		return fingerprints_parse(o, items, count, arena, base, why, bad);
	default:
		ASSERT(count == 1);
		return parse_scalar(o, items[0], arena, base, why);
	}
}

bool
value_parse_default(const struct option *o, struct arena *arena, void *base)
{
	uint8_t memory[256];
	struct buf why = buf_of(memory, sizeof memory);
	struct span items[16], rest = span_of_string(o->standard);
	size_t count = 0, bad;

	if (rest.size == 0)
		return true;
	if (rest.data[0] != '[')
		return value_parse(o, &rest, 1, arena, base, &why, &bad);
	rest = span_first(span_after(rest, 1), rest.size - 2);
	while (rest.size > 0) {
		size_t comma = span_find(rest, ',', 0);
		ASSERT(count < sizeof items / sizeof items[0]);
		items[count++] = span_trim(span_first(rest, comma));
		rest = span_after(rest, comma + 1);
	}
	return value_parse(o, items, count, arena, base, &why, &bad);
}

/* In double quotes, with the escapes that JSON and YAML have in common. */
static void
print_text(struct span text, struct buf *out)
{
	buf_append_byte(out, '"');
	buf_append_json(out, text, SIZE_MAX);
	buf_append_byte(out, '"');
}

static void
print_recipients(const struct config_recipients *r, struct buf *out)
{
	if (r->kind == RECIPIENTS_FILE)
		print_text(r->file, out);
	else
		buf_append_string(out, r->kind == RECIPIENTS_ANY ? "any" : "callout");
}

static void
print_networks(const struct network_list *list, struct buf *out)
{
	for (size_t i = 0; i < list->count; i++) {
		buf_append_string(out, i == 0 ? "[\"" : ", \"");
		network_show(&list->items[i], out);
		buf_append_byte(out, '"');
	}
	buf_append_string(out, list->count == 0 ? "[]" : "]");
}

static void
print_durations(const struct option *o, const void *base, struct buf *out)
{
	const uint64_t *items;
	size_t count;

	memcpy(&items, (const char *)base + o->offset, sizeof items);
	memcpy(&count, (const char *)base + o->count_offset, sizeof count);
	for (size_t i = 0; i < count; i++) {
		buf_append_string(out, i == 0 ? "[" : ", ");
		duration_print(items[i], out);
	}
	buf_append_byte(out, ']');
}

static void
print_quantity(const struct option *o, uint64_t value, struct buf *out)
{
	if ((o->kind == OPTION_AUTO_NUMBER || o->kind == OPTION_AUTO_SIZE) && value == 0)
		buf_append_string(out, "auto");
	else if (o->kind == OPTION_SIZE || o->kind == OPTION_AUTO_SIZE)
		size_print(value, out);
	else if (o->kind == OPTION_DURATION)
		duration_print(value, out);
	else
		buf_printf(out, "%" PRIu64, value);
}

bool
value_print(const struct option *o, const void *base, struct buf *out)
{
	const void *field = (const char *)base + o->offset;

	switch (o->kind) {
	case OPTION_BOOL:
		buf_append_string(out, *(const bool *)field ? "true" : "false");
		break;
	case OPTION_CHOICE:
		buf_append_string(out, o->choice->words[*(const unsigned *)field].word);
		break;
	case OPTION_NUMBER:
	case OPTION_POWER:
	case OPTION_AUTO_NUMBER:
	case OPTION_SIZE:
	case OPTION_AUTO_SIZE:
	case OPTION_DURATION:
		print_quantity(o, fetch(o, base), out);
		break;
	case OPTION_ADDRESS:
		buf_append_byte(out, '"');
		net_address_show(field, out);
		buf_append_byte(out, '"');
		break;
	case OPTION_NETWORKS:
		print_networks(field, out);
		break;
	case OPTION_DURATIONS:
		print_durations(o, base, out);
		break;
	case OPTION_TARGET:
		target_print(field, out);
		break;
	case OPTION_FORWARDERS:
		forwarders_print(field, out);
		break;
	case OPTION_DOMAINS:
	case OPTION_SERVERS:
		domains_print(o, base, out);
		break;
	case OPTION_FINGERPRINTS:
		fingerprints_print(o, base, out);
		break;
	case OPTION_RECIPIENTS:
		print_recipients(field, out);
		break;
	default:
		print_text(*(const struct span *)field, out);
	}
	return !out->overflow;
}

static bool
durations_eq(const struct option *o, const void *a, const void *b)
{
	const uint64_t *items[2];
	size_t counts[2];

	memcpy(&items[0], (const char *)a + o->offset, sizeof items[0]);
	memcpy(&items[1], (const char *)b + o->offset, sizeof items[1]);
	memcpy(&counts[0], (const char *)a + o->count_offset, sizeof counts[0]);
	memcpy(&counts[1], (const char *)b + o->count_offset, sizeof counts[1]);
	return counts[0] == counts[1] &&
	       memcmp(items[0], items[1], counts[0] * sizeof items[0][0]) == 0;
}

bool
value_eq(const struct option *o, const void *a, const void *b)
{
	const void *left = (const char *)a + o->offset, *right = (const char *)b + o->offset;
	const struct network_list *lists[] = { left, right };
	const struct config_target *targets[] = { left, right };
	const struct config_recipients *recipients[] = { left, right };

	switch (o->kind) {
	case OPTION_BOOL:
		return *(const bool *)left == *(const bool *)right;
	case OPTION_CHOICE:
		return *(const unsigned *)left == *(const unsigned *)right;
	case OPTION_NUMBER:
	case OPTION_POWER:
	case OPTION_AUTO_NUMBER:
	case OPTION_SIZE:
	case OPTION_AUTO_SIZE:
	case OPTION_DURATION:
		return fetch(o, a) == fetch(o, b);
	case OPTION_ADDRESS:
		return net_address_eq(left, right);
	case OPTION_NETWORKS:
		return lists[0]->count == lists[1]->count &&
		       (lists[0]->count == 0 ||
			memcmp(lists[0]->items, lists[1]->items,
			       lists[0]->count * sizeof(struct network)) == 0);
	case OPTION_DURATIONS:
		return durations_eq(o, a, b);
	case OPTION_TARGET:
		return span_eq(targets[0]->text, targets[1]->text);
	case OPTION_FORWARDERS:
		return forwarders_eq(left, right);
	case OPTION_DOMAINS:
	case OPTION_SERVERS:
		return domains_eq(o, a, b);
	case OPTION_FINGERPRINTS:
		return fingerprints_eq(o, a, b);
	case OPTION_RECIPIENTS:
		return recipients[0]->kind == recipients[1]->kind &&
		       span_eq(recipients[0]->file, recipients[1]->file);
	default:
		return span_eq(*(const struct span *)left, *(const struct span *)right);
	}
}

const char *
value_describe(enum option_kind kind)
{
	static const char *const texts[OPTION_KINDS] = {
		[OPTION_CHOICE] = "one word",
		[OPTION_BOOL] = "true or false",
		[OPTION_NUMBER] = "a whole number such as 10",
		[OPTION_POWER] = "a power of two such as 1024",
		[OPTION_AUTO_NUMBER] = "a whole number or auto",
		[OPTION_SIZE] = "a size such as 64MiB (units: B, KiB, MiB, GiB, TiB)",
		[OPTION_AUTO_SIZE] = "a size such as 64MiB (units: B, KiB, MiB, GiB, TiB), or auto",
		[OPTION_DURATION] = "a duration such as 30s (units: ms, s, m, h, d)",
		[OPTION_HOSTNAME] = "a host name such as mx1.example.org",
		[OPTION_NAME] = "a user name",
		[OPTION_PATH] = "an absolute path",
		[OPTION_DOMAIN] = "a domain such as example.org or .example.org",
		[OPTION_ROUTE_DOMAIN] = "a domain such as example.org or .example.org, or \"*\"",
		[OPTION_MAILBOX] = "a mail address such as postmaster@example.org",
		[OPTION_ADDRESS] = "an IP address with port such as 127.0.0.1:25 or \"[::1]:25\"",
		[OPTION_NETWORKS] = "a list of networks such as [192.0.2.0/24, \"2001:db8::/32\"]",
		[OPTION_TARGET] = "mx, one URL, a list of URLs, or discard",
		[OPTION_DOMAINS] = "a list of domains such as [example.org, example.net]",
		[OPTION_WORD] = "a word of letters, digits and - _ . : @ + /",
		[OPTION_SERVER] = "a server such as redis:6379, \"[::1]:6379\" or "
				  "unix:/run/redis/redis.sock",
		[OPTION_SERVERS] = "a list of servers such as [redis-1:6379, redis-2:6379]",
		[OPTION_FORWARDERS] = "auto, none, or a list such as [192.0.2.53, "
				      "\"2001:db8::53@5353\"]",
		[OPTION_FILE] = "an absolute path, or none",
		[OPTION_AUTO_FILE] = "an absolute path, auto, or none",
		[OPTION_FINGERPRINTS] =
			"a list of SHA-256 fingerprints such as [\"ab:cd:…\"] (32 bytes "
			"in hexadecimal)",
		[OPTION_RECIPIENTS] = "any, callout, or the absolute path of a file",
		[OPTION_DELIMITERS] = "characters such as + or -, or \"\" for none",
		[OPTION_DURATIONS] = "durations such as [1m, 5m, 1h] (units: ms, s, m, h, d)",
	};

	ASSERT(kind < OPTION_KINDS && texts[kind] != NULL);
	return texts[kind];
}
