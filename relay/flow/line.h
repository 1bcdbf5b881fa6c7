/* SPDX-License-Identifier: Apache-2.0
 *
 * line: what waits for a turn, fair among senders.
 *
 * Start-time fair queueing: each entry gets a tag, the greater of the line's own time and the tag
 * of its sender's last entry plus what that one costs; the least tag is first. So a sender with one
 * mail stands behind at most one turn of every other sender, however many those have; entries of
 * one sender keep their order. The last tags of the senders in line are remembered in a small table
 * by hash: two that fall together there share a turn.
 *
 * The line links nodes of the caller's objects and owns no memory but the table, which is made when
 * a second entry comes; without memory for it the line is in order of arrival. One thread.
 */
#ifndef RELAY_FLOW_LINE_H
#define RELAY_FLOW_LINE_H

#include <stdint.h>

#include "core/base/list.h"

struct line_node {
	struct list_node link;
	uint64_t tag;
	uint64_t cost;
	uint32_t sender; /* a hash of who sent it */
};

struct line {
	struct list nodes; /* struct line_node.link, by tag */
	uint64_t time;     /* the tag of what was taken last */
	uint32_t count;
	struct line_tags *tags;
};

void line_init(struct line *l);
/* An empty one. */
void line_fini(struct line *l);
/* cost: of its turn, in any unit. */
void line_add(struct line *l, struct line_node *n, uint32_t sender, uint64_t cost);
/* In front of all: it has had its turn already. */
void line_add_first(struct line *l, struct line_node *n);
/* NULL: empty. */
struct line_node *line_first(const struct line *l);
void line_take(struct line *l, struct line_node *n);

#endif
