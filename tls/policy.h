/* SPDX-License-Identifier: Apache-2.0
 *
 * policy: how mail to a next hop must be protected, from what the route says, what the DNS says
 * (DANE, RFC 7672) and what the domain publishes (MTA-STS, RFC 8461).
 *
 * PURE. The order is: what the route demands; else DANE where its records are there; else MTA-STS;
 * else opportunistic TLS. Whatever can make mail less protected than the destination published (a
 * failed or bogus lookup) defers, it never falls back. What the mail's own sender asks for
 * (RFC 8689) comes on top: enum tls_need.
 *
 * The policy belongs to the domain, and the hosts to the site: two domains with the same MX hosts
 * and different policies are two sites, so that no domain's policy is another's trouble. The text
 * of tls_policy_key() is part of a site's name for that.
 */
#ifndef TLS_POLICY_H
#define TLS_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

/* What a host must do before it is given mail. */
enum tls_level {
	TLS_NONE,        /* STARTTLS is not used, even where it is offered */
	TLS_MAY,         /* TLS where it is offered; the certificate is looked at, but not judged */
	TLS_ENCRYPT,     /* TLS, with any certificate */
	TLS_VERIFY,      /* a certificate that a CA vouches for, with one of the names */
	TLS_DANE,        /* one that matches a TLSA record of the host */
	TLS_FINGERPRINT, /* one with one of the fingerprints */
};

/* Where the level came from: for events, `explain`, and TLS reports. */
enum tls_source {
	TLS_BY_DEFAULT, /* nothing is published: opportunistic */
	TLS_BY_ROUTE,
	TLS_BY_DANE,
	TLS_BY_STS,
	TLS_BY_MAIL, /* the mail's sender: enum tls_need */
};

/* What the mail itself asks for (RFC 8689). Mails with different needs go to different sites. */
enum tls_need {
	TLS_NEED_NOTHING,
	/* REQUIRETLS: only to a host whose name is to be trusted, that proves to have it, and that
	 * offers REQUIRETLS itself. */
	TLS_NEED_REQUIRED,
	/* "TLS-Required: No": what the destination publishes (DANE, MTA-STS) is ignored. What the
	 * route demands is our own policy, and stays. */
	TLS_NEED_OPTIONAL,
};

/* One TLSA record (RFC 6698 2.1), as it stands in the DNS. */
struct tlsa {
	uint8_t usage;    /* 0 PKIX-TA, 1 PKIX-EE, 2 DANE-TA, 3 DANE-EE */
	uint8_t selector; /* 0 certificate, 1 public key */
	uint8_t matching; /* 0 all of it, 1 SHA-256, 2 SHA-512 */
	struct span data;
};

/* What was learnt of the TLSA records of one host (the table of RFC 7672 2.2). */
enum dane_verdict {
	DANE_NOT_ASKED, /* the way to the host is not secure, or the route does not want it */
	DANE_NONE,      /* validated: there are none */
	DANE_USABLE,    /* TLS, and one of them must match */
	DANE_UNUSABLE,  /* there are some, none that can be used: TLS, certificate unchecked */
	DANE_FAILED,    /* no answer, or a bogus one: this host is not to be used now */
};

enum {
	TLS_FINGERPRINT_SIZE = 32,
	TLS_FINGERPRINTS_MAX = 16,
	TLS_NAMES_MAX = 4,
	TLS_POLICY_KEY_MAX = 400, /* of tls_policy_key() */
};

/* Of a plan (relay/flow/plan.h), over all its hosts. Spans live as long as the plan. */
struct tls_policy {
	enum tls_level level; /* of hosts without records of their own */
	enum tls_source source;
	enum tls_need need;
	bool dane;             /* hosts with records need more than `level` */
	bool dane_names;       /* some of the records are DANE-TA: `domain` is a name, too */
	bool testing;          /* MTA-STS in mode testing: what fails is reported, mail goes on */
	struct span domain;    /* whose policy: the recipient's domain; empty of a route's hosts */
	struct span policy_id; /* MTA-STS */
	const uint8_t (*fingerprints)[TLS_FINGERPRINT_SIZE]; /* SHA-256 of the certificate */
	size_t fingerprint_count;
};

/* What becomes of the policy for mails with this need. */
void tls_policy_take_need(struct tls_policy *p, enum tls_need need);

const char *tls_level_label(enum tls_level level);
const char *tls_source_label(enum tls_source source);
const char *dane_verdict_label(enum dane_verdict v);
/* Appends what distinguishes it from other policies for the same hosts: nothing for
 * opportunistic TLS that nobody demands, else " tls=may", " tls=verify", " tls=dane" (where there
 * are records), " tls=dane-only", " tls=dane for=example.org", " tls=verify sts", " requiretls"
 * behind any of these, " tls=optional" of what the mail's sender wants so, ... */
void tls_policy_key(const struct tls_policy *p, struct buf *out);

#endif
