/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/control/web.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/file.h"

enum {
	BELL_RING_ENTRIES = 8,
	IDLE_MS = 60 * 1000, /* it is woken up for anything that is to be done */
	RESOLVE_SIZE = 1280,
};

struct web {
	struct worker *control;
	CURLM *multi;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_barrier_t opened;
	struct list submitted; /* struct web_job.link; under the lock, as the two below */
	bool ending;
	bool cut;
	struct list running; /* requests; the thread's */
	struct ring *ring;   /* for bells alone; made on the thread */
	struct buf *why;     /* of the start */
	unsigned under_way;  /* the control thread's */
};

/* ---- results ---- */

static void
on_message(struct message *m, void *context)
{
	struct web_job *j = CONTAINER_OF(m, struct web_job, message);

	(void)context;
	ASSERT(j->web->under_way > 0);
	j->web->under_way--;
	j->on_done(j);
}

static void
tell(struct web_job *j, enum web_outcome outcome)
{
	struct web *w = j->web;

	j->outcome = outcome;
	j->message.on_message = on_message;
	/* From here on the job is the control thread's again. */
	if (mailbox_post(&w->control->mailbox, &j->message)) {
		ring_bell(w->ring, w->control->ring);
		ring_wait(w->ring, 0);
	}
}

static void
explain(struct web_job *j, const char *what, const char *why)
{
	snprintf(j->why, sizeof j->why, "%s%s%s", what, why[0] == '\0' ? "" : ": ", why);
}

/* ---- files ---- */

static void
save(struct web_job *j)
{
	bool written = file_replace(j->path, j->body);

	if (!written)
		explain(j, j->path, strerror(errno));
	tell(j, written ? WEB_OK : WEB_FAILED);
}

/* ---- requests ---- */

static size_t
on_text(char *data, size_t one, size_t size, void *context)
{
	struct web_job *j = context;

	/* What is not taken whole ends the request. */
	return buf_append(&j->text, span_of(data, one * size)) ? one * size : 0;
}

/* "+host:port:address,address": believed for as long as the request, about. */
static struct curl_slist *
list_addresses(const struct web_job *j)
{
	char memory[RESOLVE_SIZE + 1];
	struct buf text = buf_of(memory, RESOLVE_SIZE);

	buf_printf(&text, "+%s:%u:", j->host, (unsigned)j->port);
	for (unsigned i = 0; i < j->address_count; i++) {
		uint8_t ip[16];
		bool is_v6 = net_address_ip(&j->addresses[i], ip) == sizeof ip;
		buf_append_string(&text, i > 0 ? "," : "");
		buf_append_string(&text, is_v6 ? "[" : "");
		net_address_show_ip(&j->addresses[i], &text);
		buf_append_string(&text, is_v6 ? "]" : "");
	}
	if (text.overflow)
		return NULL;
	memory[text.size] = '\0';
	return curl_slist_append(NULL, memory);
}

static bool
set_options(struct web_job *j)
{
	CURL *e = j->easy;
	bool good = true;

#define SET(option, value) good &= curl_easy_setopt(e, CURLOPT_##option, value) == CURLE_OK
	SET(URL, j->url);
	SET(PRIVATE, (char *)j);
	SET(RESOLVE, (struct curl_slist *)j->resolve);
	SET(PROTOCOLS_STR, "https");
	SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(SSL_VERIFYPEER, 1L);
	SET(SSL_VERIFYHOST, 2L);
	if (j->ca_file != NULL)
		SET(CAINFO, j->ca_file);
	SET(FOLLOWLOCATION, 0L);
	SET(PROXY, "");
	SET(NOSIGNAL, 1L);
	SET(FRESH_CONNECT, 1L);
	SET(FORBID_REUSE, 1L);
	SET(TIMEOUT_MS, (long)j->timeout_ms);
	SET(CONNECTTIMEOUT_MS, (long)j->timeout_ms);
	SET(USERAGENT, "Ringpost/" RINGPOST_VERSION);
	SET(ERRORBUFFER, j->error);
	SET(WRITEFUNCTION, on_text);
	SET(WRITEDATA, (void *)j);
	if (j->kind == WEB_POST) {
		char type[WEB_TYPE_MAX + 16];
		snprintf(type, sizeof type, "Content-Type: %s", j->content_type);
		j->headers = curl_slist_append(NULL, type);
		good &= j->headers != NULL;
		SET(POST, 1L);
		SET(POSTFIELDS, (const char *)j->body.data);
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)j->body.size);
		SET(HTTPHEADER, (struct curl_slist *)j->headers);
	}
#undef SET
	return good;
}

static void
drop_request(struct web_job *j)
{
	curl_easy_cleanup(j->easy);
	curl_slist_free_all(j->headers);
	curl_slist_free_all(j->resolve);
	j->easy = j->headers = j->resolve = NULL;
}

static void
begin_request(struct web *w, struct web_job *j)
{
	j->easy = curl_easy_init();
	j->resolve = list_addresses(j);
	j->headers = NULL;
	j->error[0] = '\0';
	if (j->easy != NULL && j->resolve != NULL && set_options(j) &&
	    curl_multi_add_handle(w->multi, j->easy) == CURLM_OK) {
		list_append(&w->running, &j->link);
		return;
	}
	drop_request(j);
	explain(j, "no memory for the request", "");
	tell(j, WEB_FAILED);
}

static enum web_outcome
outcome_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return WEB_OK;
	case CURLE_OPERATION_TIMEDOUT:
		return WEB_TIMED_OUT;
	case CURLE_WRITE_ERROR:
	case CURLE_FILESIZE_EXCEEDED:
		return WEB_TOO_BIG;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return WEB_BAD_CERTIFICATE;
	case CURLE_OUT_OF_MEMORY:
		return WEB_FAILED;
	default:
		return WEB_UNREACHABLE;
	}
}

static void
end_request(struct web *w, struct web_job *j, CURLcode code)
{
	enum web_outcome outcome = outcome_of(code);
	const char *type = NULL;
	long status = 0;

	curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(j->easy, CURLINFO_CONTENT_TYPE, &type);
	j->status = (unsigned)status;
	snprintf(j->content_type_in, sizeof j->content_type_in, "%s", type == NULL ? "" : type);
	if (outcome == WEB_TOO_BIG)
		explain(j, "the answer is too big", "");
	else if (outcome != WEB_OK)
		explain(j, j->error[0] != '\0' ? j->error : curl_easy_strerror(code), "");
	curl_multi_remove_handle(w->multi, j->easy);
	list_unlink(&j->link);
	drop_request(j);
	tell(j, outcome);
}

/* ---- the thread ---- */

static void
begin(struct web *w, struct web_job *j, bool cut)
{
	if (j->kind == WEB_SAVE) {
		save(j);
	} else if (cut) {
		explain(j, "the relay is shutting down", "");
		tell(j, WEB_FAILED);
	} else {
		begin_request(w, j);
	}
}

static void
cut_requests(struct web *w)
{
	struct list_node *n;

	while ((n = list_shift(&w->running)) != NULL) {
		struct web_job *j = LIST_ITEM(n, struct web_job, link);
		curl_multi_remove_handle(w->multi, j->easy);
		drop_request(j);
		explain(j, "the relay is shutting down", "");
		tell(j, WEB_FAILED);
	}
}

/* False: it is to end. */
static bool
take_submitted(struct web *w)
{
	struct list jobs;
	struct list_node *n;

	list_init(&jobs);
	pthread_mutex_lock(&w->lock);
	list_take_all(&jobs, &w->submitted);
	bool cut = w->cut;
	bool ending = w->ending;
	pthread_mutex_unlock(&w->lock);
	while ((n = list_shift(&jobs)) != NULL)
		begin(w, LIST_ITEM(n, struct web_job, link), cut);
	if (cut)
		cut_requests(w);
	return !ending;
}

static void
run_requests(struct web *w)
{
	CURLMsg *m;
	int running, left;

	curl_multi_perform(w->multi, &running);
	while ((m = curl_multi_info_read(w->multi, &left)) != NULL) {
		char *job = NULL;
		CURLcode code = m->data.result;
		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &job);
		end_request(w, (struct web_job *)(void *)job, code);
	}
}

static void *
run(void *argument)
{
	struct web *w = argument;
	struct ring_options options = { .entries = BELL_RING_ENTRIES };

	w->ring = ring_new(&options, w->why);
	bool opened = w->ring != NULL;
	pthread_barrier_wait(&w->opened); /* from here on web_start may be over */
	while (opened && take_submitted(w)) {
		run_requests(w);
		curl_multi_poll(w->multi, NULL, 0, IDLE_MS, NULL);
	}
	if (opened)
		ring_free(w->ring);
	return NULL;
}

/* ---- the control thread ---- */

static void
free_web(struct web *w)
{
	if (w->multi != NULL)
		curl_multi_cleanup(w->multi);
	curl_global_cleanup();
	pthread_barrier_destroy(&w->opened);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

struct web *
web_start(struct worker *control, struct buf *why)
{
	struct web *w = calloc(1, sizeof *w);

	if (w == NULL)
		return NULL;
	w->control = control;
	w->why = why;
	list_init(&w->submitted);
	list_init(&w->running);
	pthread_mutex_init(&w->lock, NULL);
	pthread_barrier_init(&w->opened, NULL, 2);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		w->multi = curl_multi_init();
	if (w->multi == NULL || pthread_create(&w->thread, NULL, run, w) != 0) {
		buf_append_string(why, "no thread for HTTPS: raise the limit of processes "
				       "(LimitNPROC=) or of memory");
		free_web(w);
		return NULL;
	}
	pthread_barrier_wait(&w->opened);
	if (why->size == 0)
		return w;
	pthread_join(w->thread, NULL);
	free_web(w);
	return NULL;
}

static void
wake(struct web *w)
{
	curl_multi_wakeup(w->multi);
}

void
web_stop(struct web *w)
{
	if (w == NULL)
		return;
	ASSERT(w->under_way == 0);
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_mutex_unlock(&w->lock);
	wake(w);
	pthread_join(w->thread, NULL);
	free_web(w);
}

bool
web_submit(struct web *w, struct web_job *j)
{
	ASSERT(j->on_done != NULL);
	ASSERT(j->kind == WEB_SAVE || (j->address_count > 0 && j->timeout_ms > 0));
	if (w->under_way == WEB_JOBS_MAX || !mailbox_reserve(&w->control->mailbox, 1))
		return false;
	j->web = w;
	j->status = 0;
	j->why[0] = j->content_type_in[0] = '\0';
	w->under_way++;
	pthread_mutex_lock(&w->lock);
	list_append(&w->submitted, &j->link);
	pthread_mutex_unlock(&w->lock);
	wake(w);
	return true;
}

void
web_cut(struct web *w)
{
	pthread_mutex_lock(&w->lock);
	w->cut = true;
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

unsigned
web_under_way(const struct web *w)
{
	return w->under_way;
}
