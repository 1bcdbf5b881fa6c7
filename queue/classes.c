/* SPDX-License-Identifier: Apache-2.0
 *
 * Classes of ages and of attempts, the same for every store.
 */
#include "core/base/assert.h"
#include "queue/queue.h"

static const uint64_t minute_ms = 60 * 1000;

unsigned
queue_age_class(uint64_t age_ms)
{
	static const unsigned minutes[QUEUE_AGES - 1] = { 5, 60, 4 * 60, 24 * 60, 3 * 24 * 60 };
	unsigned number = 0;

	while (number < QUEUE_AGES - 1 && age_ms > minutes[number] * minute_ms)
		number++;
	return number;
}

unsigned
queue_attempts_class(uint16_t attempts)
{
	static const uint16_t most[QUEUE_ATTEMPTS - 1] = { 0, 1, 3, 7 };
	unsigned number = 0;

	while (number < QUEUE_ATTEMPTS - 1 && attempts > most[number])
		number++;
	return number;
}

const char *
queue_age_name(unsigned number)
{
	static const char *const names[QUEUE_AGES] = { "5m", "1h", "4h", "1d", "3d", "older" };

	ASSERT(number < QUEUE_AGES);
	return names[number];
}

const char *
queue_attempts_name(unsigned number)
{
	static const char *const names[QUEUE_ATTEMPTS] = { "0", "1", "2-3", "4-7", "more" };

	ASSERT(number < QUEUE_ATTEMPTS);
	return names[number];
}
