/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/peer_login.h"

#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"

void
peer_logins_init(struct peer_logins *l, size_t most)
{
	*l = (struct peer_logins){ 0 };
	pool_init(&l->pool, sizeof(struct peer_login), most);
}

static void
forget(struct peer_login_keys *k)
{
	secrets_put(k->secrets);
	explicit_bzero(k, sizeof *k);
}

void
peer_logins_fini(struct peer_logins *l)
{
	for (unsigned i = 0; i < PEER_LOGIN_KEYS; i++)
		forget(&l->kept[i]);
	pool_fini(&l->pool);
}

struct peer_login *
peer_login_new(struct peer_logins *l, void *owner, struct secrets *s, const struct secret *secret)
{
	struct peer_login *login = pool_get(&l->pool);

	if (login == NULL)
		return NULL;
	login->secrets = secrets_get(s);
	login->secret = secret;
	login->begun = false;
	login->owner = owner;
	return login;
}

static void
end(struct peer_login *login)
{
	if (login->begun)
		sasl_client_fini(&login->client);
	login->begun = false;
	explicit_bzero(login->answer, sizeof login->answer);
}

void
peer_login_free(struct peer_logins *l, struct peer_login *login)
{
	end(login);
	secrets_put(login->secrets);
	pool_put(&l->pool, login);
}

/* ---- the keys of SCRAM ---- */

static bool
recall(struct peer_logins *l, struct peer_login *login)
{
	for (unsigned i = 0; i < PEER_LOGIN_KEYS; i++) {
		if (l->kept[i].secrets == login->secrets && l->kept[i].secret == login->secret &&
		    sasl_client_recall(&login->client, &l->kept[i].keys))
			return true;
	}
	return false;
}

static void
keep(struct peer_logins *l, struct peer_login *login)
{
	struct peer_login_keys *k = &l->kept[l->next];
	struct sasl_keys keys;

	if (!sasl_client_keys(&login->client, &keys))
		return;
	l->next = (l->next + 1) % PEER_LOGIN_KEYS;
	forget(k);
	*k = (struct peer_login_keys){
		.secrets = secrets_get(login->secrets),
		.secret = login->secret,
		.keys = keys,
	};
	explicit_bzero(&keys, sizeof keys);
}

/* On a helper's thread. */
static void
work(struct helper_job *j)
{
	sasl_client_derive(&CONTAINER_OF(j, struct peer_login, job)->client, helpers_pause);
}

static void
on_done(struct helper_job *j)
{
	struct peer_login *login = CONTAINER_OF(j, struct peer_login, job);

	login->on_derived(login);
}

bool
peer_login_derive(struct peer_login *login, struct worker *w,
		  void (*on_derived)(struct peer_login *login))
{
	login->job = (struct helper_job){ .work = work, .on_done = on_done };
	login->on_derived = on_derived;
	return w->helpers != NULL && helpers_submit(w->helpers, w, &login->job);
}

void
peer_login_derive_here(struct peer_login *login)
{
	sasl_client_derive(&login->client, NULL);
}

static enum peer_login_step
go_on(struct peer_login *login, struct span *answer)
{
	struct buf out = buf_of(login->answer, sizeof login->answer);
	enum sasl_outcome outcome = sasl_client_derived(&login->client, &out);

	*answer = buf_span(&out);
	return outcome == SASL_CONTINUE ? PEER_LOGIN_SAYS : PEER_LOGIN_FAILS;
}

enum peer_login_step
peer_login_derived(struct peer_logins *l, struct peer_login *login, struct span *answer)
{
	keep(l, login);
	return go_on(login, answer);
}

/* ---- the exchange ---- */

static void
begin(struct peer_login *login, enum sasl_mechanism mechanism)
{
	uint8_t random[SASL_RANDOM_SIZE];

	for (size_t at = 0; at < sizeof random; at += sizeof(uint64_t)) {
		uint64_t bits = random_u64();
		size_t rest = sizeof random - at;
		memcpy(random + at, &bits, rest < sizeof bits ? rest : sizeof bits);
	}
	end(login);
	sasl_client_init(&login->client, mechanism, login->secret->user, login->secret->password,
			 random);
	login->begun = true;
}

enum peer_login_step
peer_login_answer(struct peer_logins *l, struct peer_login *login, const struct sender_auth *asked,
		  struct span *answer)
{
	struct buf out = buf_of(login->answer, sizeof login->answer);
	enum sasl_outcome outcome = SASL_CONTINUE;

	*answer = span_none();
	if (asked->first)
		begin(login, asked->mechanism);
	if (asked->over) {
		bool satisfied = sasl_client_is_satisfied(&login->client);
		end(login);
		return satisfied ? PEER_LOGIN_SAYS : PEER_LOGIN_FAILS;
	}
	if (!asked->first || sasl_client_speaks_first(asked->mechanism))
		outcome = sasl_client_step(&login->client, asked->data, &out);
	if (outcome == SASL_DERIVE)
		return recall(l, login) ? go_on(login, answer) : PEER_LOGIN_DERIVES;
	*answer = buf_span(&out);
	return outcome == SASL_CONTINUE ? PEER_LOGIN_SAYS : PEER_LOGIN_FAILS;
}
