/* SPDX-License-Identifier: Apache-2.0
 *
 * admin_queue: what the commands of the admin socket about the queue share: filters made from a
 * request, and words for what the queue says. Control thread.
 */
#ifndef RELAY_CONTROL_ADMIN_QUEUE_H
#define RELAY_CONTROL_ADMIN_QUEUE_H

#include "queue/queue.h"
#include "relay/control/admin.h"

/* A part of the texts of a worker's rows. */
struct kept {
	size_t at;
	size_t size;
	bool is_known;
};

/* A row with what its numbers mean on its worker; its own spans are gone. */
struct shown_row {
	struct queue_row row;
	struct kept site;
	struct kept sender;
	struct kept domain;
	struct kept reply;
};

/* What one worker found. */
struct admin_found {
	struct flow *flow;
	const struct span *site; /* only rows of it; NULL: all */
	struct shown_row *rows;
	size_t count;
	size_t capacity;
	size_t wanted;
	uint8_t *texts;
	size_t texts_size;
	size_t texts_capacity;
	bool no_memory;
};

/* What of the request's filters the queue itself looks at. */
void admin_filter(const struct admin_client *c, struct queue_filter *f);
/* The name of the site that is asked for, or NULL. Only workers know numbers of sites, each its
 * own: they compare names. */
const struct span *admin_filter_site(const struct admin_client *c);
/* For a row that is only a candidate: do sender and recipients match? PURE. */
bool admin_filter_matches(const struct queue_filter *f, const struct mail_envelope *e);

/* For queue_list, on a worker: keeps a row in a struct admin_found. */
bool admin_on_row(void *context, const struct queue_row *row);
void admin_found_fini(struct admin_found *r);
/* Rows of a list of an answer. */
void admin_write_rows(struct admin_client *c, const struct admin_found *r);
/* enum queue_state as a word. */
struct span admin_state_word(unsigned queue_state);

#endif
