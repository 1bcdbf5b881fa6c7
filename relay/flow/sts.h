/* SPDX-License-Identifier: Apache-2.0
 *
 * sts: what a destination learns of its domain's MTA-STS policy (RFC 8461), and what that does to
 * its hosts.
 *
 * Beside the MX records a destination asks for the TXT record of _mta-sts.DOMAIN, and then the
 * control thread, which has the policies of all workers (relay/control/policies.h): a question goes
 * there by mailbox and comes back with the policy, or without one. Where the record names a policy
 * that is not known, the control thread has it fetched; the question waits for that a short while
 * (sts.first_wait), and mail then goes on as if there were none, as RFC 8461 5.1 wants. No answer
 * to the TXT question within STS_RECORD_WAIT_MS is no record; a policy that is known counts all the
 * same.
 *
 * In mode enforce the hosts that the policy does not name are left out, and the others must show a
 * certificate that can be verified. A host whose TLSA records are usable (DANE) is stronger than
 * any of this, and is neither left out nor asked for such a certificate.
 *
 * One worker's, but for struct sts_held, which is immutable and counted atomically.
 */
#ifndef RELAY_FLOW_STS_H
#define RELAY_FLOW_STS_H

#include "core/mailbox.h"
#include "core/timer.h"
#include "dns/mx.h"
#include "dns/resolver.h"
#include "tls/policy.h"
#include "tls/sts.h"

struct flow;
struct worker;

enum {
	STS_RECORD_WAIT_MS = 5000,
	STS_QUESTIONS_MAX = 256, /* of one worker to the control thread; others wait here */
	STS_SITE_MAX = MX_HOSTS_MAX * (DNS_NAME_MAX + 1),
};

/* A policy as it is kept. */
struct sts_held {
	atomic_uint references;
	struct span domain; /* lower case */
	struct span id;
	uint64_t fetched_at_ms; /* wall clock */
	uint64_t expires_at_ms; /* likewise */
	enum sts_mode mode;
	uint32_t max_age_s;
	unsigned pattern_count;
	struct span patterns[];
};

/* NULL: no memory. */
struct sts_held *sts_held_new(struct span domain, struct span id, const struct sts_policy *policy,
			      uint64_t fetched_at_ms);
struct sts_held *sts_held_get(struct sts_held *h);
void sts_held_put(struct sts_held *h);

/* To the control thread and back. Made by the worker, who also frees it. */
struct sts_question {
	struct message message;
	struct list_node link; /* of the control thread, while it waits there */
	struct worker *from;
	message_fn on_answered;    /* there */
	struct sts_lookup *lookup; /* the worker's; NULL: nobody waits any more */
	uint64_t until_ms;         /* the control thread's: when it is answered at the latest */
	uint8_t domain_size;
	uint8_t id_size; /* 0: there is no record, or none was to be had */
	char domain[DNS_NAME_MAX];
	char id[STS_ID_MAX];
	/* The answer. */
	struct sts_held *policy; /* a reference; NULL: none */
	uint64_t again_ms;       /* it may be another one after this time */
};

/* Who answers; NULL in a flow without MTA-STS. */
struct sts_source {
	struct worker *worker;
	message_fn on_question;
};

/* All of a worker. */
struct sts_asker {
	const struct sts_source *source;
	struct list waiting; /* struct sts_lookup.link */
	unsigned out;
	struct timer again; /* a mailbox was full */
};

/* Embedded in the destination, zeroed but for on_done. */
struct sts_lookup {
	struct flow *flow;
	struct span domain; /* lent */
	struct dns_query query;
	struct timer patience;
	struct list_node link;
	struct sts_question *question; /* that is made, or under way */
	bool pending;                  /* from sts_look to on_done */
	uint64_t expires_at_ms;        /* of what was learnt; monotonic */
	struct sts_held *policy;       /* what was learnt; a reference; NULL: there is none */
	bool uncertain; /* there may be one: its record, or itself, could not be had */
	/* Never inside sts_look. */
	void (*on_done)(struct sts_lookup *l);
};

void sts_init(struct flow *f);
/* Does the present configuration want policies? */
bool sts_is_on(const struct flow *f);
void sts_look(struct sts_lookup *l, struct flow *f, struct span domain);
/* Also forgets what was learnt. */
void sts_forget(struct sts_lookup *l);

/* What a policy (or NULL) makes of what was found for the domain: `policy` gets level, source and
 * where it is from; `out` the hosts that are left, with their site's name in `site` (STS_SITE_MAX),
 * spans lent from `found`. False: none is left, for the reason in `why`. */
bool sts_apply(const struct sts_held *h, const struct mx_hosts *found, struct tls_policy *policy,
	       struct mx_hosts *out, struct buf *site, struct buf *why);

#endif
