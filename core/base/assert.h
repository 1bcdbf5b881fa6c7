/* SPDX-License-Identifier: Apache-2.0
 *
 * assert: what must hold in this program. On in every build, release too.
 *
 * ASSERT is for bugs of ours, never for what a peer, the network or the disk does (those are rows
 * of errors.def). A failed assertion writes one line to standard error, calls the dump hook of the
 * calling thread (which describes the connection and mail at hand), and aborts; the mail that did
 * it is recognised after the restart (ARCHITECTURE.md, invariant 9).
 *
 * Objects that travel behind a `void *` carry a magic number as their first member: OBJ_INIT sets
 * it, OBJ_CHECK proves it, OBJ_FINI overwrites it so that a use after free is caught.
 */
#ifndef CORE_BASE_ASSERT_H
#define CORE_BASE_ASSERT_H

#include <stdint.h>

/* Describes what the calling thread was doing, to standard error; async-signal-safe not needed. */
typedef void (*assert_dump_fn)(void *context);

/* Sets the hook of the calling thread; NULL removes it. */
void assert_set_dump(assert_dump_fn dump, void *context);

_Noreturn void assert_failed(const char *expression, const char *file, int line,
			     const char *function);

#define ASSERT(expression)                   \
	(__builtin_expect(!!(expression), 1) \
		 ? (void)0                   \
		 : assert_failed(#expression, __FILE__, __LINE__, __func__))

#define OBJ_INIT(object, number)  ((void)((object)->magic = (number)))
#define OBJ_CHECK(object, number) ASSERT((object) != NULL && (object)->magic == (number))
#define OBJ_FINI(object, number)             \
	do {                                 \
		OBJ_CHECK(object, number);   \
		(object)->magic = ~(number); \
	} while (0)

/* The object that embeds `member` at `pointer`. */
#define CONTAINER_OF(pointer, type, member) \
	((type *)(void *)((char *)(pointer) - __builtin_offsetof(type, member)))

#endif
