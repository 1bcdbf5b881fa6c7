/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/answer.h"

enum {
	/* A burst of mails for one domain asks once, whatever the zone's owner says. */
	TTL_MIN_S = 1,
	TTL_MAX_S = 86400,
	NEGATIVE_TTL_MAX_S = 3600, /* RFC 2308 5 */
	NEGATIVE_TTL_S = 30,       /* without an SOA */
	FAILED_MS = 5000,
	BOGUS_MS = 15000, /* the library remembers it for a minute */
	WHY_SIZE = 512,
};

static uint64_t
lifetime_ms(const struct packet *p)
{
	uint32_t ttl_s = p->ttl_s;
	uint32_t most_s = p->count > 0 ? TTL_MAX_S : NEGATIVE_TTL_MAX_S;

	if (!p->has_ttl)
		ttl_s = NEGATIVE_TTL_S;
	if (ttl_s > most_s)
		ttl_s = most_s;
	return (ttl_s < TTL_MIN_S ? TTL_MIN_S : ttl_s) * 1000u;
}

static const char *
rcode_text(unsigned rcode)
{
	static const char *const texts[] = { "NOERROR",  "FORMERR", "SERVFAIL",
					     "NXDOMAIN", "NOTIMP",  "REFUSED" };

	return rcode < sizeof texts / sizeof texts[0] ? texts[rcode] : "an unknown code";
}

/* What failed validation comes with data and without an error (measured with 1.17). */
struct dns_answer *
answer_read(const struct answer_source *from, uint64_t now_ms, struct packet *p)
{
	char memory[WHY_SIZE];
	struct buf why = buf_of(memory, sizeof memory);
	unsigned rcode = from->rcode;

	if (from->is_bogus) {
		struct span text = from->why_bogus;
		if (text.size == 0)
			text = SPAN("DNSSEC validation failed");
		return answer_without(DNS_BOGUS, from->name, span_first(text, WHY_SIZE),
				      now_ms + BOGUS_MS);
	}
	if (rcode == DNS_RCODE_OK)
		rcode = packet_rcode(from->packet);
	if (rcode != DNS_RCODE_OK && rcode != DNS_RCODE_NXDOMAIN) {
		buf_printf(&why, "%s from the name servers, or none of them answers",
			   rcode_text(rcode));
		return answer_without(DNS_FAILED, from->name, buf_span(&why), now_ms + FAILED_MS);
	}
	if (!packet_parse(from->packet, from->name, from->type, p))
		return answer_without(DNS_FAILED, from->name, SPAN("the answer is malformed"),
				      now_ms + FAILED_MS);
	struct dns_answer made = {
		.outcome = rcode == DNS_RCODE_NXDOMAIN ? DNS_NO_DOMAIN
			   : p->count > 0              ? DNS_FOUND
						       : DNS_NO_DATA,
		.security = from->is_secure ? DNS_SECURE : DNS_INSECURE,
		.is_cut = p->is_cut,
		.is_fleeting = !p->has_ttl || p->ttl_s == 0,
		.expires_at_ms = now_ms + lifetime_ms(p),
		.name = p->name,
		.count = rcode == DNS_RCODE_NXDOMAIN ? 0 : p->count,
		.records = p->records,
	};
	return answer_new(&made);
}
