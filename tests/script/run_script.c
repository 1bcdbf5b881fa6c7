/* SPDX-License-Identifier: Apache-2.0
 *
 * Plays scripts against the pure receiver, cut in every way (README.md). The outcome of the whole
 * run is held against the script, and every other run against the whole one.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "tests/script/script.h"

enum { LONG_SCRIPT = 3000, LONG_STEPS = 40, STEPS_MAX = 10000000 };

/* How the input is cut, and whether questions wait. */
struct cutting {
	size_t chunk; /* bytes handed over at a time; 0 is a whole group */
	size_t split; /* offset at which a group is cut in two; 0 is nowhere */
	bool late;
};

/* All that can be seen from outside. */
struct outcome {
	struct text replies;
	struct text events;  /* a line each */
	struct text bodies;  /* every BODY byte */
	struct text commits; /* end of each committed body in `bodies`: pairs of size_t */
	size_t lines_after[SCRIPT_GROUPS_MAX];
	enum close_reason close;
	const char *wrong; /* a broken promise of the receiver */
};

struct run {
	const struct script *script;
	struct cutting cutting;
	struct outcome *outcome;
	struct receiver receiver;
	size_t group_end; /* of the group being sent */
	size_t consumed;
	size_t body_start; /* in outcome.bodies */
	uint64_t body_given;
	bool body_refused;
};

static const struct script_policy *
policy_for(const struct script *s, const char *question, struct span argument)
{
	for (size_t i = 0; i < s->policy_count; i++) {
		const struct script_policy *p = &s->policies[i];
		struct span wanted = text_span(&p->argument);
		if (strcmp(p->question, question) == 0 &&
		    (span_eq(wanted, SPAN("*")) || span_eq(wanted, argument)))
			return p;
	}
	return NULL;
}

static struct span
path_text(const struct address *path, struct buf *out)
{
	address_show(path, out);
	return buf_span(out);
}

static void
show_mail(struct text *t, const struct receiver_action *action)
{
	static const char *const bodies[] = { "", " body=7bit", " body=8bitmime" };
	static const char *const rets[] = { "", " ret=full", " ret=hdrs" };
	const struct mail_params *mail = &action->mail;

	if (mail->size > 0)
		text_printf(t, " size=%llu", (unsigned long long)mail->size);
	text_printf(t, "%s%s%s", bodies[mail->body], mail->smtputf8 ? " smtputf8" : "",
		    rets[mail->ret]);
	if (mail->envid.size > 0)
		text_printf(t, " envid=%.*s", SPAN_ARG(mail->envid));
	if (mail->require_tls)
		text_printf(t, " requiretls");
}

static void
show_rcpt(struct text *t, const struct receiver_action *action)
{
	static const char *const names[] = { "never", "success", "failure", "delay" };
	const char *before = " notify=";

	for (unsigned i = 0; i < 4; i++) {
		if (action->rcpt.notify & 1U << i) {
			text_printf(t, "%s%s", before, names[i]);
			before = ",";
		}
	}
	if (action->rcpt.orcpt.size > 0)
		text_printf(t, " orcpt=%.*s", SPAN_ARG(action->rcpt.orcpt));
}

/* "auth PLAIN", "auth PLAIN data", "auth PLAIN =" for nothing that was said; "auth data". */
static const char *
show_auth(struct run *run, const struct receiver_action *action, struct buf *argument)
{
	struct text *t = &run->outcome->events;
	bool begins = action->kind == RECEIVER_ASK_AUTH;

	text_append(t, SPAN("auth"));
	if (begins) {
		text_append(t, SPAN(" "));
		text_append(t, sasl_name(action->mechanism));
	}
	if (!begins || action->has_data) {
		text_append(t, SPAN(" "));
		text_append(t, action->data.size > 0 ? action->data : SPAN("="));
	}
	text_append(t, SPAN("\n"));
	buf_append(argument, begins ? sasl_name(action->mechanism)
				    : span_first(action->data, argument->capacity));
	if (!run->receiver.secure || run->receiver.authenticated)
		run->outcome->wrong = "a question about AUTH where there must be none";
	return begins ? "auth" : "auth-data";
}

/* Logs the question; its name and argument, for the policy, come back. */
static const char *
show_question(struct run *run, const struct receiver_action *action, struct buf *argument)
{
	struct text *t = &run->outcome->events;
	struct span path;

	switch (action->kind) {
	case RECEIVER_ASK_GREETING:
		return "greeting";
	case RECEIVER_ASK_HELO:
		text_printf(t, "%s %.*s\n", action->ehlo ? "ehlo" : "helo", SPAN_ARG(action->name));
		buf_append(argument, action->name);
		return "helo";
	case RECEIVER_ASK_MAIL:
	case RECEIVER_ASK_RCPT:
		path = path_text(&action->path, argument);
		text_printf(t, "%s %.*s", action->kind == RECEIVER_ASK_MAIL ? "mail" : "rcpt",
			    SPAN_ARG(path));
		if (action->kind == RECEIVER_ASK_MAIL)
			show_mail(t, action);
		else
			show_rcpt(t, action);
		text_append(t, SPAN("\n"));
		buf_consume(argument, 1); /* without its brackets */
		argument->size--;
		return action->kind == RECEIVER_ASK_MAIL ? "mail" : "rcpt";
	case RECEIVER_ASK_DATA:
		if (action->chunked)
			text_printf(t, "bdat %llu\n", (unsigned long long)action->size);
		else
			text_printf(t, "data\n");
		run->body_start = run->outcome->bodies.size;
		run->body_given = 0;
		run->body_refused = false;
		return "data";
	case RECEIVER_ASK_STARTTLS:
		text_printf(t, "starttls\n");
		return "starttls";
	case RECEIVER_ASK_AUTH:
	case RECEIVER_ASK_AUTH_DATA:
		return show_auth(run, action, argument);
	case RECEIVER_ASK_SYNC:
		text_printf(t, "sync\n");
		return "sync";
	default:
		text_printf(t, "commit %llu\n", (unsigned long long)action->size);
		size_t bounds[] = { run->body_start, run->outcome->bodies.size };
		text_append(&run->outcome->commits, span_of(bounds, sizeof bounds));
		if (action->size != run->body_given)
			run->outcome->wrong = "ASK_COMMIT has another size than the body";
		return "commit";
	}
}

static void
answer(struct run *run, const struct receiver_action *action, struct span rest, size_t used)
{
	uint8_t memory[1024];
	struct buf argument = buf_of(memory, sizeof memory);
	const char *question = show_question(run, action, &argument);
	const struct script_policy *policy = policy_for(run->script, question, buf_span(&argument));
	struct span text = policy == NULL ? span_none() : text_span(&policy->text);
	size_t tab = span_find(text, '\t', 0);
	struct receiver_answer reply = {
		.row = policy == NULL ? REPLY_NONE : policy->row,
		.text = span_first(text, tab),
		.more = span_after(text, tab + 1),
		.challenge = text,
		.input_waiting = run->consumed + used < run->group_end,
	};

	for (unsigned i = 0; run->cutting.late && i < 2; i++) {
		struct receiver_action wait;
		if (receiver_step(&run->receiver, rest, &wait) != 0 || wait.kind != RECEIVER_WAIT)
			run->outcome->wrong = "an open question did not wait";
	}
	receiver_answer(&run->receiver, &reply);
}

/* The caller keeps at most the bytes that `policy: body` grants. */
static void
keep_body(struct run *run, struct span data)
{
	const struct script_policy *p = NULL;
	uint64_t limit = UINT64_MAX;

	for (size_t i = 0; i < run->script->policy_count; i++) {
		if (strcmp(run->script->policies[i].question, "body") == 0)
			p = &run->script->policies[i];
	}
	if (p != NULL && !span_to_u64(text_span(&p->argument), &limit))
		run->outcome->wrong = "policy: body has no number";
	if (data.size == 0)
		run->outcome->wrong = "an empty BODY";
	if (run->body_refused)
		run->outcome->wrong = "BODY behind a refusal";
	struct span kept = span_first(data, (size_t)(limit - run->body_given));
	text_append(&run->outcome->bodies, kept);
	run->body_given += kept.size;
	if (kept.size < data.size) {
		text_printf(&run->outcome->events, "refused %llu\n",
			    (unsigned long long)run->body_given);
		run->body_refused = true;
		receiver_refuse_body(&run->receiver, p->row);
	}
}

/* False where nothing more can be done with the bytes at hand. */
static bool
act(struct run *run, const struct receiver_action *action, struct span rest, size_t used)
{
	struct receiver_action wait;

	switch (action->kind) {
	case RECEIVER_NEED_INPUT:
		if (rest.size >= (run->receiver.state == RECEIVER_AUTH
					  ? (size_t)RECEIVER_SASL_LINE_MAX
					  : run->script->options.line_max))
			run->outcome->wrong = "NEED_INPUT with a full buffer";
		return false;
	case RECEIVER_REPLY:
		text_append(&run->outcome->replies, action->data);
		if (action->data.size < 6)
			run->outcome->wrong = "a reply of no size";
		return true;
	case RECEIVER_BODY:
		keep_body(run, action->data);
		return true;
	case RECEIVER_ABORT:
		text_printf(&run->outcome->events, "abort %llu\n",
			    (unsigned long long)run->body_given);
		return true;
	case RECEIVER_CANCEL_AUTH:
		text_printf(&run->outcome->events, "cancel auth\n");
		return true;
	case RECEIVER_START_TLS:
		text_printf(&run->outcome->events, "start tls\n");
		if (rest.size > 0)
			run->outcome->wrong = "input behind STARTTLS";
		if (receiver_step(&run->receiver, rest, &wait) != 0 || wait.kind != RECEIVER_WAIT)
			run->outcome->wrong = "a handshake did not wait";
		receiver_secured(&run->receiver, run->script->external);
		return true;
	case RECEIVER_CLOSE:
		run->outcome->close = action->reason;
		text_printf(&run->outcome->events, "close %s\n", close_label(action->reason));
		return false;
	case RECEIVER_NONE:
	case RECEIVER_WAIT:
	case RECEIVER_ACTION_COUNT:
		run->outcome->wrong = "an action that may not leave step";
		return false;
	default:
		answer(run, action, rest, used);
		return true;
	}
}

/* Steps over all that has been delivered. The receiver sees an exact copy, so that the address
 * sanitizer catches a look beyond the end. */
static void
drain(struct run *run, size_t delivered)
{
	for (size_t n = 0;; n++) {
		size_t size = delivered - run->consumed;
		uint8_t *copy = malloc(size + (size == 0));
		struct receiver_action action;
		ASSERT(copy != NULL && n < STEPS_MAX);
		if (size > 0)
			memcpy(copy, run->script->input.data + run->consumed, size);
		size_t used = receiver_step(&run->receiver, span_of(copy, size), &action);
		ASSERT(used <= size);
		bool more = act(run, &action, span_of(copy + used, size - used), used);
		run->consumed += used;
		free(copy);
		if (!more || run->outcome->wrong != NULL)
			return;
	}
}

static size_t
count_lines(const struct text *t)
{
	size_t count = 0;

	for (size_t i = 0; i < t->size; i++)
		count += t->data[i] == '\n';
	return count;
}

static void
play(const struct script *s, struct cutting cutting, struct outcome *outcome)
{
	struct run run = { .script = s, .cutting = cutting, .outcome = outcome };
	size_t delivered = 0;

	receiver_init(&run.receiver, &s->options);
	if (s->implicit)
		receiver_secured(&run.receiver, s->external);
	for (size_t g = 0; g < s->group_count; g++) {
		run.group_end = s->groups[g].end;
		do {
			size_t size = cutting.chunk == 0 ? run.group_end : cutting.chunk;
			size_t end = delivered + size;
			if (cutting.split > delivered && cutting.split < end)
				end = cutting.split;
			delivered = end < run.group_end ? end : run.group_end;
			drain(&run, delivered);
		} while (delivered < run.group_end && outcome->close == CLOSE_NONE &&
			 outcome->wrong == NULL);
		outcome->lines_after[g] = count_lines(&outcome->replies);
		if (outcome->close != CLOSE_NONE || outcome->wrong != NULL)
			break;
	}
	receiver_fini(&run.receiver);
}

static void
free_outcome(struct outcome *o)
{
	text_free(&o->replies);
	text_free(&o->events);
	text_free(&o->bodies);
	text_free(&o->commits);
}

static bool
same(const struct outcome *a, const struct outcome *b)
{
	return span_eq(text_span(&a->replies), text_span(&b->replies)) &&
	       span_eq(text_span(&a->events), text_span(&b->events)) &&
	       span_eq(text_span(&a->bodies), text_span(&b->bodies)) &&
	       span_eq(text_span(&a->commits), text_span(&b->commits)) && a->close == b->close &&
	       memcmp(a->lines_after, b->lines_after, sizeof a->lines_after) == 0;
}

static void
dump(const char *title, const struct outcome *o)
{
	fprintf(stderr, "%s\n  replies:\n%.*s  events:\n%.*s  %zu bytes of bodies: ", title,
		SPAN_ARG(text_span(&o->replies)), SPAN_ARG(text_span(&o->events)), o->bodies.size);
	for (size_t i = 0; i < o->bodies.size && i < 200; i++) {
		uint8_t c = o->bodies.data[i];
		fprintf(stderr, c >= ' ' && c < 0x7f ? "%c" : "\\x%02x", c);
	}
	fprintf(stderr, "\n");
}

/* The next line of *rest without its line end. */
static struct span
next_line(struct span *rest)
{
	size_t end = span_find(*rest, '\n', 0);
	struct span line = span_first(*rest, end);

	*rest = span_after(*rest, end + 1);
	if (line.size > 0 && line.data[line.size - 1] == '\r')
		line.size--;
	return line;
}

static unsigned
check_replies(const struct script *s, const struct outcome *o)
{
	struct span rest = text_span(&o->replies);

	for (size_t i = 0; i < s->reply_count; i++) {
		const struct script_reply *wanted = &s->replies[i];
		struct span line = next_line(&rest);
		struct span text = text_span(&wanted->text);
		if (wanted->exact ? !span_eq(line, text) : !span_starts_with(line, text)) {
			fprintf(stderr, "%s:%u: wrong reply: %.*s\n", s->file, wanted->line,
				SPAN_ARG(line));
			return 1;
		}
	}
	if (rest.size > 0) {
		fprintf(stderr, "%s: one reply more: %.*s\n", s->file, SPAN_ARG(next_line(&rest)));
		return 1;
	}
	for (size_t g = 0; g < s->group_count; g++) {
		if (o->lines_after[g] != s->groups[g].replies) {
			fprintf(stderr, "%s: %zu reply lines after group %zu, not %zu\n", s->file,
				o->lines_after[g], g + 1, s->groups[g].replies);
			return 1;
		}
	}
	return 0;
}

static bool
find_event(struct span *rest, const struct script_expect *e)
{
	while (rest->size > 0) {
		struct span line = next_line(rest);
		struct span text = text_span(&e->text);
		if (e->kind == EXPECT_EVENT ? span_eq(line, text) : span_starts_with(line, text))
			return true;
	}
	return false;
}

static unsigned
check_expects(const struct script *s, const struct outcome *o)
{
	struct span events = text_span(&o->events);
	size_t committed = 0;

	for (size_t i = 0; i < s->expect_count; i++) {
		const struct script_expect *e = &s->expects[i];
		struct span all = text_span(&o->events);
		bool ok = false;
		if (e->kind == EXPECT_EVENT) {
			ok = find_event(&events, e);
		} else if (e->kind == EXPECT_NO_EVENT) {
			ok = !find_event(&all, e);
		} else if (committed + 2 * sizeof(size_t) <= o->commits.size) {
			size_t bounds[2];
			memcpy(bounds, o->commits.data + committed, sizeof bounds);
			committed += sizeof bounds;
			ok = span_eq(span_of(o->bodies.data + bounds[0], bounds[1] - bounds[0]),
				     text_span(&e->text));
		}
		if (!ok) {
			fprintf(stderr, "%s:%u: not as expected\n", s->file, e->line);
			return 1;
		}
	}
	enum close_reason close =
		s->close == CLOSE_NONE && o->close == CLOSE_QUIT ? CLOSE_NONE : o->close;
	if (close != s->close) {
		fprintf(stderr, "%s: closed for %s, not %s\n", s->file, close_label(o->close),
			close_label(s->close));
		return 1;
	}
	return 0;
}

static unsigned
play_and_compare(const struct script *s, struct cutting cutting, const struct outcome *whole)
{
	struct outcome o = { 0 };
	unsigned failed = 0;

	play(s, cutting, &o);
	if (o.wrong != NULL || !same(whole, &o)) {
		fprintf(stderr, "%s: in chunks of %zu, split at %zu, answered %s: %s\n", s->file,
			cutting.chunk, cutting.split, cutting.late ? "late" : "at once",
			o.wrong != NULL ? o.wrong : "another outcome than whole");
		dump("whole:", whole);
		dump("so:", &o);
		failed = 1;
	}
	free_outcome(&o);
	return failed;
}

static unsigned
run_script(const char *file)
{
	struct script *s = script_read(file);
	struct outcome whole = { 0 };
	size_t size = s->input.size;
	/* Every size and every place; of a long script so many that it stays within a second. */
	size_t stride = size <= LONG_SCRIPT ? 1 : size / LONG_STEPS;

	play(s, (struct cutting){ 0 }, &whole);
	unsigned failed = check_replies(s, &whole) + check_expects(s, &whole);
	if (whole.wrong != NULL) {
		fprintf(stderr, "%s: %s\n", file, whole.wrong);
		failed++;
	}
	if (failed > 0)
		dump("outcome:", &whole);
	for (unsigned late = 0; late < 2 && failed == 0; late++) {
		for (size_t i = 1; i <= size && failed == 0; i += i < 70 ? 1 : stride)
			failed += play_and_compare(s, (struct cutting){ i, 0, late }, &whole);
		for (size_t i = 0; i < size && failed == 0; i += stride)
			failed += play_and_compare(s, (struct cutting){ 0, i, late }, &whole);
	}
	free_outcome(&whole);
	script_free(s);
	return failed;
}

int
main(int argc, char **argv)
{
	unsigned failed = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: run_script FILE...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		unsigned wrong = run_script(argv[i]);
		if (wrong > 0)
			fprintf(stderr, "FAILED %s\n", argv[i]);
		failed += wrong;
	}
	printf("%d scripts, %u failed\n", argc - 1, failed);
	return failed == 0 ? 0 : 1;
}
