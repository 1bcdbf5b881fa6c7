/* SPDX-License-Identifier: Apache-2.0
 *
 * relay: the process that is measured: started by a command, or already there. Main thread.
 *
 * A command gets a process group of its own, so that Ctrl-C ends the bench and the bench the relay;
 * a bench that is killed takes it along.
 */
#ifndef BENCH_RELAY_H
#define BENCH_RELAY_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/net_address.h"

struct relay {
	pid_t pid; /* root of its tree; 0: not known */
	bool ours; /* started here */
	/* It speaks TLS from the first byte, or waits for a PROXY header: instead of a greeting, a
	 * connection is enough. */
	bool silent;
};

/* Starts the command and waits until the address greets. False with a line in `why`. */
bool relay_start(struct relay *r, char **command, const struct net_address *address,
		 struct buf *why);
/* Waits until the address greets with 2xx; for at most so long, and no longer than until SIGINT or
 * SIGTERM, which are blocked and stay pending. */
bool relay_await(const struct relay *r, const struct net_address *address, unsigned seconds,
		 struct buf *why);
/* Has the command ended, and does nobody greet at the address? One that leaves a daemon behind is
 * not gone. */
bool relay_is_gone(const struct relay *r, const struct net_address *address);
/* SIGTERM, then waits for its end; SIGKILL where that takes longer than 30 s. What it leaves behind
 * in its process group gets SIGTERM. */
void relay_stop(struct relay *r);

#endif
