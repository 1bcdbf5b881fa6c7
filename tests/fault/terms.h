/* SPDX-License-Identifier: Apache-2.0
 *
 * terms: what the configuration of an incarnation says about time: when mail is tried again, how
 * long it lives, when its sender is told of the delay. Chosen by seed, written into the relay's
 * configuration, and the measure that the oracle judges by.
 */
#ifndef TESTS_FAULT_TERMS_H
#define TESTS_FAULT_TERMS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

enum { TERMS_PAUSES_MAX = 8 };

struct terms {
	uint64_t pauses_ms[TERMS_PAUSES_MAX];
	unsigned pause_count;
	unsigned jitter; /* percent */
	uint64_t lifetime_ms;
	uint64_t delay_ms; /* 0: nobody is told */
	uint64_t host_pause_ms;
	/* How much later than due an attempt may come, for whatever reason. */
	uint64_t slack_ms;
	/* And how much later than the end of its time a mail may be there, or than the moment for
	 * it its sender be told of the delay: this does not depend on a turn at the next hop. */
	uint64_t grace_ms;
	/* Mails may reach the end of their time: some next hops never take any. */
	bool expires;
};

/* Mails live for days, by the product's own schedule. */
void terms_choose_days(struct terms *t);
/* Mails live for a few minutes, or (mostly) for longer than any of these lives. */
void terms_choose(struct terms *t);
/* Those of another configuration, now and then, as after a restart. */
void terms_vary(struct terms *t);
/* As a line of YAML; all times are whole seconds. */
void terms_write(const struct terms *t, struct buf *out);

/* The earliest and the latest time of the attempt behind `attempts` (1 or more) failures, the last
 * of them at now_ms. */
uint64_t terms_earliest_ms(const struct terms *t, unsigned attempts, uint64_t now_ms);
uint64_t terms_latest_ms(const struct terms *t, unsigned attempts, uint64_t now_ms);

#endif
