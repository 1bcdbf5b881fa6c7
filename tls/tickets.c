/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/tickets.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

struct tickets {
	pthread_mutex_t lock;
	atomic_uint references;
	struct ticket_key keys[2]; /* [0] makes tickets, [1] is of the lifetime before */
	bool has_previous;
	uint64_t lifetime_ms;
	uint64_t made_at_ms; /* keys[0] */
};

static bool
make_key(struct ticket_key *key)
{
	return RAND_bytes(key->name, sizeof key->name) == 1 &&
	       RAND_priv_bytes(key->cipher, sizeof key->cipher) == 1 &&
	       RAND_priv_bytes(key->mac, sizeof key->mac) == 1;
}

struct tickets *
tickets_new(uint64_t lifetime_ms, uint64_t now_ms)
{
	struct tickets *t = calloc(1, sizeof *t);

	ASSERT(lifetime_ms > 0);
	if (t == NULL)
		return NULL;
	if (!make_key(&t->keys[0]) || pthread_mutex_init(&t->lock, NULL) != 0) {
		free(t);
		return NULL;
	}
	atomic_init(&t->references, 1);
	t->lifetime_ms = lifetime_ms;
	t->made_at_ms = now_ms;
	return t;
}

struct tickets *
tickets_get(struct tickets *t)
{
	atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
	return t;
}

void
tickets_put(struct tickets *t)
{
	if (t == NULL || atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&t->lock);
	OPENSSL_cleanse(t, sizeof *t);
	free(t);
}

void
tickets_set_lifetime(struct tickets *t, uint64_t lifetime_ms)
{
	ASSERT(lifetime_ms > 0);
	pthread_mutex_lock(&t->lock);
	t->lifetime_ms = lifetime_ms;
	pthread_mutex_unlock(&t->lock);
}

/* Under the lock: forgets what is too old. False: no randomness for a new key. */
static bool
renew(struct tickets *t, uint64_t now_ms)
{
	uint64_t age_ms = now_ms > t->made_at_ms ? now_ms - t->made_at_ms : 0;
	struct ticket_key fresh;

	if (age_ms < t->lifetime_ms)
		return true;
	if (!make_key(&fresh))
		return false;
	t->has_previous = age_ms < 2 * t->lifetime_ms;
	t->keys[1] = t->keys[0];
	t->keys[0] = fresh;
	if (!t->has_previous)
		OPENSSL_cleanse(&t->keys[1], sizeof t->keys[1]);
	t->made_at_ms = now_ms;
	OPENSSL_cleanse(&fresh, sizeof fresh);
	return true;
}

bool
tickets_current(struct tickets *t, uint64_t now_ms, struct ticket_key *out)
{
	pthread_mutex_lock(&t->lock);
	bool is_good = renew(t, now_ms);
	if (is_good)
		*out = t->keys[0];
	pthread_mutex_unlock(&t->lock);
	return is_good;
}

bool
tickets_find(struct tickets *t, uint64_t now_ms, const uint8_t *name, struct ticket_key *out,
	     bool *is_old)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	bool is_good = renew(t, now_ms);
	for (unsigned i = 0; is_good && !found && i < (t->has_previous ? 2U : 1U); i++) {
		found = memcmp(t->keys[i].name, name, TICKET_NAME_SIZE) == 0;
		if (found)
			*out = t->keys[i];
		*is_old = i > 0;
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}
