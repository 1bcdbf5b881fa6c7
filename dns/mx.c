/* SPDX-License-Identifier: Apache-2.0
 *
 * The pure half of mx.h: outcomes, and the selection of mx_select.h.
 */
#include "dns/mx.h"

#include "core/base/assert.h"
#include "dns/mx_select.h"
#include "dns/text.h"

enum {
	FAILED_MS = 5000, /* how long a lookup without any host is remembered */
	BOGUS_MS = 15000,
	PARTLY_MS = 30000, /* one where some hosts could not be resolved */
	LIFE_MIN_MS = 1000,
};

static const struct {
	const char *label;
	const char *status;
	bool temporary;
} outcomes[] = {
	[MX_FOUND] = { "found", "2.0.0", false },
	[MX_NO_DOMAIN] = { "no_domain", "5.1.2", false },
	[MX_NULL] = { "null_mx", "5.1.10", false },
	[MX_NO_HOST] = { "no_host", "5.4.4", false },
	[MX_LOOP] = { "loop", "5.4.6", false },
	[MX_FAILED] = { "failed", "4.4.3", true },
	[MX_BOGUS] = { "bogus", "4.4.3", true },
	[MX_UNPROTECTED] = { "unprotected", "4.7.5", true },
};

const char *
mx_outcome_label(enum mx_outcome o)
{
	ASSERT((size_t)o < sizeof outcomes / sizeof outcomes[0]);
	return outcomes[o].label;
}

const char *
mx_outcome_status(enum mx_outcome o)
{
	ASSERT((size_t)o < sizeof outcomes / sizeof outcomes[0]);
	return outcomes[o].status;
}

bool
mx_outcome_is_temporary(enum mx_outcome o)
{
	ASSERT((size_t)o < sizeof outcomes / sizeof outcomes[0]);
	return outcomes[o].temporary;
}

/* ---- ourselves ---- */

static bool
self_has_name(const struct mx_self *self, struct span name)
{
	for (unsigned i = 0; self != NULL && i < self->name_count; i++) {
		struct span own = self->names[i];

		if (own.size > 0 && own.data[own.size - 1] == '.')
			own = span_first(own, own.size - 1);
		if (own.size > 0 && span_eq_nocase(own, name))
			return true;
	}
	return false;
}

bool
mx_self_has_address(const struct mx_self *self, const struct net_address *a)
{
	uint8_t ip[16], own[16];
	size_t size = net_address_ip(a, ip);

	for (unsigned i = 0; self != NULL && size > 0 && i < self->address_count; i++) {
		if (net_address_ip(&self->addresses[i], own) == size && memcmp(ip, own, size) == 0)
			return true;
	}
	return false;
}

static bool
answer_is_self(const struct mx_self *self, const struct dns_answer *a)
{
	for (unsigned i = 0; a != NULL && i < a->count; i++) {
		if (mx_self_has_address(self, &a->records[i].address))
			return true;
	}
	return false;
}

/* ---- the plan ---- */

static void
plan_init(struct mx_plan *p, struct span domain, uint16_t port)
{
	*p = (struct mx_plan){ .outcome = MX_FOUND, .port = port, .domain = domain };
	p->why = buf_of(p->why_memory, sizeof p->why_memory);
	p->expires_at_ms = UINT64_MAX;
}

static void
explain(struct buf *why, const char *type, struct span name, struct span reason)
{
	buf_append_string(why, why->size > 0 ? "; " : "");
	buf_append_string(why, type);
	buf_append_byte(why, ' ');
	buf_append(why, name);
	buf_append_string(why, ": ");
	buf_append(why, span_first(reason, buf_room(why)));
}

static int
compare(const struct mx_candidate *a, const struct mx_candidate *b)
{
	size_t size = a->name.size < b->name.size ? a->name.size : b->name.size;

	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	int by_name = size == 0 ? 0 : memcmp(a->name.data, b->name.data, size);
	if (by_name != 0)
		return by_name;
	return a->name.size == b->name.size ? 0 : a->name.size < b->name.size ? -1 : 1;
}

/* Insertion sort: an answer has at most DNS_RECORDS_MAX records. Null records take no part. */
static unsigned
sort_records(const struct dns_answer *mx, struct mx_candidate sorted[DNS_RECORDS_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < mx->count; i++) {
		struct mx_candidate new = { .name = mx->records[i].name,
					    .preference = mx->records[i].preference };
		unsigned at = count;

		if (new.name.size == 0)
			continue;
		for (; at > 0 && compare(&new, &sorted[at - 1]) < 0; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = new;
		count++;
	}
	return count;
}

static bool
is_planned(const struct mx_plan *p, struct span name)
{
	for (unsigned i = 0; i < p->count; i++) {
		if (span_eq(p->hosts[i].name, name))
			return true;
	}
	return false;
}

/* The hosts in front of ourselves: those that are not preferred to us would send it back (RFC 5321
 * 5.1). */
static void
plan_records(struct mx_plan *p, const struct dns_answer *mx, const struct mx_self *self)
{
	struct mx_candidate sorted[DNS_RECORDS_MAX];
	unsigned count = sort_records(mx, sorted);
	unsigned end = 0;

	if (count == 0) {
		p->outcome = MX_NULL;
		explain(&p->why, "MX", p->domain, SPAN("the domain takes no mail (null MX)"));
		return;
	}
	while (end < count && !self_has_name(self, sorted[end].name))
		end++;
	if (end < count)
		while (end > 0 && sorted[end - 1].preference == sorted[end].preference)
			end--;
	if (end == 0) {
		p->outcome = MX_LOOP;
		explain(&p->why, "MX", p->domain, SPAN("the best host is this one"));
		return;
	}
	for (unsigned i = 0; i < end && p->count < MX_HOSTS_MAX; i++) {
		if (!is_planned(p, sorted[i].name))
			p->hosts[p->count++] = sorted[i];
	}
}

static void
plan_implicit(struct mx_plan *p, const struct mx_self *self)
{
	p->is_implicit = true;
	if (self_has_name(self, p->domain)) {
		p->outcome = MX_LOOP;
		explain(&p->why, "MX", p->domain,
			SPAN("there is none, and the domain is this host"));
		return;
	}
	p->hosts[p->count++] = (struct mx_candidate){ .name = p->domain };
}

void
mx_plan(struct mx_plan *p, struct span domain, uint16_t port, const struct dns_answer *mx,
	const struct mx_self *self)
{
	plan_init(p, domain, port);
	p->mx_secure = mx->security == DNS_SECURE;
	p->expires_at_ms = mx->expires_at_ms;
	switch (mx->outcome) {
	case DNS_FOUND:
		plan_records(p, mx, self);
		return;
	case DNS_NO_DATA:
		plan_implicit(p, self);
		return;
	case DNS_NO_DOMAIN:
		p->outcome = MX_NO_DOMAIN;
		explain(&p->why, "MX", domain, SPAN("there is no such domain"));
		return;
	case DNS_FAILED:
	case DNS_BOGUS:
		p->outcome = mx->outcome == DNS_BOGUS ? MX_BOGUS : MX_FAILED;
		explain(&p->why, "MX", domain, mx->why);
		return;
	}
}

void
mx_plan_host(struct mx_plan *p, struct span name, uint16_t port)
{
	plan_init(p, name, port);
	p->hosts[p->count++] = (struct mx_candidate){ .name = name };
}

/* ---- the selection ---- */

/* splitmix64: chance drawn out of one number, so that a selection follows from its arguments. */
static uint64_t
draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void
shuffle(uint8_t *items, unsigned count, uint64_t *chance)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned other = (unsigned)(draw(chance) % i);
		uint8_t item = items[i - 1];
		items[i - 1] = items[other];
		items[other] = item;
	}
}

static bool
has_failed(const struct dns_answer *a)
{
	return a == NULL || a->outcome == DNS_FAILED || a->outcome == DNS_BOGUS;
}

/* How many of the planned hosts stand in front of one that has an address of ours. */
static unsigned
cut_at_self(const struct mx_plan *p, const struct mx_self *self)
{
	unsigned end = 0;

	while (end < p->count && !answer_is_self(self, p->hosts[end].v4) &&
	       !answer_is_self(self, p->hosts[end].v6))
		end++;
	if (end < p->count)
		while (end > 0 && p->hosts[end - 1].preference == p->hosts[end].preference)
			end--;
	return end;
}

/* ---- TLSA records ---- */

/* Of what answered, everything was validated. An answer that is missing leaves no way to forge one:
 * it only leaves addresses out. */
static bool
is_secure(const struct mx_candidate *c)
{
	bool secure = !has_failed(c->v4) || !has_failed(c->v6);

	if (!has_failed(c->v4))
		secure &= c->v4->security == DNS_SECURE;
	if (!has_failed(c->v6))
		secure &= c->v6->security == DNS_SECURE;
	return secure;
}

/* An answer with addresses; NULL where there is none (yet). */
static const struct dns_answer *
found_of(const struct mx_candidate *c)
{
	if (c->v6 != NULL && c->v6->outcome == DNS_FOUND)
		return c->v6;
	return c->v4 != NULL && c->v4->outcome == DNS_FOUND ? c->v4 : NULL;
}

/* Whose records are asked for first, once that is known: where the CNAMEs lead if all of them are
 * secure; else the host itself, if at least its own CNAME is (RFC 7672 2.2.2). */
static bool
first_question(const struct mx_candidate *c, struct mx_question *out)
{
	const struct dns_answer *found = found_of(c);

	if (found == NULL)
		return false;
	if (is_secure(c)) {
		*out = (struct mx_question){ DNS_TLSA, found->name };
		return true;
	}
	if (span_eq(found->name, c->name))
		return false;
	if (c->alias == NULL) {
		*out = (struct mx_question){ DNS_CNAME, c->name };
		return true;
	}
	*out = (struct mx_question){ DNS_TLSA, c->name };
	return c->alias->outcome == DNS_FOUND && c->alias->security == DNS_SECURE;
}

bool
mx_tlsa_next(const struct mx_plan *p, const struct mx_candidate *c, struct mx_question *out)
{
	if (!p->dane)
		return false;
	if (c->tlsa == NULL)
		return first_question(c, out);
	*out = (struct mx_question){ DNS_TLSA, c->name };
	return !has_failed(c->tlsa) &&
	       (c->tlsa->outcome != DNS_FOUND || c->tlsa->security != DNS_SECURE) &&
	       !span_eq(c->tlsa_base, c->name);
}

void
mx_tlsa_name(struct span base, uint16_t port, struct buf *out)
{
	buf_printf(out, "_%u._tcp.", (unsigned)port);
	buf_append(out, base);
}

/* What all get whose answer was not there in time; its first reference is nobody's. */
static struct dns_answer late = {
	.references = 1,
	.outcome = DNS_FAILED,
	.why = { (const uint8_t *)"no answer in time", 17 },
};

/* What is to be known of a host's records: NULL where they were not to be asked for. A question
 * that is still open, or failed on the way, must not look like that. */
static struct dns_answer *
tlsa_of(const struct mx_plan *p, const struct mx_candidate *c)
{
	struct mx_question open;

	if (mx_tlsa_next(p, c, &open))
		return &late;
	if (c->tlsa == NULL && c->alias != NULL && has_failed(c->alias))
		return c->alias;
	return c->tlsa;
}

/* ---- the result ---- */

static struct span
put_text(struct buf *text, struct span s)
{
	struct span copy = span_of(text->data + text->size, s.size);

	buf_append(text, s);
	ASSERT(!text->overflow);
	return copy;
}

static void
put_site(const struct mx_plan *p, unsigned end, struct mx_hosts *out, struct buf *text)
{
	size_t start = text->size;

	for (unsigned i = 0; i < end; i++) {
		if (i > 0)
			buf_append_byte(text, p->hosts[i].preference == p->hosts[i - 1].preference
						      ? '='
						      : ',');
		buf_append(text, p->hosts[i].name);
	}
	ASSERT(!text->overflow);
	out->site = span_after(buf_span(text), start);
}

static unsigned
list_family(const struct dns_answer *a, uint8_t order[DNS_RECORDS_MAX], uint64_t *chance)
{
	unsigned count = a == NULL || a->outcome != DNS_FOUND ? 0 : a->count;

	ASSERT(count <= DNS_RECORDS_MAX);
	for (unsigned i = 0; i < count; i++)
		order[i] = (uint8_t)i;
	shuffle(order, count, chance);
	return count;
}

static void
put_address(struct mx_hosts *out, unsigned host, const struct net_address *a, uint16_t port)
{
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	net_address_of_ip(ip, size, port, &out->addresses[out->address_count]);
	out->host_of[out->address_count++] = (uint8_t)host;
}

/* IPv6 first, then alternating: where one family does not work, the other is tried next. */
static void
put_host(const struct mx_plan *p, const struct mx_candidate *c, uint64_t *chance,
	 struct mx_hosts *out, struct buf *text)
{
	uint8_t order[2][DNS_RECORDS_MAX];
	const struct dns_answer *families[2] = { c->v6, c->v4 };
	unsigned counts[2], taken[2] = { 0, 0 };
	struct mx_host host = {
		.preference = c->preference,
		.addresses_secure = is_secure(c),
		.first = out->address_count,
		.tlsa = tlsa_of(p, c),
	};

	for (unsigned f = 0; f < 2; f++)
		counts[f] = list_family(families[f], order[f], chance);
	for (unsigned f = 0;
	     out->address_count < MX_ADDRESSES_MAX && host.count < MX_HOST_ADDRESSES_MAX &&
	     (taken[0] < counts[0] || taken[1] < counts[1]);
	     f = 1 - f) {
		if (taken[f] == counts[f])
			continue;
		put_address(out, out->host_count,
			    &families[f]->records[order[f][taken[f]++]].address, p->port);
		host.count++;
	}
	if (host.count == 0)
		return;
	host.name = put_text(text, c->name);
	host.tlsa_base = host.name;
	if (c->tlsa != NULL && !span_eq(c->tlsa_base, c->name))
		host.tlsa_base = put_text(text, c->tlsa_base);
	out->hosts[out->host_count++] = host;
}

/* What the answers say besides addresses: failures and the least life. */
struct survey {
	bool failed;
	bool bogus;
	bool tlsa_failed;
	uint64_t expires_at_ms;
};

static void
survey_answer(struct survey *s, const struct dns_answer *a, const char *type, struct span name,
	      struct buf *why)
{
	if (a == NULL || a->outcome == DNS_FAILED)
		s->failed = true;
	else if (a->outcome == DNS_BOGUS)
		s->bogus = true;
	if (has_failed(a))
		explain(why, type, name, a == NULL ? SPAN("no answer in time") : a->why);
	else if (a->expires_at_ms < s->expires_at_ms)
		s->expires_at_ms = a->expires_at_ms;
}

/* Records that could not be had leave their host out of use for some, so they are asked for soon
 * again. */
static void
survey_tlsa(struct survey *s, const struct mx_plan *p, const struct mx_candidate *c)
{
	const struct dns_answer *all[] = { tlsa_of(p, c), c->tlsa, c->alias };

	for (unsigned i = 0; i < 3; i++) {
		if (all[i] == NULL)
			continue;
		if (has_failed(all[i]))
			s->tlsa_failed = true;
		else if (all[i]->expires_at_ms < s->expires_at_ms)
			s->expires_at_ms = all[i]->expires_at_ms;
	}
}

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* No host has an address: what that means depends on whether we may know it for sure. */
static void
decide_none(struct mx_plan *p, const struct survey *s)
{
	if (s->bogus)
		p->outcome = MX_BOGUS;
	else if (s->failed)
		p->outcome = MX_FAILED;
	else
		p->outcome = MX_NO_HOST;
	if (p->outcome == MX_NO_HOST)
		explain(&p->why, p->is_implicit ? "A and AAAA" : "MX", p->domain,
			p->is_implicit ? SPAN("there is neither an MX nor an address")
				       : SPAN("none of the hosts has an address"));
}

static uint64_t
decide_life(const struct mx_plan *p, const struct survey *s, uint64_t now_ms)
{
	uint64_t at_ms = s->expires_at_ms;

	if (p->outcome == MX_FAILED)
		return now_ms + FAILED_MS;
	if (p->outcome == MX_BOGUS)
		return now_ms + BOGUS_MS;
	if (s->failed || s->bogus || s->tlsa_failed)
		at_ms = least(at_ms, now_ms + PARTLY_MS);
	return at_ms < now_ms + LIFE_MIN_MS ? now_ms + LIFE_MIN_MS : at_ms;
}

static void
select_hosts(struct mx_plan *p, unsigned end, uint64_t chance, struct mx_hosts *out,
	     struct buf *text)
{
	uint8_t order[MX_HOSTS_MAX];
	unsigned first = 0;

	for (unsigned i = 0; i < end; i++)
		order[i] = (uint8_t)i;
	while (first < end) {
		unsigned next = first;
		while (next < end && p->hosts[next].preference == p->hosts[first].preference)
			next++;
		shuffle(order + first, next - first, &chance);
		first = next;
	}
	for (unsigned i = 0; i < end; i++)
		put_host(p, &p->hosts[order[i]], &chance, out, text);
}

void
mx_select(struct mx_plan *p, const struct mx_self *self, uint64_t chance, uint64_t now_ms,
	  struct mx_hosts *out, struct buf *text)
{
	struct survey survey = { .expires_at_ms = p->expires_at_ms };

	ASSERT(p->count <= MX_HOSTS_MAX && buf_room(text) >= MX_TEXT_MAX);
	*out = (struct mx_hosts){ .is_implicit = p->is_implicit, .mx_secure = p->mx_secure };
	out->domain = put_text(text, p->domain);
	if (p->outcome == MX_FOUND) {
		unsigned end = cut_at_self(p, self);
		for (unsigned i = 0; i < p->count; i++) {
			const struct mx_candidate *c = &p->hosts[i];
			survey_answer(&survey, c->v6, "AAAA", c->name, &p->why);
			survey_answer(&survey, c->v4, "A", c->name, &p->why);
			survey_tlsa(&survey, p, c);
		}
		put_site(p, end, out, text);
		select_hosts(p, end, chance, out, text);
		if (end == 0) {
			p->outcome = MX_LOOP;
			buf_reset(&p->why);
			explain(&p->why, "MX", p->domain,
				SPAN("the best host has an address of this one"));
		} else if (out->host_count == 0) {
			decide_none(p, &survey);
		}
	}
	out->outcome = p->outcome;
	if (p->outcome != MX_FOUND)
		out->why = put_text(text, buf_span(&p->why));
	out->expires_at_ms = decide_life(p, &survey, now_ms);
}

void
mx_select_direct(struct span name, const struct net_address *addresses, unsigned count,
		 uint64_t expires_at_ms, struct mx_hosts *out, struct buf *text)
{
	*out = (struct mx_hosts){
		.outcome = MX_FOUND,
		.is_literal = true,
		.expires_at_ms = expires_at_ms,
		.host_count = 1,
	};
	ASSERT(count > 0 && count <= MX_HOST_ADDRESSES_MAX);
	out->domain = out->site = out->hosts[0].name = put_text(text, name);
	for (unsigned i = 0; i < count; i++)
		out->addresses[i] = addresses[i];
	out->hosts[0].count = out->address_count = count;
}

void
mx_select_none(enum mx_outcome outcome, struct span domain, struct span why, uint64_t expires_at_ms,
	       struct mx_hosts *out, struct buf *text)
{
	ASSERT(outcome != MX_FOUND);
	*out = (struct mx_hosts){ .outcome = outcome, .expires_at_ms = expires_at_ms };
	out->domain = put_text(text, domain);
	out->why = put_text(text, why);
}

bool
mx_literal_parse(struct span domain, uint16_t port, struct net_address *out)
{
	struct span inside = span_first(span_after(domain, 1), domain.size - 2);
	bool v6;

	if (domain.size < 3 || domain.data[0] != '[' || domain.data[domain.size - 1] != ']')
		return false;
	v6 = span_eq_nocase(span_first(inside, 5), SPAN("IPv6:"));
	if (v6)
		inside = span_after(inside, 5);
	/* A colon tells the family, and only the tag allows one. */
	return v6 == (span_find(inside, ':', 0) < inside.size) && inside.data[0] != '[' &&
	       text_ip(inside, port, out);
}
