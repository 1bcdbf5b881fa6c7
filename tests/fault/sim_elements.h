/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_elements: what a key of the modelled Redis holds: fields, members, places of a list, in their
 * order, in the world's memory. For sim_keys.c alone.
 */
#ifndef TESTS_FAULT_SIM_ELEMENTS_H
#define TESTS_FAULT_SIM_ELEMENTS_H

#include "tests/fault/sim_text.h"

enum kind { KIND_STRING, KIND_HASH, KIND_SET, KIND_ZSET, KIND_LIST };

/* Of a hash, a set, a sorted set or a list; the former two in the order of names, the others of
 * scores, which are places in a list. */
struct element {
	struct blob name;
	struct blob value;
	double score;
};

struct key {
	struct key *next; /* in its bucket */
	struct blob name;
	enum kind kind;
	uint64_t expires_ms; /* 0: never */
	struct blob string;
	struct element *elements;
	size_t count, places;
};

/* Bytes that its elements take. */
size_t elements_size(const struct key *key);
/* As Redis orders names: by bytes. */
int elements_compare(struct span a, struct span b);
/* NULL: it is not there. */
struct element *element_find(const struct key *key, struct span name);
struct element *element_add(struct key *key, double score, struct span name);
void element_remove(struct key *key, struct element *e);

#endif
