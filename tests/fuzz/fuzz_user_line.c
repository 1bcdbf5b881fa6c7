/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/* Any line of a file of users: what is taken is what the file promises. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "relay/smtp/user_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t fingerprint[USER_FINGERPRINT_SIZE];
	struct user_line line;
	struct span item;

	if (user_line_parse(span_of(data, size), &line) != NULL)
		return 0;
	if (line.kind == USER_LINE_SECRET)
		ASSERT(line.secret_size >= 16 && line.secret_size <= USER_SECRET_MAX);
	if (line.kind != USER_LINE_USER)
		return 0;
	ASSERT(user_line_is_name(line.name));
	ASSERT(line.has_verifier == (line.verifier.iterations > 0));
	while (user_line_item(&line.certificates, &item))
		ASSERT(user_line_fingerprint(item, fingerprint));
	while (user_line_item(&line.from, &item))
		ASSERT(item.size > 0);
	return 0;
}
