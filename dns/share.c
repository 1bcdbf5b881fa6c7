/* SPDX-License-Identifier: Apache-2.0
 *
 * What one worker has learnt its peers need not ask for: a look-up that is validated costs a
 * hundred times what a letter does. Nothing depends on a letter: one that finds no place or no
 * memory is not sent, and the peer asks for itself.
 */
#include <stdlib.h>

#include "dns/answer.h"
#include "dns/inside.h"

struct letter {
	struct message message;
	struct dns_answer *answer; /* a reference */
	enum dns_type type;
	size_t name_size;
	char name[];
};

/* At the peer, which may have stopped already. */
static void
on_letter(struct message *m, void *context)
{
	struct letter *l = CONTAINER_OF(m, struct letter, message);
	struct resolver *r = ((struct worker *)context)->resolver;

	if (r == NULL || r->stopping) {
		dns_answer_put(l->answer);
	} else {
		DNS_COUNT(r, DNS_TOLD, 1);
		cache_put(r->answers, span_of(l->name, l->name_size), l->type, l->answer,
			  answer_bytes(l->answer), l->answer->expires_at_ms);
	}
	free(l);
}

static void
send_letter(struct worker *from, struct worker *to, struct span name, enum dns_type type,
	    struct dns_answer *a)
{
	struct letter *l = malloc(sizeof *l + name.size);

	if (l == NULL)
		return;
	/* An eighth is left to those who are waited for. */
	if (!mailbox_reserve_long(&to->mailbox, 1)) {
		free(l);
		return;
	}
	l->message.on_message = on_letter;
	l->answer = dns_answer_get(a);
	l->type = type;
	l->name_size = name.size;
	memcpy(l->name, name.data, name.size);
	worker_post(from, to, &l->message);
}

void
share_answer(struct resolver *r, struct span name, enum dns_type type, struct dns_answer *a)
{
	struct worker *w = r->worker;

	if (r->stopping || a->is_fleeting || a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		return;
	/* Names of clients would fill all caches, and are asked for once each. */
	if (type == DNS_PTR)
		return;
	for (unsigned i = 0; i < w->count; i++) {
		if (i != w->number)
			send_letter(w, w->peers[i], name, type, a);
	}
}
