/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses admin */
/*
 * A line of the admin socket: whatever it is, it is read or refused with a reason; what is read
 * keeps within the table.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "relay/admin/protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_argument(const struct admin_request *r, enum admin_argument n)
{
	const struct argument_row *a = protocol_argument(n);

	switch (a->kind) {
	case ARG_TEXT:
		ASSERT(r->texts[n].size >= a->least && r->texts[n].size <= a->most);
		break;
	case ARG_NUMBER:
	case ARG_DURATION:
		ASSERT(r->numbers[n] >= a->least && (a->most == 0 || r->numbers[n] <= a->most));
		break;
	case ARG_STATE:
	case ARG_BY:
	case ARG_TO:
		ASSERT(protocol_word_is_of((enum admin_word)r->numbers[n], a->kind));
		break;
	case ARG_IDS:
		ASSERT(r->id_count > 0 && r->id_count <= PROTOCOL_IDS_MAX);
		break;
	case ARG_ID:
	case ARG_FLAG:
	case ARG_KINDS:
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct admin_request r;
	uint8_t memory[1024];
	struct buf why = buf_of(memory, sizeof memory);

	if (size > PROTOCOL_REQUEST_MAX)
		return 0;
	enum admin_error e = protocol_read(span_of(data, size), &r, &why);
	if (e != ADMIN_OK) {
		ASSERT(why.size > 0 && r.json == NULL);
		return 0;
	}
	const struct command_row *command = protocol_command(r.command);
	ASSERT((r.given & ~command->takes) == 0);
	ASSERT((command->needs & ~r.given) == 0);
	for (unsigned n = 0; n < ADMIN_ARGS; n++) {
		if (request_has(&r, n))
			check_argument(&r, n);
	}
	protocol_put(&r);
	return 0;
}
