/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands sts list and sts refresh: policies of domains (MTA-STS) as the control thread keeps
 * them (policies.h).
 */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "relay/control/control.h"

enum { HOSTS_SHOWN_MAX = 2048, WHY_MAX = 600 };

static struct span
hosts_of(const struct sts_held *h, struct buf *out)
{
	for (unsigned i = 0; i < h->pattern_count; i++) {
		size_t mark = out->size;
		buf_append_string(out, i > 0 ? ", " : "");
		if (!buf_append(out, h->patterns[i])) {
			out->size = mark;
			break;
		}
	}
	return out->size > 0 ? buf_span(out) : span_none();
}

static uint64_t
since(uint64_t then_ms, uint64_t now_ms)
{
	return now_ms > then_ms ? now_ms - then_ms : 0;
}

/* `hosts`: memory for their text. */
static void
describe(const struct policy_entry *e, struct buf *hosts, struct admin_sts_policy *out)
{
	const struct worker *w = e->policies->worker;
	const struct sts_held *h = e->held;

	*out = (struct admin_sts_policy){
		.domain = e->domain,
		.again_in = since(w->now_ms, e->not_before_ms),
		.state = e->fetch != NULL || list_is_linked(&e->line) ? SPAN("fetching")
			 : h == NULL                                  ? SPAN("none")
			 : h->expires_at_ms > w->now_wall_ms          ? SPAN("valid")
								      : SPAN("expired"),
	};
	if (h == NULL)
		return;
	out->policy = h->id;
	out->mode = span_of_string(sts_mode_label(h->mode));
	out->mx = hosts_of(h, hosts);
	out->fetched_at = h->fetched_at_ms;
	out->age = since(h->fetched_at_ms, w->now_wall_ms);
	out->max_age = h->max_age_s * (uint64_t)1000;
	out->expires_at = h->expires_at_ms;
}

/* ---- sts list ---- */

static int
compare(struct span a, struct span b)
{
	size_t least = a.size < b.size ? a.size : b.size;
	int order = memcmp(a.data, b.data, least);

	return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int
by_domain(const void *left, const void *right)
{
	const struct policy_entry *const *a = left, *const *b = right;

	return compare((*a)->domain, (*b)->domain);
}

static bool
is_wanted(const struct admin_request *r, const struct policy_entry *e)
{
	if (request_has(r, ADMIN_ARG_OF) && !span_eq_nocase(e->domain, r->texts[ADMIN_ARG_OF]))
		return false;
	return !request_has(r, ADMIN_ARG_CURSOR) ||
	       compare(e->domain, r->texts[ADMIN_ARG_CURSOR]) > 0;
}

/* Those that are wanted, by domain; NULL: no memory. */
static const struct policy_entry **
gather(const struct admin_client *c, size_t *count)
{
	const struct policies *p = &c->admin->control->policies;
	size_t all = 0;

	for (struct list_node *n = list_first(&p->used); n != NULL; n = list_next(&p->used, n))
		all++;
	const struct policy_entry **entries = calloc(all + 1, sizeof(void *));
	if (entries == NULL)
		return NULL;
	*count = 0;
	for (struct list_node *n = list_first(&p->used); n != NULL; n = list_next(&p->used, n)) {
		struct policy_entry *e = LIST_ITEM(n, struct policy_entry, link);
		if (is_wanted(&c->request, e))
			entries[(*count)++] = e;
	}
	qsort(entries, *count, sizeof(void *), by_domain);
	return entries;
}

void
admin_run_sts_list(struct admin_client *c)
{
	const struct admin_request *r = &c->request;
	uint64_t limit =
		request_has(r, ADMIN_ARG_LIMIT) ? r->numbers[ADMIN_ARG_LIMIT] : PROTOCOL_ROWS;
	size_t count;
	const struct policy_entry **entries = gather(c, &count);

	if (entries == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	bool more = count > limit;
	count = more ? (size_t)limit : count;
	admin_object(c, ADMIN_SHAPE_page,
		     &(struct admin_page){
			     .cursor = more ? entries[count - 1]->domain : span_none(),
		     });
	admin_rows(c, "rows");
	for (size_t i = 0; i < count; i++) {
		uint8_t memory[HOSTS_SHOWN_MAX];
		struct buf hosts = buf_of(memory, sizeof memory);
		struct admin_sts_policy row;
		describe(entries[i], &hosts, &row);
		admin_row(c, ADMIN_SHAPE_sts_policy, &row);
	}
	admin_rows_end(c);
	free(entries);
	admin_done(c);
}

/* ---- sts refresh ---- */

struct refresh_run {
	struct policy_watch watch; /* first */
	struct admin_client *client;
};

static void
answer(struct admin_client *c, const struct policy_entry *e)
{
	uint8_t memory[HOSTS_SHOWN_MAX];
	struct buf hosts = buf_of(memory, sizeof memory);
	struct admin_sts_policy row;

	describe(e, &hosts, &row);
	admin_object(c, ADMIN_SHAPE_sts_policy, &row);
	admin_done(c);
}

static void
on_refreshed(struct policy_watch *w, enum policy_end end, const struct policy_entry *e,
	     struct span why)
{
	struct refresh_run *run = CONTAINER_OF(w, struct refresh_run, watch);
	struct admin_client *c = run->client;
	char text[WHY_MAX];

	free(run);
	switch (end) {
	case POLICY_FETCHED:
		answer(c, e);
		return;
	case POLICY_NO_RECORD:
		snprintf(text, sizeof text, "there is no record _mta-sts.%.*s that names a policy",
			 SPAN_ARG(e->domain));
		admin_refuse(c, ADMIN_NOT_FOUND, text);
		return;
	case POLICY_FAILED:
		snprintf(text, sizeof text, "%.*s; %s", SPAN_ARG(why),
			 e->held != NULL ? "the policy that was kept stays" : "none is kept");
		admin_refuse(c, ADMIN_REFUSED, text);
		return;
	case POLICY_GIVEN_UP:
		admin_refuse(c, e->policies->stopping ? ADMIN_SHUTTING_DOWN : ADMIN_NO_MEMORY,
			     NULL);
		return;
	}
}

void
admin_run_sts_refresh(struct admin_client *c)
{
	struct policies *p = &c->admin->control->policies;
	struct span asked = c->request.texts[ADMIN_ARG_OF];
	uint8_t domain_memory[DNS_NAME_MAX];
	struct span domain = span_of(domain_memory, asked.size);
	struct refresh_run *run = calloc(1, sizeof *run);
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	if (!c->admin->control->routing->config->sts.enabled) {
		free(run);
		admin_refuse(c, ADMIN_REFUSED, "sts.enabled is false");
		return;
	}
	ASSERT(asked.size > 0 && asked.size <= sizeof domain_memory);
	for (size_t i = 0; i < asked.size; i++)
		domain_memory[i] = ascii_lower(asked.data[i]);
	admin_write_who(c, &who);
	event_sts_refresh_asked(c->admin->worker->log,
				&(struct event_sts_refresh_asked){
					.domain = domain,
					.who = buf_span(&who),
					.why = c->request.texts[ADMIN_ARG_REASON],
				});
	run->client = c;
	run->watch.on_done = on_refreshed;
	if (policies_refresh(p, domain, &run->watch))
		return;
	free(run);
	admin_refuse(c, ADMIN_REFUSED, "that is no domain, or no policy can be fetched now");
}
