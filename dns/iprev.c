/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/iprev.h"

#include <string.h>

#include "core/base/assert.h"
#include "dns/inside.h"
#include "dns/name.h"

const char *
iprev_result_label(enum iprev_result r)
{
	static const char *const labels[] = {
		[IPREV_PASS] = "pass",
		[IPREV_FAIL] = "fail",
		[IPREV_TEMPERROR] = "temperror",
		[IPREV_PERMERROR] = "permerror",
	};

	ASSERT(r < sizeof labels / sizeof labels[0]);
	return labels[r];
}

static void
let_go(struct iprev *i)
{
	if (i->names != NULL)
		dns_answer_put(i->names);
	if (i->last != NULL)
		dns_answer_put(i->last);
	i->names = i->last = NULL;
}

static bool
has_address(const struct iprev *i, const struct dns_answer *a)
{
	for (unsigned n = 0; n < a->count; n++) {
		uint8_t ip[16];
		if (net_address_ip(&a->records[n].address, ip) == i->ip_size &&
		    memcmp(ip, i->ip, i->ip_size) == 0)
			return true;
	}
	return false;
}

static bool
end(struct iprev *i, enum iprev_result result)
{
	i->outcome.result = result;
	return true;
}

/* These say whether it has ended; else a question is open. */
static bool ask(struct iprev *i, struct span name, enum dns_type type);

/* The next name of the address, or the end. */
static bool
look_at_next(struct iprev *i)
{
	unsigned most = i->names->count < IPREV_NAMES_MAX ? i->names->count : IPREV_NAMES_MAX;

	if (i->next == most)
		return end(i, i->is_uncertain ? IPREV_TEMPERROR : IPREV_FAIL);
	return ask(i, i->names->records[i->next].name, i->ip_size == 4 ? DNS_A : DNS_AAAA);
}

/* Takes the reference. */
static bool
take_names(struct iprev *i, struct dns_answer *a)
{
	i->names = a;
	i->outcome.security = a->security;
	if (a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS)
		return end(i, IPREV_TEMPERROR);
	return a->count == 0 ? end(i, IPREV_PERMERROR) : look_at_next(i);
}

/* Takes the reference. */
static bool
take_answer(struct iprev *i, struct dns_answer *a)
{
	if (i->names == NULL)
		return take_names(i, a);
	i->is_uncertain |= a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS;
	if (!has_address(i, a)) {
		dns_answer_put(a);
		i->next++;
		return look_at_next(i);
	}
	i->last = a;
	i->outcome.name = i->names->records[i->next].name;
	if (a->security != DNS_SECURE)
		i->outcome.security = a->security;
	return end(i, IPREV_PASS);
}

static void
on_answer(struct dns_query *q, struct dns_answer *a)
{
	struct iprev *i = CONTAINER_OF(q, struct iprev, query);

	if (!take_answer(i, dns_answer_get(a)))
		return;
	/* The owner may start it again, or free it, from inside. */
	struct dns_answer *names = i->names, *last = i->last;
	struct iprev_outcome outcome = i->outcome;
	i->names = i->last = NULL;
	i->is_open = false;
	i->on_done(i, &outcome);
	dns_answer_put(names);
	if (last != NULL)
		dns_answer_put(last);
}

/* The depth of look_at_next, ask and take_answer is bounded by IPREV_NAMES_MAX. */
static bool
ask(struct iprev *i, struct span name, enum dns_type type)
{
	struct dns_answer *a = resolver_peek(i->resolver, name, type);

	if (a != NULL)
		return take_answer(i, a);
	i->query = (struct dns_query){ .on_done = on_answer };
	resolver_ask(i->resolver, &i->query, name, type);
	return false;
}

const struct iprev_outcome *
iprev_start(struct iprev *i, struct resolver *r, const struct net_address *client)
{
	uint8_t memory[DNS_NAME_MAX + 1];
	struct buf name = buf_of(memory, sizeof memory);

	ASSERT(!i->is_open && i->names == NULL && i->on_done != NULL);
	*i = (struct iprev){ .resolver = r, .on_done = i->on_done };
	i->ip_size = (uint8_t)net_address_ip(client, i->ip);
	bool has_ended = i->ip_size == 0 || !name_of_address(client, &name)
				 ? end(i, IPREV_PERMERROR) /* not of a network */
				 : ask(i, buf_span(&name), DNS_PTR);
	i->is_open = !has_ended;
	return has_ended ? &i->outcome : NULL;
}

void
iprev_cancel(struct iprev *i)
{
	if (i->is_open)
		resolver_cancel(&i->query);
	i->is_open = false;
	let_go(i);
}
