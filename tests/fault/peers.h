/* SPDX-License-Identifier: Apache-2.0
 *
 * peers: the SMTP clients and servers at the other ends of the simulated network.
 *
 * A client submits its mails one after the other over as many connections as it takes, notes every
 * 250 and every refusal with the oracle, and never sends a mail twice. By seed it pipelines, uses
 * BDAT, pauses, ends its direction early, or breaks the connection anywhere. What it was not
 * answered stays open with the oracle (PUT_STARTED).
 *
 * A sink serves one address. By seed it refuses connections, is slow, defers or refuses senders,
 * recipients and messages, closes with 421, drops the connection at any phase, also between having
 * taken a message and saying so, answers late or stops reading. When `sinks_calm` is set, all sinks
 * take everything at once. A sink may also have a fate, which it keeps whatever its faults are:
 * until a time it takes nothing at all.
 *
 * Both are state machines without memory of their own outside the world, and survive crashes.
 */
#ifndef TESTS_FAULT_PEERS_H
#define TESTS_FAULT_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/net.h"

struct client;
struct sink;
struct oracle_mail;
struct sim_peer;

/* How often, out of 1000, each thing happens. */
struct peer_faults {
	unsigned client_resets; /* at each step of a dialogue */
	unsigned client_pauses;
	unsigned sink_defers;  /* at each command: 4xx */
	unsigned sink_refuses; /* at each command: 5xx */
	unsigned sink_drops;   /* at each command, and behind the end of data */
	unsigned sink_stalls;  /* stops reading, or answers late */
	unsigned sink_absent;  /* refuses the connection */
	uint64_t stall_us;
	uint64_t gap_us; /* clients stay away for up to this long between two mails; 0: they do not
			  */
};

/* The sender of the relay's questions for recipients. */
#define PEER_ASKS "asks@relay.example"

enum sink_fate {
	FATE_NONE,
	FATE_ABSENT, /* refuses connections */
	FATE_SILENT, /* takes them, and never says a word */
	FATE_DEFERS, /* every mail: at MAIL, at all of its RCPT, or at its end */
	FATE_COUNT
};

/* The loopback address with this port. */
struct net_address peer_address(uint16_t port);

/* Submits up to `mails` mails of up to size_most bytes to `to`, beginning soon. */
struct client *client_new(const struct net_address *to, const struct peer_faults *faults,
			  uint32_t mails, uint64_t size_most);
/* Submits no further mail: ends with the one at hand. */
void client_stop(struct client *c);
bool client_is_done(const struct client *c);
/* The mail whose end this peer has sent and which it waits to be answered; NULL where there is
 * none, or the peer is no client. */
struct oracle_mail *client_unanswered(const struct sim_peer *p);

struct sink *sink_new(const struct net_address *address, unsigned site,
		      const struct peer_faults *faults);
/* From now on it takes everything, but for its fate. */
void sink_calm(struct sink *s);
/* Until this time; UINT64_MAX: for ever. */
void sink_doom(struct sink *s, enum sink_fate fate, uint64_t until_us);
uint64_t sink_messages(const struct sink *s);

#endif
