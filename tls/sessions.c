/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

struct sessions *
sessions_new(size_t most)
{
	struct sessions *s = calloc(1, sizeof *s);

	ASSERT(most > 0);
	if (s == NULL)
		return NULL;
	s->most = most;
	list_init(&s->used);
	return s;
}

static struct session **
place_of(struct sessions *s, struct span key, uint64_t hash)
{
	struct session **at = &s->buckets[hash % SESSIONS_BUCKETS];

	while (*at != NULL && ((*at)->hash != hash || !span_eq((*at)->key, key)))
		at = &(*at)->next;
	return at;
}

static void
drop(struct sessions *s, struct session **at)
{
	struct session *gone = *at;

	ASSERT(s->count > 0);
	*at = gone->next;
	list_unlink(&gone->link);
	SSL_SESSION_free(gone->ssl);
	free(gone);
	s->count--;
}

static void
drop_oldest(struct sessions *s)
{
	struct session *oldest = LIST_ITEM(list_first(&s->used), struct session, link);

	drop(s, place_of(s, oldest->key, oldest->hash));
}

void
sessions_free(struct sessions *s)
{
	if (s == NULL)
		return;
	while (s->count > 0)
		drop_oldest(s);
	free(s);
}

const struct session *
sessions_find(struct sessions *s, struct span key)
{
	struct session **at = place_of(s, key, span_hash_nocase(key, 0));

	if (*at == NULL)
		return NULL;
	if (!SSL_SESSION_is_resumable((*at)->ssl)) {
		drop(s, at);
		return NULL;
	}
	list_unlink(&(*at)->link);
	list_append(&s->used, &(*at)->link);
	return *at;
}

void
sessions_keep(struct sessions *s, struct span key, SSL_SESSION *ssl, enum tls_verified verified)
{
	uint64_t hash = span_hash_nocase(key, 0);
	struct session **at = place_of(s, key, hash);

	if (*at != NULL)
		drop(s, at);
	while (s->count >= s->most)
		drop_oldest(s);
	struct session *new = malloc(sizeof *new + key.size);
	if (new == NULL) {
		SSL_SESSION_free(ssl);
		return;
	}
	/* The bucket may have changed. */
	at = place_of(s, key, hash);
	memcpy(new + 1, key.data, key.size);
	*new = (struct session){
		.next = *at,
		.hash = hash,
		.ssl = ssl,
		.verified = verified,
		.key = span_of(new + 1, key.size),
	};
	*at = new;
	list_append(&s->used, &new->link);
	s->count++;
}

void
sessions_drop(struct sessions *s, struct span key)
{
	struct session **at = place_of(s, key, span_hash_nocase(key, 0));

	if (*at != NULL)
		drop(s, at);
}
