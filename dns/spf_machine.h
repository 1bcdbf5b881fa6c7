/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_machine: the state of the machine of spf.h. Inside of dns/ only: spf.c works on it, and
 * spf_memory.c allocates it.
 *
 * A frame is a run of check_host() (RFC 7208 4): that of the domain asked about, and above it one
 * for each include that is being worked on. A redirect takes over the frame it is in. Each frame
 * beyond the first costs a lookup, so there are at most SPF_FRAMES_MAX.
 *
 * At any time the machine waits for one answer (`wait`) or has none open; then `phase` says what is
 * to be done next. A phase may have to wait several times; it is entered again after each answer,
 * and keeps what it knows by then in the fields of the term in hand.
 */
#ifndef DNS_SPF_MACHINE_H
#define DNS_SPF_MACHINE_H

#include "dns/spf.h"
#include "dns/spf_macro.h"
#include "dns/spf_record.h"

enum { SPF_FRAMES_MAX = SPF_LOOKUPS_MAX + 1, SPF_HELO_MAX = 255, SPF_IP_TEXT_MAX = 64 };

#define SPF_MAGIC     0x53504621u
#define SPF_NO_MEMORY SPAN("no memory")

enum spf_phase {
	SPF_PHASE_TERMS,        /* the frame's terms, from `at` on */
	SPF_PHASE_REDIRECT,     /* none matched, and there is a redirect */
	SPF_PHASE_EXPLAIN_NAME, /* fail, and there is an exp: where does it stand? */
	SPF_PHASE_EXPLAIN_TEXT, /* its text is there, to be expanded */
	SPF_PHASE_DONE,
};

enum spf_wait {
	SPF_WAIT_NONE,
	SPF_WAIT_RECORD,       /* the SPF record of the frame's domain */
	SPF_WAIT_ADDRESS,      /* of the term's target: a, exists */
	SPF_WAIT_HOSTS,        /* MX of the term's target */
	SPF_WAIT_HOST_ADDRESS, /* of one of these */
	SPF_WAIT_NAMES,        /* PTR of the client */
	SPF_WAIT_NAME_ADDRESS, /* of one of these: is it the client's? */
	SPF_WAIT_EXPLANATION,
};

enum spf_validity { SPF_NAME_UNKNOWN, SPF_NAME_VALID, SPF_NAME_INVALID };

struct spf_name {
	size_t size; /* 0: none */
	char text[DNS_NAME_MAX + 1];
};

struct spf_frame {
	struct spf_name domain;
	struct spf_record *record; /* NULL: not there yet */
	unsigned at;               /* the term in hand */
	unsigned serial;           /* another for each domain that is entered */
	bool is_redirected;        /* not having a record is an error then */
};

struct spf {
	uint32_t magic;
	enum spf_phase phase;
	enum spf_wait wait;
	spf_trace *trace;
	void *trace_context;

	/* The mail. */
	struct spf_values values;
	uint8_t ip[16];
	size_t ip_size;
	bool local_is_ascii;
	uint8_t local[SPF_LOCAL_MAX];
	struct spf_name sender;
	uint8_t helo[SPF_HELO_MAX];
	uint8_t receiver[SPF_HELO_MAX];
	uint8_t ip_text[SPF_IP_TEXT_MAX];
	uint8_t ip_dots[SPF_IP_TEXT_MAX];

	struct spf_frame frames[SPF_FRAMES_MAX];
	unsigned depth; /* of the frame that is worked on */
	unsigned serials;

	/* The term in hand. */
	bool is_begun; /* counted, and its target known */
	bool is_void;  /* counted as such */
	struct spf_name target;
	struct dns_answer *hosts; /* MX */
	uint8_t host_order[SPF_NAMES_MAX];
	unsigned host; /* the next of them, in this order */

	/* The client's names, asked for once; and which of them is %{p}, for which frame. */
	bool names_known;
	struct dns_answer *names; /* NULL, though known: there are none */
	bool names_void;          /* by an answer without records */
	uint8_t validity[SPF_NAMES_MAX];
	unsigned name; /* whose address is asked for */
	unsigned name_serial;

	struct dns_answer *explanation; /* its TXT record */
	enum dns_type question_type;
	struct spf_name question;

	unsigned answers; /* that counted */
	bool all_secure;
	struct spf_outcome outcome;
	uint8_t explanation_text[SPF_EXPLANATION_MAX];
	uint8_t problem_text[SPF_PROBLEM_MAX];
};

static inline struct span
spf_name_span(const struct spf_name *n)
{
	return span_of(n->text, n->size);
}

/* Gives back what it holds. */
void spf_reset(struct spf *s);
void spf_put_answer(struct dns_answer **a);
void spf_put_record(struct spf_frame *f);
/* Begins check_host() for a domain, in the present frame. */
void spf_enter_domain(struct spf *s, struct span domain, bool is_redirected);
/* Ends it for this reason: "example.org: ip4:1.2.3: that is no IPv4 address". */
void spf_finish_because(struct spf *s, enum spf_result result, struct span where, const char *what,
			struct span why);

#endif
