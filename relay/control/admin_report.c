/* SPDX-License-Identifier: Apache-2.0
 *
 * The command report send: what was counted for reports about TLS is sent before its time.
 */
#include "core/log.h"
#include "relay/control/control.h"

void
admin_run_report_send(struct admin_client *c)
{
	struct reports *r = &c->admin->control->reports;
	struct admin_reports_asked asked = { .waiting = reports_waiting(r) };
	uint8_t memory[ADMIN_WHO_MAX];
	struct buf who = buf_of(memory, sizeof memory);

	if (!c->admin->control->routing->config->tls_reports.enabled) {
		admin_refuse(c, ADMIN_REFUSED, "tls_reports.enabled is false");
		return;
	}
	admin_write_who(c, &who);
	event_tls_reports_asked(c->admin->worker->log,
				&(struct event_tls_reports_asked){
					.who = buf_span(&who),
					.why = c->request.texts[ADMIN_ARG_REASON],
				});
	reports_send_now(r);
	admin_object(c, ADMIN_SHAPE_reports_asked, &asked);
	admin_done(c);
}
