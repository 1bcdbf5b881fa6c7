/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/http.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"

enum {
	CONNECTIONS_MAX = 16,
	TIMEOUT_S = 10,
	WHY_MAX = 256,
};

struct http {
	struct MHD_Daemon *daemon;
	struct http_source source;
	int listener;
};

static enum MHD_Result
answer(struct MHD_Connection *connection, unsigned status, const char *type, const char *text,
       size_t size)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	enum MHD_Result result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result
answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", text, strlen(text));
}

static enum MHD_Result
answer_metrics(struct http *h, struct MHD_Connection *connection)
{
	char *memory = malloc(METRIC_TEXT_MAX);

	if (memory == NULL)
		return answer_text(connection, 503, "out of memory\n");
	struct buf text = buf_of(memory, METRIC_TEXT_MAX);
	h->source.before_metrics(h->source.context);
	bool fits = metric_render(h->source.blocks, h->source.block_count, &text);
	ASSERT(fits);
	enum MHD_Result result = answer(connection, 200, "text/plain; version=0.0.4; charset=utf-8",
					(const char *)text.data, text.size);
	free(memory);
	return result;
}

static enum MHD_Result
answer_ready(struct http *h, struct MHD_Connection *connection)
{
	uint64_t kept = h->source.kept_mails(h->source.context);
	enum err why = h->source.readiness(h->source.context);
	uint8_t memory[WHY_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	if (why == ERR_OK)
		buf_append_string(&text, "ready\n");
	else
		buf_printf(&text, "not taking mail: %s\n", err_text(why));
	if (kept > 0)
		buf_printf(&text, "not disposable: mails in the fallback spool: %llu\n",
			   (unsigned long long)kept);
	return answer(connection, why == ERR_OK ? 200 : 503, "text/plain; charset=utf-8",
		      (const char *)text.data, text.size);
}

static enum MHD_Result
on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
	   const char *version, const char *upload, size_t *upload_size, void **request)
{
	struct http *h = context;

	(void)version;
	(void)upload;
	(void)upload_size;
	(void)request;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return answer_text(connection, 405, "only GET\n");
	if (strcmp(url, "/metrics") == 0)
		return answer_metrics(h, connection);
	if (strcmp(url, "/healthz") == 0)
		return h->source.is_healthy(h->source.context)
			       ? answer_text(connection, 200, "ok\n")
			       : answer_text(connection, 503, "a worker does not turn\n");
	if (strcmp(url, "/readyz") == 0)
		return answer_ready(h, connection);
	return answer_text(connection, 404, "/metrics /healthz /readyz\n");
}

struct http *
http_start(const struct net_address *address, const struct http_source *source, struct buf *why)
{
	struct http *h = calloc(1, sizeof *h);

	if (h == NULL) {
		buf_append_string(why, "metrics: out of memory");
		return NULL;
	}
	h->source = *source;
	h->listener = net_listen(address, CONNECTIONS_MAX, false);
	if (h->listener < 0) {
		buf_append_string(why, "metrics: ");
		net_address_show(address, why);
		buf_printf(why, ": %s; use another address or port", strerror(-h->listener));
		free(h);
		return NULL;
	}
	h->daemon =
		/* Not select(), which it would take by itself: descriptors go far beyond 1023. */
		MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, h,
				 MHD_OPTION_LISTEN_SOCKET, h->listener, MHD_OPTION_CONNECTION_LIMIT,
				 (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				 (unsigned)TIMEOUT_S, MHD_OPTION_END);
	if (h->daemon == NULL) {
		buf_append_string(why, "metrics: the HTTP server does not start");
		net_close(h->listener);
		free(h);
		return NULL;
	}
	return h;
}

void
http_stop(struct http *h)
{
	if (h == NULL)
		return;
	MHD_stop_daemon(h->daemon); /* closes the listener too */
	free(h);
}
