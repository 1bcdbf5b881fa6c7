/* SPDX-License-Identifier: Apache-2.0
 *
 * certificates: what an operator is told of our certificates, and the look at whether their files
 * have changed. On the control thread (certificates_take for the first time before it runs).
 *
 * A file that looks the same twice in a row is not being written any more; a state of the files
 * that could not be used is not tried again until it changes.
 */
#ifndef RELAY_CONTROL_CERTIFICATES_H
#define RELAY_CONTROL_CERTIFICATES_H

#include "core/timer.h"
#include "core/worker.h"
#include "tls/tls.h"

struct certificates {
	struct worker *worker;
	struct tls_setup *setup; /* in effect; one reference */
	struct timer look;
	struct timer day; /* for those that expire */
	void (*on_changed)(struct certificates *k);
	uint64_t look_ms;
	uint64_t seen;    /* the state of the files at the last look */
	uint64_t refused; /* the state that could not be used */
};

void certificates_init(struct certificates *k, struct worker *w);
/* These are in effect now: says so. Their files are looked at every look_ms. */
void certificates_take(struct certificates *k, struct tls_setup *setup, uint64_t look_ms);
/* on_changed runs where the files are to be read again. */
void certificates_watch(struct certificates *k, void (*on_changed)(struct certificates *k));
void certificates_fini(struct certificates *k);

#endif
