/* SPDX-License-Identifier: Apache-2.0
 *
 * listener: a listening socket of one worker. All workers listen on the same address
 * (SO_REUSEPORT), and the kernel spreads clients over them. Where descriptors or memory run out,
 * clients wait in the kernel's queue until accepting works again.
 */
#ifndef RELAY_FLOW_LISTENER_H
#define RELAY_FLOW_LISTENER_H

#include "core/op.h"
#include "core/timer.h"

struct flow;

struct listener {
	struct op accept;
	struct op cancel;
	struct timer again; /* accept again after a failure */
	struct flow *flow;
	unsigned number; /* among those of the configuration */
	int fd;          /* -1: closed */
};

/* Starts accepting; `fd` listens and is taken. */
void listener_start(struct listener *l, struct flow *f, unsigned number, int fd);
/* Stops accepting; its socket is closed when the kernel has let go. */
void listener_stop(struct listener *l);
/* Has it stopped, with nothing in the kernel? */
bool listener_is_closed(const struct listener *l);

#endif
