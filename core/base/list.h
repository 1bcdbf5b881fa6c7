/* SPDX-License-Identifier: Apache-2.0
 *
 * list: intrusive doubly linked lists. Nodes are embedded in their owners; nothing is allocated.
 *
 * A node is in at most one list. A node that is in none is zeroed (next == NULL), so zeroed memory
 * is a valid unlinked node, and list_unlink() of such a node is a no-op. Not for sharing between
 * threads. Order of insertion is kept; all operations but list_count are O(1).
 */
#ifndef CORE_BASE_LIST_H
#define CORE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/assert.h"

struct list_node {
	struct list_node *next;
	struct list_node *previous;
};

struct list {
	struct list_node head;
};

static inline void
list_init(struct list *l)
{
	l->head.next = l->head.previous = &l->head;
}

static inline bool
list_is_empty(const struct list *l)
{
	return l->head.next == &l->head;
}

static inline bool
list_is_linked(const struct list_node *n)
{
	return n->next != NULL;
}

static inline void
list_append(struct list *l, struct list_node *n)
{
	ASSERT(!list_is_linked(n));
	n->next = &l->head;
	n->previous = l->head.previous;
	l->head.previous->next = n;
	l->head.previous = n;
}

static inline void
list_prepend(struct list *l, struct list_node *n)
{
	ASSERT(!list_is_linked(n));
	n->previous = &l->head;
	n->next = l->head.next;
	l->head.next->previous = n;
	l->head.next = n;
}

/* In front of `at`, which is in a list. */
static inline void
list_insert_before(struct list_node *at, struct list_node *n)
{
	ASSERT(!list_is_linked(n) && list_is_linked(at));
	n->next = at;
	n->previous = at->previous;
	at->previous->next = n;
	at->previous = n;
}

static inline void
list_unlink(struct list_node *n)
{
	if (!list_is_linked(n))
		return;
	n->previous->next = n->next;
	n->next->previous = n->previous;
	n->next = n->previous = NULL;
}

/* The first node, or NULL. */
static inline struct list_node *
list_first(const struct list *l)
{
	return list_is_empty(l) ? NULL : l->head.next;
}

/* The last node, or NULL. */
static inline struct list_node *
list_last(const struct list *l)
{
	return list_is_empty(l) ? NULL : l->head.previous;
}

/* The node behind n, or NULL at the end. */
static inline struct list_node *
list_next(const struct list *l, const struct list_node *n)
{
	return n->next == &l->head ? NULL : n->next;
}

/* Takes the first node out, or NULL. */
static inline struct list_node *
list_shift(struct list *l)
{
	struct list_node *n = list_first(l);
	if (n != NULL)
		list_unlink(n);
	return n;
}

/* Moves all nodes of `from` behind those of `to`; `from` is empty afterwards. */
static inline void
list_take_all(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->head.next->previous = to->head.previous;
	from->head.previous->next = &to->head;
	to->head.previous->next = from->head.next;
	to->head.previous = from->head.previous;
	list_init(from);
}

#define LIST_ITEM(node, type, member) CONTAINER_OF(node, type, member)

#endif
