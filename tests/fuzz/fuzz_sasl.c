/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/* Any messages, to either side: none is believed that has not the password. Lines are messages; the
 * first byte chooses side and mechanism. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "relay/smtp/sasl.h"

enum { QUICK = 5000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t random_bytes[SASL_RANDOM_SIZE] = "eighteen at random";

static struct span
next_line(struct span *rest)
{
	size_t end = span_find(*rest, '\n', 0);
	struct span line = span_first(*rest, end);

	*rest = span_after(*rest, end + 1);
	return line;
}

static void
to_server(enum sasl_mechanism m, struct span rest)
{
	uint8_t memory[SASL_MESSAGE_MAX];
	enum sasl_outcome outcome = SASL_CONTINUE;
	struct sasl_verifier v;
	struct sasl_server s;
	bool has_data = rest.size > 0 && rest.data[0] != '\n';

	sasl_verifier_fake(&v, SPAN("key"), SPAN("name"), SASL_ITERATIONS_MIN);
	sasl_server_init(&s, m, SPAN("shown"), random_bytes);
	while (outcome == SASL_CONTINUE && rest.size > 0) {
		struct buf out = buf_of(memory, sizeof memory);
		struct span line = next_line(&rest);
		outcome = sasl_server_step(&s, has_data, line, &out);
		if (outcome == SASL_LOOKUP) {
			ASSERT(sasl_is_fit(sasl_server_name(&s), SASL_NAME_MAX));
			outcome = sasl_server_verifier(&s, &v, &out);
		}
		ASSERT(!out.overflow);
		has_data = true;
	}
	ASSERT(outcome != SASL_OK || m == SASL_EXTERNAL);
	if (outcome == SASL_OK)
		ASSERT(span_eq(sasl_server_name(&s), SPAN("shown")));
	if (outcome == SASL_CHECK) {
		ASSERT(sasl_is_fit(sasl_server_name(&s), SASL_NAME_MAX));
		ASSERT(sasl_is_fit(sasl_server_password(&s), SASL_PASSWORD_MAX));
	}
	sasl_server_fini(&s);
}

static void
to_client(enum sasl_mechanism m, struct span rest)
{
	uint8_t memory[SASL_MESSAGE_MAX];
	enum sasl_outcome outcome = SASL_CONTINUE;
	struct sasl_client c;

	sasl_client_init(&c, m, SPAN("joe"), SPAN("secret"), random_bytes);
	while (outcome == SASL_CONTINUE && rest.size > 0) {
		struct buf out = buf_of(memory, sizeof memory);
		outcome = sasl_client_step(&c, next_line(&rest), &out);
		if (outcome == SASL_DERIVE && c.verifier.iterations <= QUICK) {
			sasl_client_derive(&c, NULL);
			outcome = sasl_client_derived(&c, &out);
		}
		ASSERT(!out.overflow);
	}
	ASSERT(m != SASL_SCRAM_SHA_256 || !sasl_client_is_satisfied(&c));
	sasl_client_fini(&c);
}

/* What is written is read again, and is the same. */
static void
to_verifier(struct span text)
{
	uint8_t memory[SASL_VERIFIER_TEXT_MAX];
	struct buf out = buf_of(memory, sizeof memory);
	struct sasl_verifier v, again;

	if (!sasl_verifier_parse(text, &v))
		return;
	sasl_verifier_show(&v, &out);
	ASSERT(!out.overflow && sasl_verifier_parse(buf_span(&out), &again));
	ASSERT(memcmp(&v, &again, sizeof v) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct span rest = span_of(data + 1, size - 1);
	enum sasl_mechanism m = data[0] & 3;
	if (data[0] & 8)
		to_verifier(rest);
	else if (data[0] & 4)
		to_client(m == SASL_EXTERNAL ? SASL_PLAIN : m, rest);
	else
		to_server(m, rest);
	return 0;
}
