/* SPDX-License-Identifier: Apache-2.0
 *
 * A cell of a mail holds when it was to be offered (microseconds since the track was made, plus
 * one) and its fate; a cell of a delivery one byte: was it accepted, and how often it arrived.
 * Both tables are reserved whole and become real memory page by page as they are written.
 */
#include "bench/track.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

enum {
	FATE_BITS = 2,
	ACCEPTED = 0x80,      /* of a delivery */
	ARRIVALS_MOST = 0x7f, /* more are not told apart */
};

struct track {
	uint32_t tag;
	uint32_t recipients;
	uint64_t mails_max;
	uint64_t began_us;
	_Atomic uint64_t *mails;
	_Atomic uint8_t *deliveries;
	_Atomic uint64_t next;
	_Atomic uint64_t fates[TRACK_IN_DOUBT + 1];
	_Atomic uint64_t accepted;
	_Atomic uint64_t delivered;
	_Atomic uint64_t settled;
	_Atomic uint64_t duplicated;
	_Atomic uint64_t foreign;
	_Atomic uint64_t last_arrival_us;
};

static void *
reserve(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

struct track *
track_new(uint32_t tag, uint32_t recipients, uint64_t mails_max)
{
	struct track *t = calloc(1, sizeof *t);

	ASSERT(recipients > 0 && mails_max > 0);
	if (t == NULL)
		return NULL;
	t->tag = tag;
	t->recipients = recipients;
	t->mails_max = mails_max;
	t->began_us = clock_monotonic_us();
	t->mails = reserve(mails_max * sizeof *t->mails);
	t->deliveries = reserve(mails_max * recipients);
	if (t->mails == NULL || t->deliveries == NULL) {
		track_free(t);
		return NULL;
	}
	return t;
}

void
track_free(struct track *t)
{
	if (t == NULL)
		return;
	if (t->mails != NULL)
		munmap((void *)(uintptr_t)t->mails, t->mails_max * sizeof *t->mails);
	if (t->deliveries != NULL)
		munmap((void *)(uintptr_t)t->deliveries, t->mails_max * t->recipients);
	free(t);
}

static void
count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The numbers given out never pass the table, so that what counts them can trust them. */
bool
track_offer(struct track *t, uint64_t intended_us, uint64_t *mail)
{
	uint64_t n = atomic_load_explicit(&t->next, memory_order_relaxed);

	do {
		if (n >= t->mails_max)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&t->next, &n, n + 1, memory_order_relaxed,
							memory_order_relaxed));
	uint64_t since_us = intended_us > t->began_us ? intended_us - t->began_us : 0;
	/* Seen by the sink before the mail can arrive: its bytes leave after this. */
	atomic_store_explicit(&t->mails[n], (since_us + 1) << FATE_BITS | TRACK_OFFERED,
			      memory_order_release);
	count(&t->fates[TRACK_OFFERED], 1);
	*mail = n;
	return true;
}

void
track_learn(struct track *t, uint64_t mail, enum track_fate fate, const bool *rejected)
{
	ASSERT(mail < t->mails_max && fate != TRACK_OFFERED);
	uint64_t cell = atomic_load_explicit(&t->mails[mail], memory_order_relaxed);
	ASSERT(cell != 0 && (cell & ((1 << FATE_BITS) - 1)) == TRACK_OFFERED);
	atomic_store_explicit(&t->mails[mail], cell | fate, memory_order_relaxed);
	count(&t->fates[fate], 1);
	if (fate != TRACK_ACCEPTED)
		return;
	uint64_t accepted = 0;
	uint64_t settled = 0;
	for (uint32_t i = 0; i < t->recipients; i++) {
		if (rejected != NULL && rejected[i])
			continue;
		uint8_t before = atomic_fetch_or_explicit(&t->deliveries[mail * t->recipients + i],
							  ACCEPTED, memory_order_relaxed);
		settled += (before & ARRIVALS_MOST) != 0;
		accepted++;
	}
	count(&t->accepted, accepted);
	count(&t->settled, settled);
}

static void
note_last(struct track *t, uint64_t now_us)
{
	uint64_t last = atomic_load_explicit(&t->last_arrival_us, memory_order_relaxed);

	while (last < now_us &&
	       !atomic_compare_exchange_weak_explicit(&t->last_arrival_us, &last, now_us,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

void
track_arrive(struct track *t, uint64_t mail, uint32_t recipient, uint64_t now_us,
	     struct histogram *latency)
{
	if (mail >= t->mails_max || recipient >= t->recipients) {
		track_arrive_foreign(t);
		return;
	}
	uint64_t cell = atomic_load_explicit(&t->mails[mail], memory_order_acquire);
	if (cell == 0) {
		track_arrive_foreign(t); /* a number that was never given out */
		return;
	}
	_Atomic uint8_t *delivery = &t->deliveries[mail * t->recipients + recipient];
	uint8_t before = atomic_load_explicit(delivery, memory_order_relaxed);
	do {
		if ((before & ARRIVALS_MOST) == ARRIVALS_MOST)
			break;
	} while (!atomic_compare_exchange_weak_explicit(
		delivery, &before, before + 1, memory_order_relaxed, memory_order_relaxed));
	if ((before & ARRIVALS_MOST) != 0) {
		count(&t->duplicated, 1);
		return;
	}
	note_last(t, now_us);
	count(&t->delivered, 1);
	/* Of the arrival and the 250, both of which change this cell, the later one counts. */
	if ((before & ACCEPTED) != 0)
		count(&t->settled, 1);
	uint64_t offered_us = t->began_us + (cell >> FATE_BITS) - 1;
	histogram_add(latency, now_us > offered_us ? now_us - offered_us : 0);
}

void
track_arrive_foreign(struct track *t)
{
	count(&t->foreign, 1);
}

bool
track_show_field(const struct track *t, uint64_t mail, struct buf *out)
{
	return buf_printf(out, TRACK_FIELD "%0*x-%0*llu\r\n", TRACK_TAG_DIGITS, t->tag,
			  TRACK_NUMBER_DIGITS, (unsigned long long)mail);
}

static bool
read_hex(struct span digits, uint32_t *out)
{
	*out = 0;
	for (size_t i = 0; i < digits.size; i++) {
		uint8_t c = ascii_lower(digits.data[i]);
		if (c >= '0' && c <= '9')
			*out = *out << 4 | (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			*out = *out << 4 | (uint32_t)(c - 'a' + 10);
		else
			return false;
	}
	return true;
}

bool
track_read_id(const struct track *t, struct span value, uint64_t *mail)
{
	uint32_t tag;

	value = span_trim(value);
	return value.size == TRACK_ID_SIZE && value.data[TRACK_TAG_DIGITS] == '-' &&
	       read_hex(span_first(value, TRACK_TAG_DIGITS), &tag) && tag == t->tag &&
	       span_to_u64(span_after(value, TRACK_TAG_DIGITS + 1), mail);
}

void
track_count(const struct track *t, struct track_numbers *out)
{
	*out = (struct track_numbers){
		.recipients_delivered = atomic_load_explicit(&t->delivered, memory_order_relaxed),
		.recipients_settled = atomic_load_explicit(&t->settled, memory_order_relaxed),
		.recipients_accepted = atomic_load_explicit(&t->accepted, memory_order_relaxed),
		.duplicated = atomic_load_explicit(&t->duplicated, memory_order_relaxed),
		.foreign = atomic_load_explicit(&t->foreign, memory_order_relaxed),
		.last_arrival_us = atomic_load_explicit(&t->last_arrival_us, memory_order_relaxed),
	};
	for (unsigned i = 0; i <= TRACK_IN_DOUBT; i++)
		out->mails[i] = atomic_load_explicit(&t->fates[i], memory_order_relaxed);
}

void
track_judge(const struct track *t, struct track_verdict *out)
{
	uint64_t cells = atomic_load_explicit(&t->next, memory_order_relaxed) * t->recipients;

	*out = (struct track_verdict){ 0 };
	for (uint64_t i = 0; i < cells; i++) {
		uint8_t cell = atomic_load_explicit(&t->deliveries[i], memory_order_relaxed);
		bool arrived = (cell & ARRIVALS_MOST) != 0;
		bool accepted = (cell & ACCEPTED) != 0;
		out->lost += accepted && !arrived;
		out->unacknowledged_delivered += arrived && !accepted;
	}
}
