/* SPDX-License-Identifier: Apache-2.0
 *
 * fault: rules by which the sink misbehaves. PURE.
 *
 * A rule is WHEN:WHAT. WHEN is a share (5%, 0.1%), a pattern of recipients in which * stands for
 * any bytes (*@slow.test), or both (5%,*@slow.test): then of what matches, that share. WHAT is a
 * row of faults.def, with a phase of fault_phases.def: 1%:drop=end, *@slow.test:late=2s@rcpt.
 *
 * The dice are thrown where the rule strikes: once a connection for connect and hello, once a MAIL,
 * once a recipient at rcpt, once a mail from data on. From data on a pattern matches a mail if it
 * matches one of the recipients that were accepted. Recipients are compared as the client wrote
 * them between the brackets, letters of ASCII in any case.
 *
 * Where several rules strike at one moment, the first that decides about the reply (all but slow
 * and late) does; of slow and late the first of each is added to it. Random numbers come from
 * a state of the caller's, so that a seed repeats a run.
 */
#ifndef BENCH_FAULT_H
#define BENCH_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum {
	FAULT_RULES_MAX = 32, /* a set of rules is the bits of a word */
	FAULT_PATTERN_MAX = 128,
	FAULT_SHARE_WHOLE = 100 * 1000 * 1000, /* 100 %: millionths of a per cent */
	FAULT_RATE_MIN = 1,                    /* bytes a second, of slow */
	FAULT_LATE_MAX_MS = 24 * 3600 * 1000,
};

enum fault_phase {
#define FAULT_PHASE(name, word, text) FAULT_AT_##name,
#include "bench/fault_phases.def"
#undef FAULT_PHASE
	FAULT_PHASE_COUNT
};

enum fault_kind {
	FAULT_NONE,
#define FAULT(name, word, argument, phase, text) FAULT_##name,
#include "bench/faults.def"
#undef FAULT
	FAULT_KIND_COUNT
};

struct fault_rule {
	uint8_t kind;         /* enum fault_kind */
	uint8_t phase;        /* enum fault_phase */
	uint8_t pattern_size; /* 0: any recipient, and phases that know none */
	uint32_t share;       /* of FAULT_SHARE_WHOLE */
	uint32_t amount;      /* SLOW: bytes a second; LATE: milliseconds */
	uint8_t pattern[FAULT_PATTERN_MAX];
};

/* Zeroed memory is no rule. Rules are named by their bits: 1 << index. */
struct fault_rules {
	unsigned count;
	uint32_t phases;  /* by bit of enum fault_phase: a rule may strike there */
	uint32_t general; /* rules without a pattern */
	uint32_t replies; /* rules that only change the reply: DEFER... REFUSE_DATA */
	struct fault_rule rules[FAULT_RULES_MAX];
};

struct fault_verdict {
	uint8_t kind;     /* enum fault_kind, never SLOW or LATE */
	uint8_t struck;   /* rules that did */
	uint32_t late_ms; /* 0: at once */
	uint32_t rate;    /* bytes a second; 0: as before */
};

/* Adds one rule, written as above. False with what is wrong and its remedy in `why`. */
bool fault_add(struct fault_rules *all, struct span text, struct buf *why);
/* Lines for people, one a kind and one a phase; the same as in README.md. */
void fault_show_help(struct buf *out);

static inline bool
fault_may_strike(const struct fault_rules *all, enum fault_phase phase)
{
	return all != NULL && (all->phases & 1U << phase) != 0;
}

/* The rules that this recipient matches, those without a pattern among them. */
uint32_t fault_match(const struct fault_rules *all, struct span recipient);
/* What happens at a phase, as far as the rules in `matched` say. */
void fault_judge(const struct fault_rules *all, enum fault_phase phase, uint32_t matched,
		 uint64_t *random, struct fault_verdict *out);

#endif
