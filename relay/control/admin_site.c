/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands about sites: list, show, suspend, resume, and explain, which ends at one. Workers
 * report their parts (relay/flow/report.h); here they become wholes.
 */
#include "relay/control/admin_site.h"

#include <stdlib.h>

#include "relay/control/control.h"

enum { ADDRESS_MAX = 128 };

/* ---- asking ---- */

struct site_part {
	struct report_set set;
	uint32_t cursor;
	bool no_memory;
};

struct site_run {
	struct ask ask; /* first */
	struct admin_client *client;
	void (*on_reports)(struct admin_client *c, const struct report_set *r);
	struct ask_part ask_parts[WORKERS_MAX];
	struct site_part parts[WORKERS_MAX];
};

static enum ask_step
report_slice(struct ask_part *ask_part, uint64_t slice_us)
{
	struct site_run *run = CONTAINER_OF(ask_part->ask, struct site_run, ask);
	struct site_part *p = &run->parts[ask_part->worker];
	bool more = report_sites(ask_worker(ask_part)->flow, &p->cursor, slice_us, &p->set,
				 &p->no_memory);

	return more && !p->no_memory && !ask_is_cancelled(ask_part) ? ASK_MORE : ASK_DONE;
}

/* All parts into that of the first worker. False: no memory. */
static bool
join(struct site_run *run, unsigned workers)
{
	struct site_part *all = &run->parts[0];
	bool joined = !all->no_memory;

	for (unsigned w = 1; w < workers; w++) {
		const struct site_part *part = &run->parts[w];
		all->set.more = all->set.more || part->set.more;
		joined = joined && !part->no_memory;
		for (size_t i = 0; i < part->set.count && joined; i++)
			joined = report_set_add(&all->set, part->set.reports[i]);
		for (unsigned i = 0; i < part->set.host_count && joined; i++)
			joined = report_set_add_host(&all->set, &part->set.hosts[i]);
	}
	return joined;
}

static void
on_reported(struct ask *a)
{
	struct site_run *run = CONTAINER_OF(a, struct site_run, ask);
	struct admin_client *c = run->client;
	unsigned workers = admin_workers(c);

	if (admin_asked(c)) {
		if (join(run, workers))
			run->on_reports(c, &run->parts[0].set);
		else
			admin_refuse(c, ADMIN_NO_MEMORY, NULL);
	}
	for (unsigned w = 0; w < workers; w++)
		report_set_fini(&run->parts[w].set);
	free(run);
}

void
admin_ask_sites(struct admin_client *c, struct span after, struct span only, size_t wanted,
		void (*on_reports)(struct admin_client *c, const struct report_set *r))
{
	struct site_run *run = calloc(1, sizeof *run);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->on_reports = on_reports;
	run->ask = (struct ask){
		.on_slice = report_slice,
		.on_done = on_reported,
		.parts = run->ask_parts,
	};
	for (unsigned w = 0; w < admin_workers(c); w++)
		report_set_init(&run->parts[w].set, after, only, wanted);
	admin_ask(c, &run->ask, 0, admin_workers(c));
}

/* ---- words ---- */

static struct span
state_word(const struct site_report *r)
{
	if (r->suspended)
		return SPAN("suspended");
	if (r->hosts > 0 && r->hosts_failed == r->hosts)
		return SPAN("down");
	return r->connections > 0 || r->waiting > 0 ? SPAN("up") : SPAN("idle");
}

static struct admin_site
site_shape(const struct admin_client *c, const struct site_report *r)
{
	const struct suspended_site *suspended =
		suspended_find(&c->admin->suspended, report_name(r));
	bool failed = r->failure.at_ms != 0;

	return (struct admin_site){
		.name = report_name(r),
		.state = state_word(r),
		.connections = r->connections,
		.busy = r->busy,
		.limit = r->limit,
		.limit_by = span_of(r->source, r->source_size),
		.rate = r->rate,
		.waiting = r->waiting,
		.host_count = r->hosts,
		.hosts_failed = r->hosts_failed,
		.home = r->home,
		.again_in = r->down_ms,
		.suspended_until = suspended != NULL ? suspended->until_ms : 0,
		.failed_at = r->failure.at_ms,
		.failure = failed ? span_of(r->failure.text, r->failure.size) : span_none(),
	};
}

void
admin_write_hosts(struct admin_client *c, const struct report_set *r)
{
	admin_rows(c, "hosts");
	for (unsigned i = 0; i < r->host_count; i++) {
		const struct host_report *host = &r->hosts[i];
		uint8_t memory[ADDRESS_MAX];
		struct buf address = buf_of(memory, sizeof memory);
		net_address_show(&host->address, &address);
		admin_row(c, ADMIN_SHAPE_host,
			  &(struct admin_host){
				  .address = buf_span(&address),
				  .name = host->name_size > 0 ? span_of(host->name, host->name_size)
							      : span_none(),
				  .secure = host->secure,
				  .state = host->again_ms > 0      ? SPAN("failed")
					   : host->connections > 0 ? SPAN("up")
								   : SPAN("idle"),
				  .connections = host->connections,
				  .failures = host->failures,
				  .again_in = host->again_ms,
			  });
	}
	admin_rows_end(c);
}

/* ---- site list, site show ---- */

static void
answer_list(struct admin_client *c, const struct report_set *r)
{
	struct admin_page page = { 0 };

	if (r->more && r->count > 0)
		page.cursor = report_name(r->reports[r->count - 1]);
	admin_object(c, ADMIN_SHAPE_page, &page);
	admin_rows(c, "rows");
	for (size_t i = 0; i < r->count; i++) {
		struct admin_site site = site_shape(c, r->reports[i]);
		admin_row(c, ADMIN_SHAPE_site, &site);
	}
	admin_rows_end(c);
	admin_done(c);
}

void
admin_run_site_list(struct admin_client *c)
{
	const struct admin_request *r = &c->request;
	size_t limit = request_has(r, ADMIN_ARG_LIMIT) ? (size_t)r->numbers[ADMIN_ARG_LIMIT]
						       : PROTOCOL_ROWS;

	admin_ask_sites(c, r->texts[ADMIN_ARG_CURSOR], span_none(), limit, answer_list);
}

static void
answer_show(struct admin_client *c, const struct report_set *r)
{
	if (r->count == 0) {
		admin_refuse(c, ADMIN_NOT_FOUND, "there is no such site; site list shows them");
		return;
	}
	struct admin_site site = site_shape(c, r->reports[0]);
	admin_object(c, ADMIN_SHAPE_site, &site);
	admin_write_hosts(c, r);
	admin_done(c);
}

void
admin_run_site_show(struct admin_client *c)
{
	admin_ask_sites(c, span_none(), c->request.texts[ADMIN_ARG_NAME], 1, answer_show);
}
