/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/* Whatever is accepted as a path is shown and parsed again to the same address, keeps the lengths,
 * and has its parameters parsed without harm. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/assert.h"
#include "relay/smtp/address.h"
#include "relay/smtp/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_again(const struct address *a)
{
	uint8_t memory[ADDRESS_PATH_MAX];
	struct buf shown = buf_of(memory, sizeof memory);
	struct address again;
	size_t used;

	ASSERT(address_show(a, &shown));
	ASSERT(address_parse_path(buf_span(&shown), ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_POSTMASTER,
				  &again, &used) == ADDRESS_OK);
	ASSERT(used == shown.size);
	ASSERT(again.kind == a->kind && again.utf8 == a->utf8 && again.quoted == a->quoted);
	ASSERT(span_eq(again.local, a->local) && span_eq(again.domain, a->domain));
	ASSERT(memcmp(again.ip, a->ip, sizeof a->ip) == 0);
	buf_reset(&shown);
	ASSERT(address_unquote(a, &shown) && shown.size <= ADDRESS_LOCAL_MAX);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct address a;
	struct mail_params mail;
	struct rcpt_params rcpt;
	size_t used;

	if (address_parse_path(in, ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_POSTMASTER, &a, &used) ==
	    ADDRESS_OK) {
		ASSERT(used <= size && data[used - 1] == '>');
		check_again(&a);
		in = span_after(in, used);
	}
	params_parse_mail(in, PARAMS_AUTH, &mail);
	if (params_parse_rcpt(in, true, &rcpt) == REPLY_NONE && rcpt.orcpt.size > 0)
		ASSERT(rcpt.orcpt.size <= PARAMS_ORCPT_MAX);
	address_parse_mailbox(span_of(data, size), &a);
	return 0;
}
