/* SPDX-License-Identifier: Apache-2.0
 *
 * clock and randomness: two of the four ways by which the outside enters (network and disk are
 * ring.h and disk.h). Pure code is given times as arguments and never includes this header. The
 * simulation in tests/fault defines the same functions over a virtual clock and a seeded generator.
 */
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <stdint.h>

/* Milliseconds since some start, never going back; for deadlines and durations. */
uint64_t clock_monotonic_ms(void);
/* Microseconds of the same clock; for measuring. */
uint64_t clock_monotonic_us(void);
/* Milliseconds since 1970 UTC; may jump. For dates in mail, logs, and retry times that outlive
 * the process. */
uint64_t clock_wall_ms(void);
/* 64 bits from the kernel's generator, fit for identifiers that must not be guessed. */
uint64_t random_u64(void);

#endif
