/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/line.h"

#include <stdlib.h>

#include "core/base/assert.h"

enum { TAGS = 64 };

struct line_tags {
	struct {
		uint64_t next; /* the tag that the sender's next entry gets at least */
	} of[TAGS];
};

static struct line_node *
node_of(struct list_node *n)
{
	return n == NULL ? NULL : LIST_ITEM(n, struct line_node, link);
}

void
line_init(struct line *l)
{
	*l = (struct line){ 0 };
	list_init(&l->nodes);
}

void
line_fini(struct line *l)
{
	ASSERT(list_is_empty(&l->nodes) && l->count == 0);
	free(l->tags);
	l->tags = NULL;
}

struct line_node *
line_first(const struct line *l)
{
	return node_of(list_first(&l->nodes));
}

/* Behind the last one with this tag or a lesser one. A busy sender's next entry belongs to the end,
 * one of a sender with little near the front: the end is tried first, then from the front. */
static void
insert(struct line *l, struct line_node *n)
{
	struct line_node *last = node_of(list_last(&l->nodes));

	if (last == NULL || last->tag <= n->tag) {
		list_append(&l->nodes, &n->link);
		return;
	}
	struct line_node *at = line_first(l);
	while (at->tag <= n->tag)
		at = node_of(list_next(&l->nodes, &at->link));
	list_insert_before(&at->link, &n->link);
}

/* Those in line have come without a table; it is known of the last one alone who it is. */
static void
make_tags(struct line *l)
{
	const struct line_node *last = node_of(list_last(&l->nodes));

	l->tags = calloc(1, sizeof *l->tags);
	if (l->tags != NULL)
		l->tags->of[last->sender % TAGS].next = last->tag + last->cost;
}

void
line_add(struct line *l, struct line_node *n, uint32_t sender, uint64_t cost)
{
	ASSERT(cost > 0);
	n->sender = sender;
	n->cost = cost;
	n->tag = l->time;
	if (l->tags == NULL && l->count > 0)
		make_tags(l);
	if (l->tags == NULL) {
		/* Alone, or in order of arrival. */
		struct line_node *last = node_of(list_last(&l->nodes));
		if (last != NULL && last->tag > n->tag)
			n->tag = last->tag;
	} else {
		uint64_t *next = &l->tags->of[sender % TAGS].next;
		if (*next > n->tag)
			n->tag = *next;
		*next = n->tag + cost;
	}
	insert(l, n);
	l->count++;
}

void
line_add_first(struct line *l, struct line_node *n)
{
	n->tag = l->time;
	n->cost = 0;
	list_prepend(&l->nodes, &n->link);
	l->count++;
}

void
line_take(struct line *l, struct line_node *n)
{
	ASSERT(l->count > 0);
	list_unlink(&n->link);
	l->count--;
	if (n->tag > l->time)
		l->time = n->tag;
	if (l->count > 0)
		return;
	/* Whoever comes now meets nobody: old debts are forgiven. */
	free(l->tags);
	l->tags = NULL;
	l->time = 0;
}
