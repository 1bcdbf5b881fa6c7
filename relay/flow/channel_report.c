/* SPDX-License-Identifier: Apache-2.0
 *
 * What connections to next hops add to the reports about TLS (RFC 8460): one session for each
 * domain that mail on the connection is for, as it went under the domain's own policy. What a route
 * or the mail itself (TLS-Required: No) says about TLS is not the domain's policy, and not
 * reported.
 */
#include "relay/flow/channel_parts.h"
#include "relay/flow/flow.h"

enum { ADDRESS_MAX = 64 };

static bool
is_reported(const struct channel *c)
{
	enum tls_source source = c->plan->policy.source;

	return c->site->by_mx && source != TLS_BY_ROUTE && source != TLS_BY_MAIL;
}

static enum tls_tally_policy
policy_of(const struct channel *c)
{
	if (c->protection.source == TLS_BY_DANE)
		return TALLY_TLSA;
	return c->plan->policy.source == TLS_BY_STS ? TALLY_STS : TALLY_NO_POLICY;
}

/* As in a zone file (RFC 6698 2.2). */
static void
write_record(const struct tlsa *r, struct buf *out)
{
	static const char digits[] = "0123456789abcdef";

	buf_printf(out, "%u %u %u ", (unsigned)r->usage, (unsigned)r->selector,
		   (unsigned)r->matching);
	for (size_t i = 0; i < r->data.size; i++) {
		buf_append_byte(out, (uint8_t)digits[r->data.data[i] >> 4]);
		buf_append_byte(out, (uint8_t)digits[r->data.data[i] & 15]);
	}
}

/* Those that fit: a whole certificate is long, and the receiver has it. */
static void
write_records(const struct channel *c, struct buf *out)
{
	for (size_t i = 0; i < c->peer.record_count; i++) {
		size_t mark = out->size;
		if (out->size > 0)
			buf_append_byte(out, '\n');
		write_record(&c->peer.records[i], out);
		if (out->overflow) {
			out->size = mark;
			out->overflow = false;
		}
	}
}

/* `result` NULL: it went well. */
static void
count(struct channel *c, const struct job *j, const char *result, struct span why)
{
	uint8_t records_memory[TLS_TALLY_STRINGS_MAX];
	uint8_t ip_memory[ADDRESS_MAX], from_memory[ADDRESS_MAX];
	struct buf records = buf_of(records_memory, sizeof records_memory);
	struct buf ip = buf_of(ip_memory, sizeof ip_memory);
	struct buf from = buf_of(from_memory, sizeof from_memory);

	if (policy_of(c) == TALLY_TLSA)
		write_records(c, &records);
	if (result != NULL) {
		net_address_show_ip(&c->peer.address, &ip);
		if (c->local.size > 0 || net_local(c->conn.fd, &c->local))
			net_address_show_ip(&c->local, &from);
	}
	c->reported = span_hash_nocase(j->destination->name, 1);
	flow_count_tls(c->flow, (struct tls_tally_row){
					.policy = policy_of(c),
					.result = result,
					.domain = j->destination->name,
					.host = c->peer.name,
					.ip = buf_span(&ip),
					.from = buf_span(&from),
					.why = why,
					.strings = buf_span(&records),
					.sessions = 1,
				});
}

/* In mode testing mail goes on where it would not be enforced: what would be wrong then. The policy
 * can be looked at only by the job's own worker. */
static const char *
fault_in_testing(const struct channel *c, const struct job *j, struct span *why)
{
	const struct sts_held *h = j->owner == c->flow ? j->destination->sts.policy : NULL;
	struct tls_facts facts;

	if (!c->plan->policy.testing || c->protection.source == TLS_BY_DANE)
		return NULL;
	if (h != NULL && !sts_patterns_match(h->patterns, h->pattern_count, c->peer.name)) {
		*why = SPAN("the policy does not name this host");
		return "validation-failure";
	}
	if (c->tls.verified != TLS_UNVERIFIED)
		return NULL;
	tls_facts(conn_layer(&c->conn), &facts);
	*why = facts.unverified;
	return facts.result_type != NULL ? facts.result_type : "validation-failure";
}

void
channel_count_session(struct channel *c, const struct job *j)
{
	struct span why = span_none();

	if (!is_reported(c) || c->reported == span_hash_nocase(j->destination->name, 1))
		return;
	if (c->tls.version == NULL) {
		/* Where it was not tried, the failure before was counted. */
		if (c->options.tls != SENDER_TLS_NEVER)
			count(c, j, "starttls-not-supported", span_none());
		return;
	}
	const char *fault = fault_in_testing(c, j, &why);
	count(c, j, fault, why);
}

void
channel_count_failure(struct channel *c, const struct job *j, const char *result, struct span why)
{
	if (is_reported(c) && c->reported != span_hash_nocase(j->destination->name, 1))
		count(c, j, result != NULL ? result : "validation-failure", why);
}
