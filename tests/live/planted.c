/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bug for ringpostd: whatever is about to be delivered to an address that begins with "planted-"
 * kills the process by an assertion. Linked with `--wrap=sender_start`, so that the program is
 * the one that is shipped but for this.
 */
#include "core/base/assert.h"
#include "relay/smtp/sender.h"

void __real_sender_start(struct sender *s, struct sender_transaction *t);
void __wrap_sender_start(struct sender *s, struct sender_transaction *t);

void
__wrap_sender_start(struct sender *s, struct sender_transaction *t)
{
	for (uint32_t i = 0; i < t->recipient_count; i++)
		ASSERT(!span_starts_with(t->recipients[i].address, SPAN("planted-")));
	__real_sender_start(s, t);
}
