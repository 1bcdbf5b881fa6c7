/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/protection.h"

#include "core/net.h"

enum {
	KEY_MAX = 800,    /* address, two names, numbers */
	ADDRESS_MAX = 64, /* an IP address as text */
};

struct protection
protection_of(const struct plan *plan, const struct plan_host *host)
{
	struct protection p;

	p.level = plan_host_level(&plan->policy, host, &p.source);
	/* A port that is all TLS has nothing else to fall back to. */
	if (host->implicit && p.level < TLS_ENCRYPT)
		p.level = TLS_ENCRYPT;
	return p;
}

enum sender_tls
protection_stage(struct protection p, bool plain)
{
	if (p.level > TLS_MAY)
		return SENDER_TLS_REQUIRED;
	return p.level == TLS_MAY && !plain ? SENDER_TLS_IF_OFFERED : SENDER_TLS_NEVER;
}

/* ---- the wish ---- */

/* The host's name as it is asked for, and as its certificate must have it; empty by number. MTA-STS
 * and REQUIRETLS mean the name in the MX record, wherever that leads (RFC 8461 4.1, RFC
 * 8689 4.2.1).
 */
static struct span
server_name(const struct plan *plan, const struct plan_host *host, struct protection p)
{
	if (plan->policy.source == TLS_BY_STS && p.source != TLS_BY_DANE)
		return host->name;
	if (p.source == TLS_BY_MAIL)
		return host->name;
	return host->base.size > 0 ? host->base : host->name;
}

static void
add_name(struct tls_wish *w, struct span name)
{
	if (name.size > 0 && w->name_count < TLS_NAMES_MAX)
		w->names[w->name_count++] = name;
}

static uint64_t
hash_of_records(const struct tls_policy *p, const struct plan_host *host)
{
	struct span prints = span_of(p->fingerprints, p->fingerprint_count * TLS_FINGERPRINT_SIZE);
	uint64_t hash = span_hash_nocase(prints, 1);

	for (size_t i = 0; i < host->record_count; i++) {
		const struct tlsa *r = &host->records[i];
		hash = span_hash_nocase(r->data,
					hash + r->usage * 64U + r->selector * 8U + r->matching);
	}
	return hash;
}

/* What was checked once need not be checked again only for who checks the same. */
static void
make_session_key(const struct tls_wish *w, const struct plan *plan, const struct plan_host *host,
		 struct buf *key)
{
	net_address_show(&host->address, key);
	buf_printf(key, " %d %llx", (int)w->level,
		   (unsigned long long)hash_of_records(&plan->policy, host));
	for (unsigned i = 0; i < w->name_count; i++) {
		buf_append_byte(key, ' ');
		buf_append(key, w->names[i]);
	}
}

struct layer *
protection_layer(struct tls *tls, const struct plan *plan, const struct plan_host *host,
		 struct protection p)
{
	uint8_t address_memory[ADDRESS_MAX], key_memory[KEY_MAX];
	struct buf address = buf_of(address_memory, sizeof address_memory);
	struct buf key = buf_of(key_memory, sizeof key_memory);
	struct tls_wish w = {
		.level = p.level,
		.server_name = server_name(plan, host, p),
		.records = host->records,
		.record_count = host->record_count,
		.fingerprints = plan->policy.fingerprints,
		.fingerprint_count = plan->policy.fingerprint_count,
	};

	add_name(&w, w.server_name);
	if (w.name_count == 0 && host->address.any.sa_family != AF_UNIX) {
		net_address_show_ip(&host->address, &address);
		add_name(&w, buf_span(&address));
	}
	/* RFC 7672 3.2.2; then the site is that domain's alone. */
	if (plan->policy.dane_names)
		add_name(&w, plan->policy.domain);
	make_session_key(&w, plan, host, &key);
	/* Each session's certificate is looked at where a report is to say what is wrong with it.
	 */
	if (!key.overflow && !plan->policy.testing)
		w.session_key = buf_span(&key);
	return tls_connect(tls, &w);
}
