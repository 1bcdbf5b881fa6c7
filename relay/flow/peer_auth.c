/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/peer_auth.h"

#include "core/metric.h"
#include "relay/flow/flow.h"

enum { WHY_MAX = 160 };

uint8_t
peer_auth_mechanisms(const struct peer_auth *a)
{
	if (a->entry.size == 0)
		return 0;
	return SASL_BIT(SASL_SCRAM_SHA_256) | SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN);
}

static bool
fail(struct peer_auth *a, const char *what)
{
	uint8_t memory[WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);

	buf_printf(&why, "the secret '%.*s' %s", SPAN_ARG(a->entry), what);
	a->on_failed(a, buf_span(&why));
	sender_auth_failed(a->sender);
	return true;
}

static bool
say(struct peer_auth *a, enum peer_login_step step, struct span answer)
{
	if (step != PEER_LOGIN_SAYS)
		return fail(a, "was asked for in a way that is not the mechanism's, or by one "
			       "that does not know it");
	sender_auth_answer(a->sender, answer);
	return true;
}

static void
on_derived(struct peer_login *login)
{
	struct peer_auth *a = login->owner;
	struct span answer;

	conn_unhold(a->conn);
	a->deriving = false;
	if (a->conn->state != CONN_OPEN)
		return;
	say(a, peer_login_derived(&a->flow->peer_logins, login, &answer), answer);
	a->on_answered(a);
}

bool
peer_auth_answer(struct peer_auth *a, const struct sender_auth *asked)
{
	struct peer_logins *logins = &a->flow->peer_logins;
	const struct secret *secret = secrets_find(a->secrets, a->entry);
	struct worker *w = a->flow->worker;
	struct span answer;

	if (secret == NULL)
		return fail(a, "is not in the file of secrets any more");
	if (a->login == NULL)
		a->login = peer_login_new(logins, a, a->secrets, secret);
	if (a->login == NULL)
		return fail(a, "cannot be used for want of memory");
	enum peer_login_step step = peer_login_answer(logins, a->login, asked, &answer);
	if (step != PEER_LOGIN_DERIVES)
		return say(a, step, answer);
	if (w->helpers == NULL) {
		peer_login_derive_here(a->login);
		return say(a, peer_login_derived(logins, a->login, &answer), answer);
	}
	conn_hold(a->conn);
	a->deriving = true;
	if (peer_login_derive(a->login, w, on_derived))
		return false;
	conn_unhold(a->conn);
	a->deriving = false;
	METRIC_ADD_LABEL(w->metrics, POOL_EXHAUSTED, LABEL_POOL_HELPER_JOBS, 1);
	return fail(a, "cannot be used now: the helpers are busy");
}

void
peer_auth_fini(struct peer_auth *a)
{
	if (a->login != NULL)
		peer_login_free(&a->flow->peer_logins, a->login);
	a->login = NULL;
}
