/* SPDX-License-Identifier: Apache-2.0 */
/* test: uses dns core machine */
/* The selection of a domain's hosts, every shape of it, from answers that are written down here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "dns/answer.h"
#include "dns/mx_select.h"
#include "dns/text.h"

enum { NOW_MS = 1000000, TTL_MS = 3600000 };

/* An answer in one line: an outcome, "secure" or not, then records: "10:mx1.example.net" of MX, or
 * addresses; "@" where CNAMEs led. "found secure 192.0.2.1 2001:db8::1" */
static struct dns_answer *
answer_of(const char *text)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	struct dns_answer from = { .expires_at_ms = NOW_MS + TTL_MS, .records = records };
	struct span line = span_of_string(text), word;

	if (text == NULL)
		return NULL;
	assert_true(text_word(&line, &word));
	for (from.outcome = DNS_FOUND;
	     !span_eq(word, span_of_string(dns_outcome_label(from.outcome))); from.outcome++)
		assert_true(from.outcome < DNS_BOGUS);
	if (from.outcome == DNS_FAILED || from.outcome == DNS_BOGUS) {
		from.why = SPAN("SERVFAIL");
		from.expires_at_ms = NOW_MS + 5000;
	}
	while (text_word(&line, &word)) {
		struct dns_record *r = &records[from.count];
		size_t colon = span_find(word, ':', 0);
		uint64_t preference;
		*r = (struct dns_record){ 0 };
		if (span_eq(word, SPAN("secure"))) {
			from.security = DNS_SECURE;
			continue;
		}
		if (word.data[0] == '@') {
			from.name = span_after(word, 1);
			continue;
		}
		if (!text_ip(word, 0, &r->address)) {
			assert_true(span_to_u64(span_first(word, colon), &preference));
			r->preference = (uint16_t)preference;
			r->name = span_after(word, colon + 1);
		}
		from.count++;
	}
	return answer_new(&from);
}

struct row {
	const char *story;
	const char *mx;
	/* By host: "name v6-answer | v4-answer"; hosts that are not named do not exist. */
	const char *hosts[6];
	/* "outcome [implicit] [mx] site" and the hosts with '+' where they are secure */
	const char *expected;
	uint64_t life_ms;
};

/* Who we are, in all rows. */
static const struct span own_names[] = { { (const uint8_t *)"Relay.Example.org.", 18 },
					 { (const uint8_t *)"alias.example.org", 17 } };

static const struct row rows[] = {
	{ "one host",
	  "found 10:mx1",
	  { "mx1 no_data | found 192.0.2.1" },
	  "found mx1 | mx1 10 192.0.2.1:25",
	  TTL_MS },
	{ "by preference, whatever the order of the records",
	  "found 30:c 10:a 20:b",
	  { "a no_data | found 192.0.2.1", "b no_data | found 192.0.2.2",
	    "c no_data | found 192.0.2.3" },
	  "found a,b,c | a 10 192.0.2.1:25 | b 20 192.0.2.2:25 | c 30 192.0.2.3:25",
	  TTL_MS },
	{ "secure all the way",
	  "found secure 10:mx1",
	  { "mx1 no_data secure | found secure 192.0.2.1" },
	  "found mx mx1 | mx1+ 10 192.0.2.1:25",
	  TTL_MS },
	{ "a secure MX to an insecure host",
	  "found secure 10:mx1",
	  { "mx1 found 2001:db8::1 | found secure 192.0.2.1" },
	  "found mx mx1 | mx1 10 [2001:db8::1]:25 192.0.2.1:25",
	  TTL_MS },
	{ "a host whose AAAA failed is as secure as its A",
	  "found secure 10:mx1",
	  { "mx1 failed | found secure 192.0.2.1" },
	  "found mx mx1 | mx1+ 10 192.0.2.1:25",
	  30000 },
	{ "families alternate",
	  "found 10:mx1",
	  { "mx1 found 2001:db8::1 | found 192.0.2.1" },
	  "found mx1 | mx1 10 [2001:db8::1]:25 192.0.2.1:25",
	  TTL_MS },
	{ "IPv6 alone",
	  "found 10:mx1",
	  { "mx1 found 2001:db8::1 | no_data" },
	  "found mx1 | mx1 10 [2001:db8::1]:25",
	  TTL_MS },
	{ "a host that stands twice keeps its best place",
	  "found 20:a 10:a 15:b",
	  { "a no_data | found 192.0.2.1", "b no_data | found 192.0.2.2" },
	  "found a,b | a 10 192.0.2.1:25 | b 15 192.0.2.2:25",
	  TTL_MS },
	{ "implicit MX",
	  "no_data",
	  { "example.net no_data | found 192.0.2.1" },
	  "found implicit example.net | example.net 0 192.0.2.1:25",
	  TTL_MS },
	{ "implicit MX, validated",
	  "no_data secure",
	  { "example.net no_data secure | found secure 192.0.2.1" },
	  "found implicit mx example.net | example.net+ 0 192.0.2.1:25",
	  TTL_MS },
	{ "neither MX nor address",
	  "no_data",
	  { "example.net no_data | no_data" },
	  "no_host implicit example.net",
	  TTL_MS },
	{ "implicit MX, addresses failed",
	  "no_data",
	  { "example.net failed | no_data" },
	  "failed implicit example.net",
	  5000 },
	{ "no such domain", "no_domain", { NULL }, "no_domain ", TTL_MS },
	{ "MX failed", "failed", { NULL }, "failed ", 5000 },
	{ "MX bogus", "bogus", { NULL }, "bogus ", 15000 },
	{ "null MX", "found 0:", { NULL }, "null_mx ", TTL_MS },
	{ "null MX, validated", "found secure 0:", { NULL }, "null_mx mx ", TTL_MS },
	{ "null MX with another preference", "found 10:", { NULL }, "null_mx ", TTL_MS },
	{ "null MX beside others is none",
	  "found 0: 10:a",
	  { "a no_data | found 192.0.2.1" },
	  "found a | a 10 192.0.2.1:25",
	  TTL_MS },
	{ "a host without addresses is passed over",
	  "found 10:a 20:b",
	  { "a no_domain | no_domain", "b no_data | found 192.0.2.2" },
	  "found a,b | b 20 192.0.2.2:25",
	  TTL_MS },
	{ "a host that failed is passed over, and not for long",
	  "found 10:a 20:b",
	  { "a failed | failed", "b no_data | found 192.0.2.2" },
	  "found a,b | b 20 192.0.2.2:25",
	  30000 },
	{ "a host without an answer is passed over",
	  "found 10:a 20:b",
	  { "b no_data | found 192.0.2.2" },
	  "found a,b | b 20 192.0.2.2:25",
	  30000 },
	{ "a bogus host is passed over",
	  "found 10:a 20:b",
	  { "a bogus | bogus", "b no_data | found 192.0.2.2" },
	  "found a,b | b 20 192.0.2.2:25",
	  30000 },
	{ "hosts without any address",
	  "found 10:a 20:b",
	  { "a no_data | no_data", "b no_domain | no_domain" },
	  "no_host a,b",
	  TTL_MS },
	{ "one failed, one without: it may pass",
	  "found 10:a 20:b",
	  { "a failed | no_data", "b no_domain | no_domain" },
	  "failed a,b",
	  5000 },
	{ "bogus wins over failed",
	  "found 10:a 20:b",
	  { "a failed | failed", "b bogus | no_data" },
	  "bogus a,b",
	  15000 },
	{ "ourselves by name cut off what is not preferred",
	  "found 10:a 20:relay.example.org 20:b 30:c",
	  { "a no_data | found 192.0.2.1", "b no_data | found 192.0.2.2",
	    "c no_data | found 192.0.2.3", "relay.example.org no_data | found 192.0.2.4" },
	  "found a | a 10 192.0.2.1:25",
	  TTL_MS },
	{ "ourselves by another name",
	  "found 10:a 20:alias.example.org",
	  { "a no_data | found 192.0.2.1" },
	  "found a | a 10 192.0.2.1:25",
	  TTL_MS },
	{ "ourselves as the best", "found 10:relay.example.org 20:b", { NULL }, "loop ", TTL_MS },
	{ "ourselves among the best",
	  "found 10:a 10:relay.example.org",
	  { NULL },
	  "loop ",
	  TTL_MS },
	{ "ourselves by address",
	  "found 10:a 20:b 20:c 30:d",
	  { "a no_data | found 192.0.2.1", "b no_data | found 192.0.2.2",
	    "c no_data | found 198.51.100.1", "d no_data | found 192.0.2.3" },
	  "found a | a 10 192.0.2.1:25",
	  TTL_MS },
	{ "ourselves by IPv6 address, as the best",
	  "found 10:a 20:b",
	  { "a found 2001:db8::25 | no_data", "b no_data | found 192.0.2.2" },
	  "loop ",
	  TTL_MS },
	{ "ourselves by address without MX",
	  "no_data",
	  { "example.net no_data | found 198.51.100.1" },
	  "loop implicit ",
	  TTL_MS },
	{ "a name of strange bytes, without addresses",
	  "found 10:a\\032b",
	  { "a\\032b no_domain | no_domain" },
	  "no_host a\\032b",
	  TTL_MS },
};

static struct net_address own_addresses[2];
static const struct mx_self self = {
	.names = own_names, .name_count = 2, .addresses = own_addresses, .address_count = 2
};

static void
take_addresses(struct mx_plan *p, const struct row *row)
{
	for (size_t i = 0; i < 6 && row->hosts[i] != NULL; i++) {
		char copy[200];
		snprintf(copy, sizeof copy, "%s", row->hosts[i]);
		char *name_end = strchr(copy, ' ');
		char *bar = strchr(copy, '|');
		*name_end = *bar = 0;
		for (unsigned n = 0; n < p->count; n++) {
			if (!span_eq(p->hosts[n].name, span_of_string(copy)))
				continue;
			p->hosts[n].v6 = answer_of(name_end + 1);
			p->hosts[n].v4 = answer_of(bar + 1);
		}
	}
}

static void
put_back(struct mx_plan *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		if (p->hosts[i].v6 != NULL)
			dns_answer_put(p->hosts[i].v6);
		if (p->hosts[i].v4 != NULL)
			dns_answer_put(p->hosts[i].v4);
		if (p->hosts[i].alias != NULL)
			dns_answer_put(p->hosts[i].alias);
		if (p->hosts[i].tlsa != NULL)
			dns_answer_put(p->hosts[i].tlsa);
	}
}

static void
show(const struct mx_hosts *h, struct buf *out)
{
	buf_printf(out, "%s %s%s", mx_outcome_label(h->outcome), h->is_implicit ? "implicit " : "",
		   h->mx_secure ? "mx " : "");
	buf_append(out, h->site);
	for (unsigned i = 0; i < h->host_count; i++) {
		const struct mx_host *host = &h->hosts[i];
		buf_append_string(out, " | ");
		buf_append(out, host->name);
		buf_printf(out, "%s %u", host->addresses_secure ? "+" : "",
			   (unsigned)host->preference);
		for (unsigned n = host->first; n < host->first + host->count; n++) {
			assert_int_equal(h->host_of[n], i);
			buf_append_byte(out, ' ');
			net_address_show(&h->addresses[n], out);
		}
	}
}

static struct mx_hosts made;
static uint8_t text_memory[MX_TEXT_MAX];

/* What is known of a host and of its TLSA records, what is to be asked for next, and what the
 * lookup would say if it ended there. The host is "mx"; records "@" a base are those of that. */
struct tlsa_row {
	const char *story;
	const char *v6, *v4, *alias, *tlsa;
	const char *question; /* "TLSA mx", "CNAME mx"; NULL: nothing */
	const char *result;   /* "outcome base"; NULL: not asked for */
	uint64_t life_ms;
};

static const struct tlsa_row tlsa_rows[] = {
	{ "no address yet", NULL, NULL, NULL, NULL, NULL, NULL, 5000 },
	{ "a denial of one family says nothing of the other", "no_data secure @mx", NULL, NULL,
	  NULL, NULL, NULL, 5000 },
	{ "asked at the first secure address, and late if it stays so",
	  "found secure @mx 2001:db8::1", NULL, NULL, NULL, "TLSA mx", "failed mx", 30000 },
	{ "the other family failed: asked all the same", "failed", "found secure @mx 192.0.2.1",
	  NULL, NULL, "TLSA mx", "failed mx", 30000 },
	{ "an insecure host is not asked for", "no_data @mx", "found @mx 192.0.2.1", NULL, NULL,
	  NULL, NULL, TTL_MS },
	{ "one insecure family makes the host insecure", "found secure @mx 2001:db8::1",
	  "found @mx 192.0.2.1", NULL, NULL, NULL, NULL, TTL_MS },
	{ "records are there", "no_data secure @mx", "found secure @mx 192.0.2.1", NULL,
	  "found secure @mx 10:r", NULL, "found mx", TTL_MS },
	{ "there are none", "no_data secure @mx", "found secure @mx 192.0.2.1", NULL,
	  "no_domain secure @mx", NULL, "no_domain mx", TTL_MS },
	{ "records failed", "no_data secure @mx", "found secure @mx 192.0.2.1", NULL, "failed @mx",
	  NULL, "failed mx", 30000 },
	{ "records are bogus", "no_data secure @mx", "found secure @mx 192.0.2.1", NULL,
	  "bogus @mx", NULL, "bogus mx", 30000 },
	{ "a secure alias: where it leads to comes first", "no_data secure @far",
	  "found secure @far 192.0.2.1", NULL, NULL, "TLSA far", "failed mx", 30000 },
	{ "a secure alias with records there", "no_data secure @far", "found secure @far 192.0.2.1",
	  NULL, "found secure @far 10:r", NULL, "found far", TTL_MS },
	{ "a secure alias without records there: its own name is next", "no_data secure @far",
	  "found secure @far 192.0.2.1", NULL, "no_data secure @far", "TLSA mx", "failed far",
	  30000 },
	{ "a secure alias with unsigned records there: its own name is next", "no_data secure @far",
	  "found secure @far 192.0.2.1", NULL, "found @far 10:r", "TLSA mx", "failed far", 30000 },
	{ "a secure alias that failed there is at its end", "no_data secure @far",
	  "found secure @far 192.0.2.1", NULL, "failed @far", NULL, "failed far", 30000 },
	{ "a secure alias with records at its own name", "no_data secure @far",
	  "found secure @far 192.0.2.1", NULL, "found secure @mx 10:r", NULL, "found mx", TTL_MS },
	{ "an alias to an insecure place: is itself secure?", "no_data @far",
	  "found @far 192.0.2.1", NULL, NULL, "CNAME mx", "failed mx", 30000 },
	{ "an insecure alias", "no_data @far", "found @far 192.0.2.1", "found @mx 10:far", NULL,
	  NULL, NULL, TTL_MS },
	{ "an alias that could not be looked at", "no_data @far", "found @far 192.0.2.1", "failed",
	  NULL, NULL, "failed mx", 30000 },
	{ "a secure alias to an insecure place", "no_data @far", "found @far 192.0.2.1",
	  "found secure @mx 10:far", NULL, "TLSA mx", "failed mx", 30000 },
	{ "a secure alias to an insecure place, with records", "no_data @far",
	  "found @far 192.0.2.1", "found secure @mx 10:far", "found secure @mx 10:r", NULL,
	  "found mx", TTL_MS },
};

static void
check_tlsa_row(const struct tlsa_row *row, bool dane)
{
	struct mx_plan plan;
	struct buf text = buf_of(text_memory, sizeof text_memory);
	struct dns_answer *mx = answer_of("found secure 10:mx");
	struct mx_question next;
	uint8_t memory[200];
	struct buf shown = buf_of(memory, sizeof memory);

	mx_plan(&plan, SPAN("example.net"), 25, mx, &self);
	struct mx_candidate *c = &plan.hosts[0];
	plan.dane = dane;
	c->v6 = answer_of(row->v6);
	c->v4 = answer_of(row->v4);
	c->alias = answer_of(dane ? row->alias : NULL);
	c->tlsa = answer_of(dane ? row->tlsa : NULL);
	c->tlsa_base = c->tlsa != NULL ? c->tlsa->name : span_none();
	if (mx_tlsa_next(&plan, c, &next))
		buf_printf(&shown, "%s %.*s", dns_type_text(next.type), SPAN_ARG(next.base));
	if (!span_eq(buf_span(&shown), span_of_string(dane ? row->question : NULL)))
		fail_msg("%s: asks %.*s", row->story, (int)shown.size, (char *)memory);
	mx_select(&plan, &self, 1, NOW_MS, &made, &text);
	buf_reset(&shown);
	if (made.host_count > 0 && made.hosts[0].tlsa != NULL)
		buf_printf(&shown, "%s %.*s", dns_outcome_label(made.hosts[0].tlsa->outcome),
			   SPAN_ARG(made.hosts[0].tlsa_base));
	if (!span_eq(buf_span(&shown), span_of_string(dane ? row->result : NULL)))
		fail_msg("%s: says %.*s", row->story, (int)shown.size, (char *)memory);
	if (dane && row->result != NULL)
		assert_int_equal(made.expires_at_ms - NOW_MS, row->life_ms);
	put_back(&plan);
	dns_answer_put(mx);
}

static void
tlsa_records_are_asked_for_on_secure_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof tlsa_rows / sizeof tlsa_rows[0]; i++) {
		check_tlsa_row(&tlsa_rows[i], true);
		check_tlsa_row(&tlsa_rows[i], false);
	}
}

static void
tlsa_names_are_those_of_the_port(void **state)
{
	uint8_t memory[DNS_NAME_MAX + TLSA_PREFIX_MAX];
	struct buf name = buf_of(memory, sizeof memory);

	(void)state;
	mx_tlsa_name(SPAN("mx1.example.net"), 25, &name);
	assert_true(span_eq(buf_span(&name), SPAN("_25._tcp.mx1.example.net")));
	buf_reset(&name);
	memset(text_memory, 'a', DNS_NAME_MAX);
	mx_tlsa_name(span_of(text_memory, DNS_NAME_MAX), 65535, &name);
	assert_false(name.overflow);
	assert_int_equal(name.size, sizeof memory);
}

static void
select_row(const struct row *row, uint64_t chance)
{
	static struct mx_plan plan;
	struct buf text = buf_of(text_memory, sizeof text_memory);
	struct dns_answer *mx = answer_of(row->mx);

	mx_plan(&plan, SPAN("example.net"), 25, mx, &self);
	if (plan.outcome == MX_FOUND)
		take_addresses(&plan, row);
	mx_select(&plan, &self, chance, NOW_MS, &made, &text);
	put_back(&plan);
	dns_answer_put(mx);
	assert_true(span_eq(made.domain, SPAN("example.net")));
	assert_int_equal(made.why.size > 0, made.outcome != MX_FOUND);
	assert_int_equal(made.host_count > 0, made.outcome == MX_FOUND);
}

static void
every_shape_is_selected(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		for (uint64_t chance = 0; chance < 20; chance++) {
			uint8_t memory[1024];
			struct buf out = buf_of(memory, sizeof memory);
			select_row(&rows[i], chance);
			show(&made, &out);
			if (!span_eq(buf_span(&out), span_of_string(rows[i].expected)))
				fail_msg("%s: %.*s", rows[i].story, (int)out.size, (char *)memory);
			if (made.expires_at_ms != NOW_MS + rows[i].life_ms)
				fail_msg("%s: lives %d ms", rows[i].story,
					 (int)(made.expires_at_ms - NOW_MS));
		}
	}
}

static void
equals_are_shuffled_and_the_site_stays(void **state)
{
	static const struct row row = {
		.mx = "found 10:a 10:b 10:c 20:d",
		.hosts = { "a no_data | found 192.0.2.1", "b no_data | found 192.0.2.2",
			   "c no_data | found 192.0.2.3", "d no_data | found 192.0.2.4" },
	};
	unsigned firsts[3] = { 0 };

	(void)state;
	for (uint64_t chance = 0; chance < 3000; chance++) {
		select_row(&row, chance);
		assert_true(span_eq(made.site, SPAN("a=b=c,d")));
		assert_int_equal(made.host_count, 4);
		assert_true(span_eq(made.hosts[3].name, SPAN("d")));
		firsts[made.hosts[0].name.data[0] - 'a']++;
	}
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(firsts[i], 850, 1150);
}

static void
addresses_of_a_host_are_shuffled_and_alternate(void **state)
{
	static const struct row row = {
		.mx = "found 10:a",
		.hosts = { "a found 2001:db8::1 2001:db8::2 | found 192.0.2.1 192.0.2.2 192.0.2.3 "
			   "192.0.2.4" },
	};
	unsigned first[2] = { 0 };

	(void)state;
	for (uint64_t chance = 0; chance < 1000; chance++) {
		static const int families[] = { AF_INET6, AF_INET, AF_INET6,
						AF_INET,  AF_INET, AF_INET };
		select_row(&row, chance);
		assert_int_equal(made.address_count, 6);
		for (unsigned i = 0; i < 6; i++)
			assert_int_equal(made.addresses[i].head.family, families[i]);
		uint8_t ip[16];
		net_address_ip(&made.addresses[0], ip);
		first[ip[15] - 1]++;
	}
	assert_in_range(first[0], 400, 600);
}

/* 20 equals of which 16 are considered, always the same; 9 addresses of which 8 are used. */
static void
limits_hold(void **state)
{
	char mx[DNS_RECORDS_MAX * 16] = "found";
	struct mx_plan plan;
	struct buf text = buf_of(text_memory, sizeof text_memory);
	struct dns_answer *v4 =
		answer_of("found 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 "
			  "10.0.0.8 10.0.0.9");

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		snprintf(mx + strlen(mx), sizeof mx - strlen(mx), " 10:h%c", 't' - (char)i);
	struct dns_answer *answer = answer_of(mx);
	mx_plan(&plan, SPAN("example.net"), 25, answer, &self);
	assert_int_equal(plan.count, MX_HOSTS_MAX);
	for (unsigned i = 0; i < MX_HOSTS_MAX; i++) {
		assert_int_equal(plan.hosts[i].name.data[1], 'a' + i);
		plan.hosts[i].v4 = dns_answer_get(v4);
	}
	mx_select(&plan, &self, 1, NOW_MS, &made, &text);
	assert_int_equal(made.address_count, MX_ADDRESSES_MAX);
	assert_int_equal(made.host_count, MX_ADDRESSES_MAX / MX_HOST_ADDRESSES_MAX);
	assert_int_equal(made.hosts[0].count, MX_HOST_ADDRESSES_MAX);
	put_back(&plan);
	dns_answer_put(answer);
	dns_answer_put(v4);
}

/* The longest names there are, 16 of them, each with its reason, fit into the room for texts. */
static void
the_longest_texts_fit(void **state)
{
	static char names[MX_HOSTS_MAX][DNS_NAME_MAX + 1];
	static struct dns_record records[MX_HOSTS_MAX];
	struct mx_plan plan;
	struct buf text = buf_of(text_memory, sizeof text_memory);

	(void)state;
	for (unsigned i = 0; i < MX_HOSTS_MAX; i++) {
		memset(names[i], 'a' + (int)i, DNS_NAME_MAX);
		records[i].name = span_of(names[i], DNS_NAME_MAX);
		records[i].preference = (uint16_t)i;
	}
	struct dns_answer answer = { .outcome = DNS_FOUND,
				     .count = MX_HOSTS_MAX,
				     .records = records };
	mx_plan(&plan, span_of(names[0], DNS_NAME_MAX), 25, &answer, NULL);
	mx_select(&plan, NULL, 1, NOW_MS, &made, &text);
	assert_int_equal(made.outcome, MX_FAILED);
	assert_int_equal(made.site.size, MX_HOSTS_MAX * (DNS_NAME_MAX + 1) - 1);
	buf_reset(&text);
	mx_plan(&plan, span_of(names[0], DNS_NAME_MAX), 25, &answer, NULL);
	for (unsigned i = 0; i < MX_HOSTS_MAX; i++) {
		plan.hosts[i].v4 = answer_of("found 192.0.2.1");
		plan.hosts[i].tlsa = answer_of("found secure 10:r");
		plan.hosts[i].tlsa_base = span_of(names[(i + 1) % MX_HOSTS_MAX], DNS_NAME_MAX);
	}
	mx_select(&plan, NULL, 1, NOW_MS, &made, &text);
	assert_int_equal(made.host_count, MX_HOSTS_MAX);
	put_back(&plan);
}

static void
literals_are_addresses(void **state)
{
	static const struct {
		const char *text;
		const char *shown; /* NULL: no literal */
	} literals[] = {
		{ "[192.0.2.1]", "192.0.2.1:25" },
		{ "[IPv6:2001:db8::1]", "[2001:db8::1]:25" },
		{ "[ipv6:::1]", "[::1]:25" },
		{ "[2001:db8::1]", NULL },
		{ "[IPv6:192.0.2.1]", NULL },
		{ "[IPv6:]", NULL },
		{ "[IPv6:[::1]]", NULL },
		{ "[]", NULL },
		{ "[", NULL },
		{ "[192.0.2.1", NULL },
		{ "192.0.2.1", NULL },
		{ "[example.org]", NULL },
		{ "[192.0.2.256]", NULL },
		{ "[unix:/x]", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof literals / sizeof literals[0]; i++) {
		struct net_address a;
		uint8_t memory[64];
		struct buf out = buf_of(memory, sizeof memory);
		bool good = mx_literal_parse(span_of_string(literals[i].text), 25, &a);
		if (good)
			net_address_show(&a, &out);
		if (good != (literals[i].shown != NULL) ||
		    (good && !span_eq(buf_span(&out), span_of_string(literals[i].shown))))
			fail_msg("%s: %.*s", literals[i].text, (int)out.size, (char *)memory);
	}
}

static void
outcomes_have_a_status(void **state)
{
	(void)state;
	for (enum mx_outcome o = MX_FOUND; o <= MX_UNPROTECTED; o++) {
		assert_int_equal(mx_outcome_status(o)[0] == '4', mx_outcome_is_temporary(o));
		assert_true(strlen(mx_outcome_label(o)) > 0);
	}
	assert_string_equal(mx_outcome_status(MX_NULL), "5.1.10");
	assert_string_equal(mx_outcome_status(MX_BOGUS), "4.4.3");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_shape_is_selected),
		cmocka_unit_test(equals_are_shuffled_and_the_site_stays),
		cmocka_unit_test(addresses_of_a_host_are_shuffled_and_alternate),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(the_longest_texts_fit),
		cmocka_unit_test(tlsa_records_are_asked_for_on_secure_ways),
		cmocka_unit_test(tlsa_names_are_those_of_the_port),
		cmocka_unit_test(literals_are_addresses),
		cmocka_unit_test(outcomes_have_a_status),
	};
	bool good = net_address_parse(SPAN("198.51.100.1:2525"), &own_addresses[0]) &&
		    net_address_parse(SPAN("[2001:db8::25]:25"), &own_addresses[1]);

	return good ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
