/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/login.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/helpers.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/quota.h"
#include "relay/flow/lockout.h"
#include "tls/tls.h"

#define LOGIN_MAGIC 0x4c4f474eU

struct login {
	uint32_t magic;
	struct session *session;
	enum sasl_mechanism mechanism;
	struct sasl_server sasl;
	struct users *users;     /* as they were when the name was told; NULL before */
	const struct user *user; /* of them; NULL: there is none of that name */
	struct sasl_verifier verifier;
	struct helper_job job;
	struct dovecot_question question;
	uint8_t address[64]; /* of the client, for the question */
	bool in_helper;
	bool fits;      /* what the helper found */
	bool forgotten; /* meanwhile nobody waits for it any more */
	bool late;      /* answered behind the step that asked */
	bool relays;    /* the exchange is Dovecot's: messages are passed through */
	struct timer delay;
	enum reply_row row; /* to be answered behind the delay */
	enum close_reason reason;
	struct buf challenge;
	uint8_t memory[SASL_MESSAGE_MAX];
};

static const struct config_users *
options_of(const struct session *s)
{
	return &s->flow->routing->config->users;
}

void
logins_init(struct flow *f, size_t count_max)
{
	pool_init(&f->logins.pool, sizeof(struct login), count_max);
	for (size_t i = 0; i < sizeof f->logins.key; i += sizeof(uint64_t)) {
		uint64_t random = random_u64();
		memcpy(f->logins.key + i, &random, sizeof random);
	}
}

void
logins_fini(struct flow *f)
{
	pool_fini(&f->logins.pool);
	if (f->logins.remembered != NULL)
		explicit_bzero(f->logins.remembered,
			       LOGIN_REMEMBERED * sizeof *f->logins.remembered);
	free(f->logins.remembered);
	explicit_bzero(f->logins.key, sizeof f->logins.key);
}

/* ---- the end ---- */

static void
drop(struct login *l)
{
	struct session *s = l->session;
	struct flow *f = s->flow;

	ASSERT(s->login == l && !l->in_helper);
	s->login = NULL;
	timer_stop(&f->worker->timers, &l->delay);
	dovecot_forget(&f->dovecot, &l->question);
	users_put(l->users);
	sasl_server_fini(&l->sasl);
	explicit_bzero(l, sizeof *l);
	pool_put(&f->logins.pool, l);
}

/* Answers the receiver, now or behind the delay; the login is over. */
static void
end(struct login *l, enum reply_row row, enum close_reason reason)
{
	struct session *s = l->session;
	struct receiver_answer a = { .row = row, .reason = reason };

	/* What came meanwhile came too early. Within the step itself login_begin() has asked. */
	a.input_waiting = l->late && conn_input(&s->conn).size > 0;
	drop(l);
	receiver_answer(&s->receiver, &a);
}

static void
on_delay(struct timer *t)
{
	struct login *l = CONTAINER_OF(t, struct login, delay);
	struct session *s = l->session;

	OBJ_CHECK(l, LOGIN_MAGIC);
	l->late = true;
	end(l, l->row, l->reason);
	conn_run(&s->conn);
}

static void
end_later(struct login *l, enum reply_row row, enum close_reason reason, uint64_t delay_ms)
{
	struct worker *w = l->session->flow->worker;

	l->row = row;
	l->reason = reason;
	timer_set(&w->timers, &l->delay, w->now_ms + delay_ms);
}

static void
succeed(struct login *l)
{
	struct session *s = l->session;

	ASSERT(l->user != NULL && !l->user->disabled && s->user == NULL);
	s->user = user_get(l->user);
	lockout_ok(s, l->user->name);
	enum reply_row row = quota_connect(s);
	if (row == REPLY_NONE) {
		flow_event_auth_ok(s->flow, s, l->mechanism);
		row = REPLY_AUTH_OK;
	}
	end(l, row, row == REPLY_AUTH_OK ? CLOSE_NONE : CLOSE_CONNECTION_LIMIT);
}

static void
unavailable(struct login *l)
{
	struct flow *f = l->session->flow;

	METRIC_ADD_LABEL(f->worker->metrics, AUTH_UNAVAILABLE, (unsigned)l->mechanism, 1);
	end(l, REPLY_AUTH_UNAVAILABLE, CLOSE_NONE);
}

/* Why its proof does not fit, for the log; the client is not told. */
static const char *
reason_of(const struct login *l)
{
	if (l->user == NULL)
		return "no such user";
	if (l->user->disabled)
		return "user is disabled";
	if (l->mechanism == SASL_EXTERNAL)
		return "certificate is not the user's any more";
	return l->user->has_verifier ? "wrong password" : "user has no password";
}

static void
keyed_hash(const struct login *l, const uint8_t *context, uint8_t out[SASL_HASH_SIZE])
{
	sasl_keyed_hash(l->session->flow->logins.key, sasl_server_name(&l->sasl),
			sasl_server_password(&l->sasl), context, out);
}

/* The same for the same name and password, on all workers; 0 where there is none. */
static uint64_t
attempt_of(const struct login *l)
{
	uint64_t key_seed = l->session->flow->key_seed;
	uint8_t key[SASL_HASH_SIZE] = { 0 };
	uint8_t hash[SASL_HASH_SIZE];
	uint64_t attempt = 0;

	if (sasl_server_password(&l->sasl).size == 0)
		return 0;
	memcpy(key, &key_seed, sizeof key_seed);
	sasl_keyed_hash(key, sasl_server_name(&l->sasl), sasl_server_password(&l->sasl), NULL,
			hash);
	memcpy(&attempt, hash, sizeof attempt);
	return attempt | 1;
}

static void
fail(struct login *l, const char *reason)
{
	struct session *s = l->session;

	flow_event_auth_failed(s->flow, s, l->mechanism, l->user, reason);
	uint64_t delay_ms = lockout_failed(s, sasl_server_name(&l->sasl), attempt_of(l));
	end_later(l, REPLY_AUTH_FAILED, CLOSE_NONE, delay_ms);
}

/* ---- passwords ---- */

static struct remembered *
place_of(struct flow *f, const uint8_t hash[SASL_HASH_SIZE])
{
	uint64_t number;

	memcpy(&number, hash + LOGIN_HASH_SIZE, sizeof number);
	return &f->logins.remembered[number % LOGIN_REMEMBERED];
}

static bool
is_remembered(const struct login *l)
{
	struct flow *f = l->session->flow;
	uint8_t hash[SASL_HASH_SIZE];

	if (f->logins.remembered == NULL)
		return false;
	keyed_hash(l, l->verifier.stored_key, hash);
	const struct remembered *r = place_of(f, hash);
	/* Who can make the hash equal has the password. */
	bool found = r->until_ms > f->worker->now_ms && memcmp(r->hash, hash, sizeof r->hash) == 0;
	explicit_bzero(hash, sizeof hash);
	METRIC_ADD(f->worker->metrics, PASSWORDS_REMEMBERED, found ? 1 : 0);
	return found;
}

static void
remember(const struct login *l)
{
	struct flow *f = l->session->flow;
	uint64_t keep_ms = options_of(l->session)->remember_ms;
	uint8_t hash[SASL_HASH_SIZE];

	if (keep_ms == 0)
		return;
	if (f->logins.remembered == NULL)
		f->logins.remembered = calloc(LOGIN_REMEMBERED, sizeof *f->logins.remembered);
	if (f->logins.remembered == NULL)
		return;
	keyed_hash(l, l->verifier.stored_key, hash);
	struct remembered *r = place_of(f, hash);
	memcpy(r->hash, hash, sizeof r->hash);
	r->until_ms = f->worker->now_ms + keep_ms;
	explicit_bzero(hash, sizeof hash);
}

/* On a helper thread: touches the login alone. */
static void
check(struct helper_job *j)
{
	struct login *l = CONTAINER_OF(j, struct login, job);

	l->fits = sasl_verifier_check(&l->verifier, sasl_server_password(&l->sasl), helpers_pause);
}

static void
on_checked(struct helper_job *j)
{
	struct login *l = CONTAINER_OF(j, struct login, job);
	struct session *s = l->session;

	OBJ_CHECK(l, LOGIN_MAGIC);
	l->in_helper = false;
	l->late = true;
	if (l->forgotten || s->conn.state != CONN_OPEN) {
		drop(l);
	} else if (l->fits && l->user != NULL && l->user->has_verifier && !l->user->disabled) {
		remember(l);
		succeed(l);
		conn_run(&s->conn);
	} else {
		fail(l, reason_of(l));
	}
	conn_unhold(&s->conn);
}

static void
check_password(struct login *l)
{
	struct session *s = l->session;
	struct worker *w = s->flow->worker;

	if (l->user != NULL && l->user->has_verifier && !l->user->disabled && is_remembered(l)) {
		succeed(l);
		return;
	}
	l->job = (struct helper_job){
		.work = check,
		.on_done = on_checked,
		.party = (uint32_t)s->limit_key,
	};
	if (w->helpers == NULL || !helpers_submit(w->helpers, w, &l->job)) {
		METRIC_ADD_LABEL(w->metrics, POOL_EXHAUSTED, LABEL_POOL_HELPER_JOBS, 1);
		unavailable(l);
		return;
	}
	METRIC_ADD(w->metrics, PASSWORDS_CHECKED, 1);
	l->in_helper = true;
	conn_hold(&s->conn);
}

/* ---- Dovecot ---- */

/* Who it is there has the rights of the file, where it stands in the file, too. */
static void
adopt_user(struct login *l, struct span name)
{
	const struct user *listed = users_find(l->users, name);

	l->user = listed;
	if (listed != NULL)
		return;
	l->user = user_alone(name);
	if (l->user == NULL)
		return;
	users_put(l->users);
	l->users = l->user->users;
}

static void
on_dovecot_answer(struct dovecot_question *q, enum dovecot_answer answer, struct span user)
{
	struct login *l = CONTAINER_OF(q, struct login, question);
	struct session *s = l->session;

	OBJ_CHECK(l, LOGIN_MAGIC);
	l->late = true;
	if (answer == DOVECOT_FITS)
		adopt_user(l, user);
	if (answer == DOVECOT_UNAVAILABLE || (answer == DOVECOT_FITS && l->user == NULL))
		unavailable(l);
	else if (answer == DOVECOT_DISABLED || l->user == NULL || answer == DOVECOT_WRONG)
		fail(l, answer == DOVECOT_DISABLED ? "user is disabled" : "refused by Dovecot");
	else if (l->user->disabled)
		fail(l, "user is disabled");
	else
		succeed(l);
	conn_run(&s->conn);
}

static void say(struct login *l);

static void
on_dovecot_challenge(struct dovecot_question *q, struct span challenge)
{
	struct login *l = CONTAINER_OF(q, struct login, question);
	struct session *s = l->session;

	OBJ_CHECK(l, LOGIN_MAGIC);
	l->late = true;
	l->challenge = buf_of(l->memory, sizeof l->memory);
	buf_append(&l->challenge, challenge);
	say(l);
	conn_run(&s->conn);
}

/* `message`: the client's first one of an exchange; no data: name and password are known. */
static void
ask_dovecot(struct login *l, struct span message)
{
	struct session *s = l->session;
	struct buf address = buf_of(l->address, sizeof l->address);
	struct buf kept = buf_of(l->memory, sizeof l->memory);

	net_address_show_ip(&s->peer, &address);
	l->relays = message.data != NULL;
	if (l->relays)
		buf_append(&kept, message);
	ASSERT(!kept.overflow);
	l->question = (struct dovecot_question){
		.name = sasl_server_name(&l->sasl),
		.password = sasl_server_password(&l->sasl),
		.message = l->relays ? buf_span(&kept) : span_none(),
		.address = s->peer.size > 0 ? buf_span(&address) : span_none(),
		.on_answer = on_dovecot_answer,
		.on_challenge = on_dovecot_challenge,
	};
	dovecot_ask(&s->flow->dovecot, &l->question);
}

static bool
has_dovecot(const struct login *l)
{
	return config_names_file(options_of(l->session)->dovecot);
}

unsigned
login_withheld(struct flow *f)
{
	unsigned scram = SASL_BIT(SASL_SCRAM_SHA_256);

	if (!config_names_file(f->routing->config->users.dovecot))
		return 0;
	return scram & ~dovecot_mechanisms(&f->dovecot);
}

/* ---- certificates ---- */

bool
login_by_certificate(struct session *s)
{
	const struct user *u;
	struct tls_facts facts;

	tls_facts(conn_layer(&s->conn), &facts);
	if (!facts.has_certificate)
		return false;
	u = users_find_certificate(s->flow->routing->users, facts.fingerprint);
	if (u == NULL || u->disabled)
		return false;
	s->certified = user_get(u);
	return true;
}

/* ---- the exchange ---- */

/* The name is known: whose is it, and may it try? False: it was answered. */
static bool
identify(struct login *l)
{
	struct session *s = l->session;
	struct span name = sasl_server_name(&l->sasl);

	l->users = users_get(s->flow->routing->users);
	l->user = users_find(l->users, name);
	if (l->user != NULL && l->user->has_verifier && !l->user->disabled)
		l->verifier = l->user->verifier;
	else
		users_fake(l->users, name, &l->verifier);
	struct lockout_answer judged = lockout_judge(s, name);
	if (judged.row == REPLY_NONE)
		return true;
	flow_event_auth_failed(s->flow, s, l->mechanism, l->user, "locked out");
	end_later(l, judged.row, judged.reason, judged.delay_ms);
	return false;
}

static void
say(struct login *l)
{
	struct receiver_answer a = {
		.row = REPLY_AUTH_CONTINUE,
		.challenge = buf_span(&l->challenge),
	};

	/* As in end(). */
	a.input_waiting = l->late && conn_input(&l->session->conn).size > 0;
	receiver_answer(&l->session->receiver, &a);
}

static bool
has_certificate(const struct login *l)
{
	struct tls_facts facts;

	tls_facts(conn_layer(&l->session->conn), &facts);
	return facts.has_certificate &&
	       users_find_certificate(l->users, facts.fingerprint) == l->user;
}

static void
step(struct login *l, bool has_data, struct span data)
{
	l->challenge = buf_of(l->memory, sizeof l->memory);
	switch (sasl_server_step(&l->sasl, has_data, data, &l->challenge)) {
	case SASL_CONTINUE:
		say(l);
		break;
	case SASL_LOOKUP:
		if (!identify(l))
			break;
		if (has_dovecot(l)) {
			ask_dovecot(l, data);
			break;
		}
		sasl_server_verifier(&l->sasl, &l->verifier, &l->challenge);
		say(l);
		break;
	case SASL_CHECK:
		if (!identify(l))
			break;
		if (has_dovecot(l))
			ask_dovecot(l, span_none());
		else
			check_password(l);
		break;
	case SASL_OK:
		if (l->users == NULL && !identify(l))
			break;
		/* SCRAM has proven it; a certificate is looked at in the newest file. */
		if (l->user != NULL && !l->user->disabled &&
		    (l->mechanism != SASL_EXTERNAL || has_certificate(l)))
			succeed(l);
		else
			fail(l, reason_of(l));
		break;
	case SASL_WRONG:
		if (l->users != NULL)
			fail(l, reason_of(l));
		else if (identify(l))
			fail(l, "a name or password that cannot be one, or two names");
		break;
	default:
		end(l, REPLY_BAD_BASE64, CLOSE_NONE);
		break;
	}
}

static void
pass_on(struct login *l, struct span data)
{
	if (data.size > SASL_MESSAGE_MAX)
		end(l, REPLY_BAD_BASE64, CLOSE_NONE);
	else
		dovecot_go_on(&l->session->flow->dovecot, &l->question, data);
}

/* Whoever goes on without waiting for the answer is not asked further (receiver.h). */
static bool
is_too_early(struct session *s, bool input_waiting)
{
	struct receiver_answer a = { .row = REPLY_AUTH_UNAVAILABLE, .input_waiting = true };

	if (!input_waiting)
		return false;
	if (s->login != NULL)
		drop(s->login);
	receiver_answer(&s->receiver, &a);
	return true;
}

static void
wipe(const struct receiver_action *a)
{
	/* It points into memory of the action's. */
	if (a->data.size > 0)
		explicit_bzero((void *)(uintptr_t)a->data.data, a->data.size);
}

void
login_begin(struct session *s, const struct receiver_action *a, bool input_waiting)
{
	struct flow *f = s->flow;
	uint64_t random[3] = { random_u64(), random_u64(), random_u64() };

	ASSERT(s->login == NULL && s->user == NULL);
	_Static_assert(sizeof random >= SASL_RANDOM_SIZE, "of a nonce");
	if (is_too_early(s, input_waiting))
		return;
	struct login *l = pool_get(&f->logins.pool);
	if (l == NULL) {
		struct receiver_answer full = { .row = REPLY_AUTH_UNAVAILABLE };
		METRIC_ADD_LABEL(f->worker->metrics, POOL_EXHAUSTED, LABEL_POOL_LOGINS, 1);
		METRIC_ADD_LABEL(f->worker->metrics, AUTH_UNAVAILABLE, (unsigned)a->mechanism, 1);
		receiver_answer(&s->receiver, &full);
	} else {
		memset(l, 0, sizeof *l);
		OBJ_INIT(l, LOGIN_MAGIC);
		l->session = s;
		l->mechanism = a->mechanism;
		timer_init(&l->delay, on_delay);
		sasl_server_init(&l->sasl, a->mechanism,
				 s->certified == NULL ? span_none() : s->certified->name,
				 (const uint8_t *)random);
		s->login = l;
		step(l, a->has_data, a->data);
	}
	wipe(a);
}

void
login_go_on(struct session *s, const struct receiver_action *a, bool input_waiting)
{
	ASSERT(s->login != NULL);
	OBJ_CHECK(s->login, LOGIN_MAGIC);
	bool goes_on = !is_too_early(s, input_waiting);
	if (goes_on)
		s->login->late = false;
	if (goes_on && s->login->relays)
		pass_on(s->login, a->data);
	else if (goes_on)
		step(s->login, true, a->data);
	wipe(a);
}

void
login_cancel(struct session *s)
{
	if (s->login == NULL)
		return;
	OBJ_CHECK(s->login, LOGIN_MAGIC);
	if (s->login->in_helper)
		s->login->forgotten = true; /* on_checked drops it */
	else
		drop(s->login);
}
