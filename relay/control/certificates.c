/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/certificates.h"

#include "core/base/clock.h"
#include "core/config.h"
#include "core/log.h"
#include "core/metric.h"

enum {
	MS_PER_S = 1000,
	DAY_MS = 24 * 3600 * MS_PER_S,
	WARN_DAYS = 14,
	/* A signature of RSA-2048 takes some 300 us, and six times as long with twice the size:
	 * that holds up a worker's turn. */
	FAST_RSA_BITS = 2048,
};

static uint64_t
until_ms(const struct tls_certificate *c)
{
	return c->not_after_s < 0 ? 0 : (uint64_t)c->not_after_s * MS_PER_S;
}

static void
tell_expiry(struct certificates *k)
{
	uint64_t now_ms = clock_wall_ms();
	uint64_t first_ms = 0;

	for (size_t i = 0; i < tls_setup_certificate_count(k->setup); i++) {
		struct tls_certificate c;
		tls_setup_certificate(k->setup, i, &c);
		uint64_t ends_ms = until_ms(&c);
		if (first_ms == 0 || ends_ms < first_ms)
			first_ms = ends_ms;
		if (ends_ms >= now_ms + (uint64_t)WARN_DAYS * DAY_MS)
			continue;
		event_tls_expires(k->worker->log, &(struct event_tls_expires){
							  .file = c.file,
							  .name = c.name,
							  .until = ends_ms,
							  .expired = ends_ms <= now_ms,
						  });
	}
	METRIC_SET(k->worker->metrics, TLS_CERTIFICATE_EXPIRY, first_ms / MS_PER_S);
}

static void
tell_certificate(struct certificates *k, size_t i)
{
	struct tls_certificate c;

	tls_setup_certificate(k->setup, i, &c);
	if (!c.is_fresh)
		return;
	event_tls_certificate(k->worker->log, &(struct event_tls_certificate){
						      .file = c.file,
						      .name = c.name,
						      .names = c.name_count,
						      .key = span_of_string(c.key_kind),
						      .bits = c.key_bits,
						      .until = until_ms(&c),
					      });
	if (!c.is_slow)
		return;
	event_tls_slow_key(k->worker->log,
			   &(struct event_tls_slow_key){
				   .file = c.file,
				   .key = span_of_string(c.key_kind),
				   .bits = c.key_bits,
				   .microseconds = tls_setup_signing_us(k->setup, i),
				   .remedy = SPAN("use a key of ECDSA P-256, or put one beside it"),
			   });
}

void
certificates_init(struct certificates *k, struct worker *w)
{
	*k = (struct certificates){ .worker = w };
}

void
certificates_take(struct certificates *k, struct tls_setup *setup, uint64_t look_ms)
{
	struct tls_setup *old = k->setup;

	k->setup = tls_setup_get(setup);
	tls_setup_put(old);
	k->look_ms = look_ms;
	for (size_t i = 0; i < tls_setup_certificate_count(k->setup); i++)
		tell_certificate(k, i);
	tell_expiry(k);
}

static void
on_day(struct timer *t)
{
	struct certificates *k = CONTAINER_OF(t, struct certificates, day);

	tell_expiry(k);
	timer_set(&k->worker->timers, t, k->worker->now_ms + DAY_MS);
}

static void
on_look(struct timer *t)
{
	struct certificates *k = CONTAINER_OF(t, struct certificates, look);
	uint64_t now = tls_setup_state_on_disk(k->setup);
	bool is_new = now != tls_setup_state(k->setup) && now == k->seen && now != k->refused;

	k->seen = now;
	timer_set(&k->worker->timers, t, k->worker->now_ms + k->look_ms);
	if (is_new)
		k->on_changed(k);
}

void
certificates_watch(struct certificates *k, void (*on_changed)(struct certificates *k))
{
	k->on_changed = on_changed;
	timer_init(&k->look, on_look);
	timer_init(&k->day, on_day);
	timer_set(&k->worker->timers, &k->look, k->worker->now_ms + k->look_ms);
	timer_set(&k->worker->timers, &k->day, k->worker->now_ms + DAY_MS);
}

void
certificates_fini(struct certificates *k)
{
	timer_stop(&k->worker->timers, &k->look);
	timer_stop(&k->worker->timers, &k->day);
	tls_setup_put(k->setup);
	k->setup = NULL;
}
