/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: the hosts that take certain mail, in order of preference, how it must be protected on its
 * way there, and the name of the site that they are: what became of a route's list or of a domain's
 * MX records. The name is that of the hosts, and behind a blank the policy's key where it is not
 * opportunistic TLS, and who we are where there is AUTH: the same hosts under another policy, or
 * for somebody else, are another site.
 *
 * Immutable, counted atomically: jobs carry it to other workers, and sites keep the newest. Two
 * plans with the same kind and name lead to the same site; their addresses may differ when one of
 * them is older.
 */
#ifndef RELAY_FLOW_PLAN_H
#define RELAY_FLOW_PLAN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/config.h"
#include "dns/mx.h"
#include "tls/policy.h"

/* Bits of a mask. */
enum { PLAN_HOSTS_MAX = 32 };

enum site_kind {
	SITE_NOWHERE, /* no route leads anywhere: its mails wait */
	SITE_SMTP,
	SITE_LMTP,
	SITE_DISCARD,
};

/* One address. What it points to lives as long as the plan. */
struct plan_host {
	struct net_address address;
	struct span name; /* of the MX host, or of the configuration; empty: by number */
	uint8_t rank;     /* hosts of the same rank are equals; 0 comes first */
	bool implicit;    /* TLS from the first byte on */
	bool secure;      /* the way from its name to its address was validated */
	/* An LMTP server on this machine, behind a path or a loopback address: there a mail leaves
	 * the network, and what RFC 8689 wants of hosts on the way is not wanted of it. */
	bool is_local;
	enum dane_verdict dane;
	const struct tlsa *records; /* USABLE: those that count */
	size_t record_count;
	/* Whose they are, and so the name to ask the host for (SNI) and the first that its
	 * certificate may have: `name`, or where its CNAMEs lead (RFC 7672 2.2.3, 3.2.2). */
	struct span base;
};

struct plan {
	atomic_uint references;
	enum site_kind kind; /* SMTP or LMTP */
	bool by_mx;
	bool mx_secure;
	bool uncertain;   /* a host was left out that may be fit after all: its records failed */
	uint64_t hash;    /* of kind and name */
	struct span name; /* of the site */
	struct tls_policy policy;
	struct span auth;     /* the entry of secrets that is used; empty: none */
	struct tlsa *records; /* of all hosts, with their data behind them */
	unsigned host_count;
	struct plan_host hosts[];
};

enum { PLAN_WHY_MAX = 300, PLAN_KEY_MAX = TLS_POLICY_KEY_MAX + 64 };

/* Does the policy depend on TLSA records, so that they are to be asked for? */
bool plan_wants_tlsa(const struct tls_policy *policy);
/* Of what was found for a domain (MX_FOUND). The policy is copied, and DANE added to it where hosts
 * have records, or may have: then it is another site's than without. Hosts that must not be used
 * are left out, each with its reason in `why`: their records could not be had, or the policy
 * demands records and they have none. It may have no hosts. NULL: no memory. */
struct plan *plan_of_mx(const struct mx_hosts *found, const struct tls_policy *policy,
			struct buf *why);
/* Of a route's list; answers[i] is what was found for hosts[i] by name, NULL where nothing was, or
 * where it is a number. Otherwise likewise. */
struct plan *plan_of_target(const struct config_target *target, const struct tls_policy *policy,
			    struct span auth, struct mx_hosts *const *answers, struct buf *why);
/* What a host of this plan must do before it is given mail, and who says so. A host with usable
 * records is judged by them alone, unless the route says something else than auto or dane; one with
 * unusable records must do TLS at least. Others are under the policy's level. Where the mail
 * requires TLS, it is never less than that its certificate is verified. */
enum tls_level plan_host_level(const struct tls_policy *policy, const struct plan_host *h,
			       enum tls_source *source);
struct plan *plan_get(struct plan *p);
void plan_put(struct plan *p);

/* What stands behind the hosts in a name. */
void plan_key(const struct tls_policy *policy, struct span auth, struct buf *out);
/* The hosts alone, of a plan's or site's name. */
struct span plan_hosts_of_name(struct span name);
uint64_t plan_hash(enum site_kind kind, struct span name);
/* How one may see it: the name of the host, or its number, with the port where that is not 25. */
void plan_host_show(const struct plan_host *h, struct buf *out);

#endif
