/* SPDX-License-Identifier: Apache-2.0
 *
 * toy_store: the smallest store that keeps the promises of queue.h, to test the simulation itself:
 * driver and oracle must find nothing in it, and must find each bug that is planted in it.
 *
 * One log a worker and start, batches with RWF_DSYNC, two in flight, confirmed in order. All mails
 * stay in memory; logs are never freed. It knows no errors of the disk: its lives have none.
 * It stands behind queue/queue.c in the place of the spool (spool_open). Not for production.
 */
#ifndef TESTS_FAULT_TOY_STORE_H
#define TESTS_FAULT_TOY_STORE_H

enum toy_bug {
	TOY_NO_BUG,
	TOY_CONFIRMS_EARLY,   /* a batch is confirmed although one in front of it is under way */
	TOY_FORGETS_OUTCOMES, /* confirmed when they are in memory */
	TOY_FORGETS_SOME,     /* outcomes, at recovery */
	TOY_SKIPS_NAME_SYNC,  /* a new log's name is not synced */
	TOY_LOSES_LAST_BYTE,  /* of large bodies, at recovery */
	TOY_LEAKS_DESCRIPTOR,
	TOY_GIVES_TWICE,    /* a released item is waiting twice */
	TOY_WRITES_TO_LENT, /* the memory of a batch is used again too early */
	TOY_SPLITS_NOTICE,  /* it is written when the outcome that it is about is durable */
	TOY_FORGETS_TOLD,   /* at recovery: that a sender was told of the delay */
	TOY_FORGETS_DUE,    /* some of what is to be tried again never becomes due */
	TOY_COMES_EARLY,    /* half a minute before it is due */
	TOY_BUGS
};

extern enum toy_bug toy_bug;

#endif
