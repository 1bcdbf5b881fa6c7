/* SPDX-License-Identifier: Apache-2.0
 *
 * spf: may this client send mail in the name of this domain (RFC 7208)? PURE.
 *
 * A machine: spf_begin() with what is known of the mail, then as long as spf_next() has a question,
 * spf_answer() with what the DNS says to it; at the end spf_outcome(). Nothing is asked in here,
 * and no clock is read. spf_check.h runs it over a worker's resolver, without blocking.
 *
 * All of RFC 7208: every mechanism, modifier and macro, `exp`, and the limits of 4.6.4, which bound
 * whatever a hostile domain writes: 10 terms that ask (and so 11 records), 2 of them without an
 * answer, 10 names of an MX or PTR, one record of the length that a DNS message can have. Deep
 * includes cost a frame of fixed size each, not stack. A syntax error anywhere in a record is found
 * before any of its terms is tried.
 *
 * The identity is MAIL FROM, or HELO: this where asked for, and always where the sender is null.
 * The domain may have U-labels, which are turned into A-labels (dns/idn.h). A local part with bytes
 * beyond ASCII is fine as long as no macro needs it; a term whose macro does is no match. One in
 * quotes counts without them.
 *
 * What the spans of inputs point to is copied. What those of an outcome point to lives in the
 * machine until spf_fini() or the next spf_begin().
 */
#ifndef DNS_SPF_H
#define DNS_SPF_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/net_address.h"
#include "core/base/span.h"
#include "dns/resolver.h"

enum {
	SPF_LOOKUPS_MAX = 10, /* terms that ask: include, a, mx, ptr, exists, redirect (4.6.4) */
	SPF_VOIDS_MAX = 2,    /* answers without records, of those */
	SPF_NAMES_MAX = 10,   /* of one mx (more: permerror) or ptr (the rest is ignored) */
	SPF_LOCAL_MAX = 256,  /* bytes of a local part; RFC 5321 has 64 */
	SPF_EXPLANATION_MAX = 1000, /* the rest is cut off */
	SPF_PROBLEM_MAX = 512,
};

/* In the words of RFC 7208 2.6. */
enum spf_result {
	SPF_NONE,
	SPF_NEUTRAL,
	SPF_PASS,
	SPF_FAIL,
	SPF_SOFTFAIL,
	SPF_TEMPERROR,
	SPF_PERMERROR,
};

enum spf_identity { SPF_MAIL_FROM, SPF_HELO };

const char *spf_result_label(enum spf_result r);     /* "softfail" */
const char *spf_identity_label(enum spf_identity i); /* "mailfrom", "helo" */

struct spf_inputs {
	enum spf_identity identity; /* SPF_MAIL_FROM of a null sender is checked as SPF_HELO */
	struct net_address client;  /* an IPv4-mapped IPv6 address counts as IPv4 */
	struct span helo;           /* as the client said it: a name or an address literal */
	struct span local;          /* of MAIL FROM; without any, "postmaster" */
	struct span domain;         /* of MAIL FROM; empty: the null sender */
	struct span receiver;       /* our name, for %{r}; empty: "unknown" */
	uint64_t now_s;             /* Unix time, for %{t} */
};

struct spf_outcome {
	enum spf_result result;
	enum spf_identity identity; /* that was checked */
	struct span domain;         /* of that identity; A-labels, lower case, where it is a name */
	/* Which term decided: its text as in the record ("-all", "include:example.net"), and whose
	 * record has it. Empty where none matched. Of an include it is the term of the record that
	 * was asked for in the first place (or that redirect led to). */
	struct span mechanism;
	struct span mechanism_domain;
	struct span explanation; /* of fail, where the domain has one: printable ASCII */
	struct span problem; /* of none, temperror, permerror: why, for people; printable ASCII */
	unsigned lookups;    /* of SPF_LOOKUPS_MAX */
	unsigned voids;
	/* DNS_SECURE where there were answers, and each that counted was validated. */
	enum dns_security security;
	uint64_t expires_at_ms; /* monotonic: the least of the answers; UINT64_MAX without any */
};

struct spf_question {
	enum dns_type type; /* A, AAAA, MX, PTR, TXT */
	struct span name;   /* lives until the answer */
	bool is_record;     /* TXT: the SPF record of that domain; else an explanation */
};

/* ---- the steps, for whoever wants to see them ---- */

enum spf_step_kind {
	SPF_STEP_BEGIN,  /* a record is wanted: `domain` */
	SPF_STEP_ASK,    /* a question: `type` and `text` (the name) */
	SPF_STEP_ANSWER, /* the answer to it: `answer` */
	SPF_STEP_RECORD, /* the record was found: `text` */
	SPF_STEP_TERM, /* a mechanism is tried: `text`; `target` where it has a domain, expanded */
	SPF_STEP_COMPARE, /* an address, network or name was compared: `text`; `is_match` */
	SPF_STEP_RESULT,  /* what a mechanism came to: `text`, `is_match`, `result` where it did */
	SPF_STEP_ENTER,   /* include or redirect: `text` is the term, `target` the domain */
	SPF_STEP_LEAVE,   /* the end of check_host for `domain`: `result` */
	SPF_STEP_EXPLAIN, /* an explanation is fetched: `target`, or was made: `text` */
	SPF_STEP_PROBLEM, /* `text`: what is wrong; the evaluation need not end by it */
};

const char *spf_step_label(enum spf_step_kind k); /* "answer" */

struct spf_step {
	enum spf_step_kind kind;
	unsigned depth;     /* of includes and redirects; 0 is the domain that was asked about */
	struct span domain; /* whose record is worked on */
	struct span text;
	struct span target;
	enum dns_type type;
	const struct dns_answer *answer;
	bool is_match;
	enum spf_result result;
};

typedef void spf_trace(void *context, const struct spf_step *step);

/* ---- the machine ---- */

struct spf_record; /* a parsed record, immutable and counted; spf_record.h */
struct spf;

/* NULL without memory: some 10 KiB. It can be used again and again. */
struct spf *spf_new(void);
void spf_free(struct spf *s);

/* `trace` may be NULL. Answers that are still held from a former run are given back. */
void spf_begin(struct spf *s, const struct spf_inputs *in, spf_trace *trace, void *context);
/* The question that is open, the same until it is answered; false: there is an outcome. */
bool spf_next(struct spf *s, struct spf_question *q);
/* The answer to the open question; kept by reference where it is needed longer. */
void spf_answer(struct spf *s, struct dns_answer *a);
/* The answer to a question for a record, where its parsed form is at hand. */
void spf_answer_record(struct spf *s, struct spf_record *record);
/* Ends it as temperror, whatever is open: no time is left, for this reason. */
void spf_give_up(struct spf *s, struct span why);
const struct spf_outcome *spf_outcome(const struct spf *s);

#endif
