/* SPDX-License-Identifier: Apache-2.0
 *
 * tickets: the keys that session tickets are made and opened with (RFC 5077, RFC 8446 4.6.1).
 * Inside of tls/ only.
 *
 * One object for all workers and all setups of a process, so that a session is resumed on another
 * worker and behind a reload. Keys are random, never written anywhere, and replaced after one
 * lifetime; the one before still opens tickets for another lifetime, and is then wiped: who takes
 * the process's memory cannot open what was recorded before that. A lock is held for the copying of
 * a key.
 */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include <stdbool.h>
#include <stdint.h>

enum { TICKET_NAME_SIZE = 16, TICKET_KEY_SIZE = 32 };

struct ticket_key {
	uint8_t name[TICKET_NAME_SIZE];
	uint8_t cipher[TICKET_KEY_SIZE]; /* AES-256 */
	uint8_t mac[TICKET_KEY_SIZE];    /* HMAC-SHA-256 */
};

struct tickets;

/* NULL: no memory, or no randomness. */
struct tickets *tickets_new(uint64_t lifetime_ms, uint64_t now_ms);
struct tickets *tickets_get(struct tickets *t);
void tickets_put(struct tickets *t);
void tickets_set_lifetime(struct tickets *t, uint64_t lifetime_ms);

/* Times are clock_monotonic_ms(). The key to make a ticket with; false: no randomness for a new
 * one. */
bool tickets_current(struct tickets *t, uint64_t now_ms, struct ticket_key *out);
/* The key of that name. *is_old: the ticket is to be replaced. False: not known any more. */
bool tickets_find(struct tickets *t, uint64_t now_ms, const uint8_t *name, struct ticket_key *out,
		  bool *is_old);

#endif
