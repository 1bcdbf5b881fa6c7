/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses tls */
/* What an answer about TLSA records means, and which records count: the table of RFC 7672 2.2 and
 * the rules of RFC 7671 9, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "tls/dane.h"

enum { DER_MAX = 2048 };

static uint8_t certificate[DER_MAX], key[DER_MAX], bytes[DER_MAX];
static size_t certificate_size, key_size;

/* Data of a record: 32, 48 or 64 bytes; a certificate or key in DER; the same with one byte more or
 * less; none. */
static struct span
data_of(const char *word)
{
	size_t lengths[] = { 0, 1, 31, 32, 33, 48, 64 };
	static const char *const names[] = { "0", "1", "31", "32", "33", "48", "64" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(word, names[i]) == 0)
			return span_of(bytes, lengths[i]);
	}
	if (strcmp(word, "cert") == 0)
		return span_of(certificate, certificate_size);
	if (strcmp(word, "cert+") == 0)
		return span_of(certificate, certificate_size + 1);
	if (strcmp(word, "cert-") == 0)
		return span_of(certificate, certificate_size - 1);
	if (strcmp(word, "key") == 0)
		return span_of(key, key_size);
	if (strcmp(word, "key+") == 0)
		return span_of(key, key_size + 1);
	fail_msg("no such data: %s", word);
	return span_none();
}

struct row {
	const char *story;
	enum dns_outcome outcome;
	enum dns_security security;
	const char *records; /* "3 1 1 32, 2 0 1 32"; "short": two bytes */
	enum dane_verdict verdict;
	const char *kept; /* the same, of those that count */
};

static const struct row rows[] = {
	{ "the name exists, without records", DNS_NO_DATA, DNS_SECURE, "", DANE_NONE, "" },
	{ "the name does not exist", DNS_NO_DOMAIN, DNS_SECURE, "", DANE_NONE, "" },
	{ "a denial that proves nothing", DNS_NO_DOMAIN, DNS_INSECURE, "", DANE_NONE, "" },
	{ "records that prove nothing", DNS_FOUND, DNS_INSECURE, "3 1 1 32", DANE_NONE, "" },
	{ "SERVFAIL, or no answer in time", DNS_FAILED, DNS_INSECURE, "", DANE_FAILED, "" },
	{ "bogus", DNS_BOGUS, DNS_INSECURE, "", DANE_FAILED, "" },
	{ "a key's digest", DNS_FOUND, DNS_SECURE, "3 1 1 32", DANE_USABLE, "3 1 1 32" },
	{ "a certificate's digest", DNS_FOUND, DNS_SECURE, "3 0 1 32", DANE_USABLE, "3 0 1 32" },
	{ "the long digest", DNS_FOUND, DNS_SECURE, "3 1 2 64", DANE_USABLE, "3 1 2 64" },
	{ "a CA's key", DNS_FOUND, DNS_SECURE, "2 1 1 32", DANE_USABLE, "2 1 1 32" },
	{ "a CA's certificate", DNS_FOUND, DNS_SECURE, "2 0 2 64", DANE_USABLE, "2 0 2 64" },
	{ "a whole certificate", DNS_FOUND, DNS_SECURE, "3 0 0 cert", DANE_USABLE, "3 0 0 cert" },
	{ "a whole CA", DNS_FOUND, DNS_SECURE, "2 0 0 cert", DANE_USABLE, "2 0 0 cert" },
	{ "a whole key", DNS_FOUND, DNS_SECURE, "3 1 0 key", DANE_USABLE, "3 1 0 key" },
	{ "PKIX-TA and PKIX-EE are not for SMTP", DNS_FOUND, DNS_SECURE, "0 0 1 32, 1 1 1 32",
	  DANE_UNUSABLE, "" },
	{ "a usage of the future", DNS_FOUND, DNS_SECURE, "4 1 1 32, 255 1 1 32", DANE_UNUSABLE,
	  "" },
	{ "a selector of the future", DNS_FOUND, DNS_SECURE, "3 2 1 32", DANE_UNUSABLE, "" },
	{ "a digest of the future", DNS_FOUND, DNS_SECURE, "3 1 3 48", DANE_UNUSABLE, "" },
	{ "digests of a wrong size", DNS_FOUND, DNS_SECURE,
	  "3 1 1 31, 3 1 1 33, 3 1 1 64, 3 1 2 32, 3 1 2 48, 3 1 1 0", DANE_UNUSABLE, "" },
	{ "no data", DNS_FOUND, DNS_SECURE, "3 1 0 0, 3 0 0 0, 3 0 1 0", DANE_UNUSABLE, "" },
	{ "no record at all", DNS_FOUND, DNS_SECURE, "short", DANE_UNUSABLE, "" },
	{ "what is no certificate", DNS_FOUND, DNS_SECURE, "3 0 0 32, 3 0 0 key, 2 0 0 1",
	  DANE_UNUSABLE, "" },
	{ "what is no key", DNS_FOUND, DNS_SECURE, "3 1 0 32, 3 1 0 cert, 2 1 0 1", DANE_UNUSABLE,
	  "" },
	{ "a certificate with something behind it, or not whole", DNS_FOUND, DNS_SECURE,
	  "3 0 0 cert+, 3 0 0 cert-, 3 1 0 key+", DANE_UNUSABLE, "" },
	{ "one that is usable among others", DNS_FOUND, DNS_SECURE,
	  "0 0 1 32, short, 3 1 1 32, 3 1 1 31, 1 0 1 32", DANE_USABLE, "3 1 1 32" },
	{ "several", DNS_FOUND, DNS_SECURE, "3 1 1 32, 3 1 1 32, 2 0 1 32", DANE_USABLE,
	  "3 1 1 32, 3 1 1 32, 2 0 1 32" },
	{ "the strongest digest for a usage and selector", DNS_FOUND, DNS_SECURE,
	  "3 1 1 32, 3 1 2 64, 3 1 1 32", DANE_USABLE, "3 1 2 64" },
	{ "each usage and selector by itself", DNS_FOUND, DNS_SECURE,
	  "3 1 1 32, 3 0 2 64, 2 1 2 64, 2 0 1 32, 3 0 1 32", DANE_USABLE,
	  "3 1 1 32, 3 0 2 64, 2 1 2 64, 2 0 1 32" },
	{ "whole ones count beside digests", DNS_FOUND, DNS_SECURE,
	  "3 1 2 64, 3 1 0 key, 3 1 1 32, 3 0 0 cert", DANE_USABLE,
	  "3 1 2 64, 3 1 0 key, 3 0 0 cert" },
	{ "a strong digest that is malformed outdoes none", DNS_FOUND, DNS_SECURE,
	  "3 1 2 32, 3 1 1 32", DANE_USABLE, "3 1 1 32" },
	{ "a strong digest of an unusable usage outdoes none", DNS_FOUND, DNS_SECURE,
	  "1 1 2 64, 3 1 1 32", DANE_USABLE, "3 1 1 32" },
};

/* The records of a row as they come from the DNS. */
static unsigned
read_records(const char *text, struct dns_record *records, uint8_t (*memory)[DER_MAX])
{
	char copy[200], *next = copy;
	unsigned count = 0;

	snprintf(copy, sizeof copy, "%s", text);
	for (char *one; *next != '\0' && (one = strsep(&next, ",")) != NULL;) {
		unsigned usage, selector, matching;
		char word[8];
		struct buf rdata = buf_of(memory[count], DER_MAX);
		one += strspn(one, " ");
		if (strcmp(one, "short") == 0) {
			buf_append_string(&rdata, "\x03\x01");
		} else {
			assert_int_equal(
				sscanf(one, "%u %u %u %7s", &usage, &selector, &matching, word), 4);
			buf_append_byte(&rdata, (uint8_t)usage);
			buf_append_byte(&rdata, (uint8_t)selector);
			buf_append_byte(&rdata, (uint8_t)matching);
			buf_append(&rdata, data_of(word));
		}
		assert_false(rdata.overflow);
		records[count++] = (struct dns_record){ .data = buf_span(&rdata) };
		if (next == NULL)
			break;
	}
	return count;
}

static void
every_row_of_the_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		static uint8_t memory[2][8][DER_MAX];
		struct dns_record records[8], expected[8];
		struct tlsa out[8];
		struct dns_answer a = { .outcome = rows[i].outcome,
					.security = rows[i].security,
					.records = records };
		size_t count = 99;
		a.count = read_records(rows[i].records, records, memory[0]);
		unsigned wanted = read_records(rows[i].kept, expected, memory[1]);
		if (dane_select(&a, out, &count) != rows[i].verdict || count != wanted)
			fail_msg("%s: %zu records", rows[i].story, count);
		for (size_t n = 0; n < count; n++) {
			struct span rdata = expected[n].data;
			if (out[n].usage != rdata.data[0] || out[n].selector != rdata.data[1] ||
			    out[n].matching != rdata.data[2] ||
			    !span_eq(out[n].data, span_after(rdata, 3)))
				fail_msg("%s: another record at %zu", rows[i].story, n);
		}
		assert_int_equal(ERR_peek_error(), 0); /* nothing is left for others to find */
	}
}

static void
what_was_not_asked_for_is_told_apart(void **state)
{
	size_t count = 99;

	(void)state;
	assert_int_equal(dane_select(NULL, NULL, &count), DANE_NOT_ASKED);
	assert_int_equal(count, 0);
}

static void
names_count_for_trust_anchors(void **state)
{
	const struct tlsa records[] = { { .usage = 3 }, { .usage = 3 }, { .usage = 2 } };

	(void)state;
	assert_false(dane_needs_name(records, 0));
	assert_false(dane_needs_name(records, 2));
	assert_true(dane_needs_name(records, 3));
}

static void
records_are_shown_short(void **state)
{
	static const uint8_t data[] = { 0x0c, 0x72, 0xac, 0x70, 0xb7 };
	uint8_t memory[64];
	struct buf out = buf_of(memory, sizeof memory);

	(void)state;
	tlsa_show(&(struct tlsa){ 3, 1, 1, span_of(data, 5) }, &out);
	assert_true(span_eq(buf_span(&out), SPAN("3 1 1 0c72ac70…")));
	buf_reset(&out);
	tlsa_show(&(struct tlsa){ 255, 0, 2, span_of(data, 4) }, &out);
	assert_true(span_eq(buf_span(&out), SPAN("255 0 2 0c72ac70")));
	buf_reset(&out);
	tlsa_show(&(struct tlsa){ 0, 0, 0, span_none() }, &out);
	assert_true(span_eq(buf_span(&out), SPAN("0 0 0 ")));
}

static bool
make_certificate(void)
{
	EVP_PKEY *pair = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	unsigned char *at = certificate;
	bool good = pair != NULL && x != NULL && X509_set_pubkey(x, pair) == 1 &&
		    X509_gmtime_adj(X509_getm_notBefore(x), 0) != NULL &&
		    X509_gmtime_adj(X509_getm_notAfter(x), 3600) != NULL &&
		    X509_sign(x, pair, EVP_sha256()) > 0;
	int size = good ? i2d_X509(x, &at) : 0;

	certificate_size = size > 0 ? (size_t)size : 0;
	at = key;
	size = good ? i2d_PUBKEY(pair, &at) : 0;
	key_size = size > 0 ? (size_t)size : 0;
	X509_free(x);
	EVP_PKEY_free(pair);
	return certificate_size > 0 && key_size > 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_of_the_table),
		cmocka_unit_test(what_was_not_asked_for_is_told_apart),
		cmocka_unit_test(names_count_for_trust_anchors),
		cmocka_unit_test(records_are_shown_short),
	};

	return make_certificate() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
