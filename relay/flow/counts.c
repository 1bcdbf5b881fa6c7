/* SPDX-License-Identifier: Apache-2.0
 *
 * What is only counted of connections to next hops: events.h.
 */
#include "core/metric.h"
#include "relay/flow/channel.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

void
flow_event_channel_open(struct flow *f)
{
	METRIC_ADD(f->worker->metrics, DESTINATION_CONNECTIONS_OPENED, 1);
	METRIC_SET_LABEL(f->worker->metrics, CONNECTIONS, LABEL_SIDE_SEND, f->channel_count);
}

void
flow_event_channel_end(struct flow *f, enum close_reason reason)
{
	METRIC_ADD_LABEL(f->worker->metrics, CONNECTIONS_CLOSED, (unsigned)reason, 1);
	METRIC_SET_LABEL(f->worker->metrics, CONNECTIONS, LABEL_SIDE_SEND, f->channel_count);
}

void
flow_count_peer_timeout(struct flow *f, enum sender_phase phase, bool connecting)
{
	static const unsigned labels[SENDER_PHASE_COUNT] = {
		[SENDER_PHASE_GREETING] = LABEL_TIMEOUT_SEND_GREETING,
		[SENDER_PHASE_EHLO] = LABEL_TIMEOUT_SEND_HELLO,
		[SENDER_PHASE_HELO] = LABEL_TIMEOUT_SEND_HELLO,
		[SENDER_PHASE_STARTTLS] = LABEL_TIMEOUT_SEND_HELLO,
		[SENDER_PHASE_TLS] = LABEL_TIMEOUT_SEND_TLS,
		[SENDER_PHASE_AUTH] = LABEL_TIMEOUT_SEND_HELLO,
		[SENDER_PHASE_RSET] = LABEL_TIMEOUT_SEND_RESET,
		[SENDER_PHASE_MAIL] = LABEL_TIMEOUT_SEND_MAIL,
		[SENDER_PHASE_RCPT] = LABEL_TIMEOUT_SEND_RECIPIENT,
		[SENDER_PHASE_DATA] = LABEL_TIMEOUT_SEND_DATA,
		[SENDER_PHASE_BODY] = LABEL_TIMEOUT_SEND_BLOCK,
		[SENDER_PHASE_END] = LABEL_TIMEOUT_SEND_END,
		[SENDER_PHASE_IDLE] = LABEL_TIMEOUT_SEND_MAIL, /* about to send it */
	};
	unsigned label = connecting ? LABEL_TIMEOUT_SEND_CONNECT : labels[phase];

	METRIC_ADD_LABEL(f->worker->metrics, TIMEOUTS, label, 1);
	METRIC_ADD_LABEL(f->worker->metrics, DELIVERY_ERRORS, (unsigned)ERR_TIMEOUT, 1);
}

void
flow_refresh_gauges(struct flow *f)
{
	uint64_t busy = 0;
	uint64_t waiting = 0;

	for (struct list_node *n = list_first(&f->site_list); n != NULL;
	     n = list_next(&f->site_list, n)) {
		const struct site *s = LIST_ITEM(n, struct site, link);
		busy += s->channels + s->waiting.count > 0;
		waiting += s->waiting.count;
	}
	METRIC_SET(f->worker->metrics, DESTINATIONS, busy);
	METRIC_SET(f->worker->metrics, DESTINATION_WAITING, waiting);
}
