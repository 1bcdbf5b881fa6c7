/* SPDX-License-Identifier: Apache-2.0
 *
 * oracle: what the outside knows of every mail, and therefore what the relay owes. It lives in the
 * world and outlives all crashes.
 *
 * For each recipient it keeps the set of states that the relay may find on its disk. A confirmed
 * change leaves one state; one that was under way at a crash, or that failed, leaves both; what is
 * then seen settles it. Whatever is seen outside the set is a violation: a lost mail, a forgotten
 * outcome, a mail that was refused and lives. Contents follow from the mail's number, so every byte
 * can be checked.
 *
 * A recipient that is handed out again although an outcome of it had been recorded but not
 * confirmed counts as a permitted duplicate (ARCHITECTURE.md, invariant 4a), a refused mail in
 * doubt that shows itself after a crash as one of kind 4b; both are counted. All others are
 * violations.
 *
 * It also watches the durable writes (oracle_watch): when a put is confirmed, the write with the
 * mail's record and all writes of mails before it on the same ring must have completed.
 *
 * In the layer `relay` it sees four things: what arrives at the sinks and which bytes of their
 * answers the relay has received (the wire), which durable writes have completed (the disk), what
 * is asked of the store and what it confirms (spy.h), and what the log has written. Each answer of
 * a sink carries a number, by which one outcome is known on the wire, on the disk and in the log.
 * Duplicates are judged by the wire and the disk, events by the store and the log: see
 * oracle_relay.c and oracle_log.c.
 */
#ifndef TESTS_FAULT_ORACLE_H
#define TESTS_FAULT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "queue/mail.h"
#include "queue/queue.h"
#include "tests/fault/sim_machine.h"
#include "tests/fault/terms.h"

struct sim_traffic;

enum {
	ORACLE_MAILS_MAX = 4096,
	ORACLE_RECIPIENTS_MAX = 6,
	ORACLE_SITES = 4,
	ORACLE_NODES = 2,
	ORACLE_STATES = RECIPIENT_REMOVED + 1,
};
/* In a sink's answer. */
#define ORACLE_TOKEN "taken-%06u."

enum oracle_put {
	PUT_NEW,
	PUT_STARTED, /* no answer yet; after a crash: may be there or not */
	PUT_KEPT,    /* confirmed, or seen after a restart */
	PUT_REFUSED, /* must never be seen */
	PUT_DOUBT,   /* refused in doubt: may be seen after a crash in this incarnation; on the
		      * layer `relay` only where the store had said so (in_doubt) */
};

/* A copy of a mail that a sink has taken: the last one from a node. */
struct oracle_arrival {
	uint64_t at_us;
	unsigned token;                   /* in the sink's answer */
	unsigned earlier;                 /* of the copy before, which may be told of late */
	const struct sim_traffic *stream; /* on which it came; NULL: none has */
	uint64_t answer_end; /* the sink's answer ends there; UINT64_MAX: it never gave one */
	bool durable;        /* the outcome is: on the disk, or as the store has confirmed */
	bool died;           /* the node has died, or lost the mail, before that */
	bool stopped;        /* the relay has given up the stream itself, or waited too long */
};

struct oracle_recipient {
	uint8_t possible; /* bits 1 << enum recipient_state */
	uint8_t notified; /* bits: 1 it may not be so, 2 it may */
	uint8_t site;     /* in its address */
	uint8_t routed;   /* where its mail goes, as the relay was told last */
	uint16_t attempts_least;
	uint16_t attempts_most;
	uint64_t retry_at_ms; /* not before; 0: any time */
	unsigned delivered;   /* how often it was handed over as delivered */
	uint32_t decided;     /* in this incarnation; of the layer `redis` */
	bool excused;         /* that it may come again was counted when its mail came back */
	/* Of the layer `relay` only: */
	bool offered;     /* a client was told 250 for it */
	unsigned arrived; /* at sinks, in mails that they took */
	struct oracle_arrival by[ORACLE_NODES];
	unsigned last_by;    /* the last of them */
	uint64_t durable_us; /* since then is one of them */
	/* Bits 1 << enum recipient_state; RECIPIENT_PENDING is a deferral. */
	uint8_t recording[ORACLE_NODES]; /* the store was asked to record it and has not said that
					  * it is */
	uint8_t eventless; /* it may have been durable when the relay died before its event */
	uint8_t given_up;  /* was being recorded at an end of the relay that could not wait */
	uint8_t over_at;   /* bits of nodes that have recorded a last outcome */
	uint16_t recorded[ORACLE_STATES]; /* outcomes that the store has confirmed */
	/* Those of them whose event has not been written. */
	uint16_t unlogged[ORACLE_NODES][ORACLE_STATES];
	/* The report that told its sender so, by a hash of its Message-ID; 0: none has come. */
	uint64_t told_failed, told_delayed, told_relayed;
	bool delay_recorded; /* the store has confirmed that its sender is told of the delay */
	/* Its times: oracle_times.c. Wall clock. */
	uint8_t notify;      /* NOTIFY_… as its client has asked for */
	bool unknown;        /* its sink does not have it, and says so at RCPT */
	bool refused;        /* by a sink, for good */
	bool expired;        /* its time was over when the relay gave it up */
	uint64_t expired_us; /* when that was first decided */
	bool due_is_known;   /* retry_at_ms is what the store has */
	bool repeated;       /* its outcome is asked to be recorded again */
	uint8_t asked;       /* states that the store was asked to record since it said so last */
	bool counts;         /* the last of them is of an attempt */
	bool tells_delay;    /* and tells its sender of the delay */
	uint8_t executed;    /* of a server: the state of it that it has got */
	uint8_t asked_by;    /* the node */
	bool is_orphan;      /* who is no more */
	uint64_t asked_retry_ms;
	bool may_be_over;    /* since a crash: the relay may not have it any more */
	uint64_t claimed_ms; /* in the relay's hands since then */
};

struct oracle_mail {
	uint32_t number;
	enum oracle_put put;
	struct mail_id id;
	uint64_t accepted_at_ms;
	uint64_t body_size;
	uint32_t recipient_count;
	uint8_t held;         /* bits: 1 may be free, 2 may be held */
	bool requeued;        /* since its outcomes were asked to be recorded last */
	uint32_t incarnation; /* in which it was put */
	uint64_t write; /* number of the first durable write that names it, this incarnation */
	/* Of the layer `redis`: */
	unsigned undone; /* how often a fail-over has lost something of it */
	bool promised;   /* its put was confirmed: no fail-over may lose it */
	bool gone;       /* it was lost as a whole, which was not promised */
	/* Of a notice: the mail with whose outcomes it is kept, and bits of the recipients that are
	 * over, or are marked as notified, by the same record. */
	uint32_t about;
	uint8_t about_ended;
	uint8_t about_notified;
	/* Of the layer `relay` only: */
	bool durable;   /* the store has said so */
	bool in_doubt;  /* likewise */
	bool alive;     /* it was kept, whatever the client has seen of that */
	bool committed; /* of a server: it has it, or had it and it came to its end, */
	bool cancelled; /* and it was told to forget it */
	/* Nodes: who has put it, who owns it, since when others do not any more; how often that was
	 * settled, and how often another has got it. */
	unsigned node, owner;
	uint64_t lost_us[ORACLE_NODES];
	unsigned moves, crossings;
	uint64_t put_at_ms;     /* accepted_at_ms as it was put; a server's clock may change it */
	unsigned received;      /* events that say so */
	bool eventless;         /* the relay died before it had written one */
	bool report_lost;       /* a report on it came to the end of its own time */
	uint64_t free_since_ms; /* it was held until then */
	/* Reports on it that the store has confirmed, and that have no event yet. */
	unsigned notices_unlogged[ORACLE_NODES];
	struct oracle_recipient recipients[ORACLE_RECIPIENTS_MAX];
};

struct oracle {
	uint32_t mail_count;
	uint32_t incarnation;
	uint32_t lives[ORACLE_NODES]; /* the numbers of those that are up, counted with it */
	uint64_t taken_over;          /* mails, by a node from another, or from a dead one */
	/* Stored bytes were flipped: mails and outcomes may be missing, but nothing may be wrong.
	 */
	bool damaged;
	bool is_remote; /* mails are on no disk of ours: no write is waited for */
	/* Times that come back from a server may differ by so much: oracle_redis.c. */
	uint64_t clock_slack_ms;
	uint64_t kept, refused, outcomes, claims, bytes_checked;
	uint64_t duplicates; /* permitted ones: outcome not confirmed */
	uint64_t doubts;     /* refused in doubt, and seen later */
	uint64_t twice;      /* recipients that were delivered again without such an excuse, */
	uint64_t counted;    /* and how many may have been, as the relay counts besides */
	uint64_t arrivals;
	uint64_t notices;        /* reports to senders that arrived */
	uint64_t unacknowledged; /* arrived, though the client never saw a 250 */
	uint64_t events;         /* of outcomes, that were written */
	uint64_t eventless;      /* outcomes that lost their event with the process */
	bool has_spy;            /* the store and the log are watched */
	unsigned route;          /* added to the sites of addresses: changes of the routes */
	unsigned tokens;
	uint64_t dropped; /* bodies that left the memory while their mails waited */
	struct terms terms;
	uint64_t up_since_ms;
	/* No connection to the sink of a site can be made until then: its mail may wait untried. */
	uint64_t unreachable_until_us[ORACLE_SITES];
	/* Whose site an operator has suspended, or had until then (wall clock): its mail has no
	 * time of its own meanwhile. */
	bool suspended[ORACLE_SITES];
	uint64_t suspended_ms[ORACLE_SITES]; /* since then, or the last time */
	uint64_t resumed_ms[ORACLE_SITES];
	uint64_t watched_ms;
	/* The relay may be unable to make a report: it says so, and does without it. */
	bool is_scarce;
	uint64_t refused_ms; /* when outcomes could not be recorded last: no delivery begins then */
	/* The relay asks the sinks for recipients (callouts), and takes those it learns nothing of.
	 */
	bool asks_sinks, takes_uncertain;
	uint64_t questions;      /* that sinks were asked */
	uint64_t strangers;      /* recipients that were refused for that */
	uint64_t attempts;       /* that have failed for a time */
	uint64_t expired;        /* recipients whose time was over */
	uint64_t delays;         /* recipients whose sender was told of the delay */
	uint64_t latest_ms;      /* an attempt was so much later than due */
	uint64_t moved_attempts; /* to the end of a time, by a schedule that would have passed it */
	struct oracle_mail mails[ORACLE_MAILS_MAX];
};

/* In the world; world->oracle. */
void oracle_new(void);
/* Begins an incarnation: what it will confirm, it alone answers for. */
void oracle_restart(void);
extern const struct sim_watch oracle_watch;

/* A new mail: number, id, recipients and size chosen. NULL when there are enough. */
struct oracle_mail *oracle_mail_new(uint64_t body_size, uint32_t recipient_count);
struct oracle_mail *oracle_find(struct mail_id id);
/* Address texts of a mail, in caller's memory of at least 64 bytes; returns it. */
char *oracle_sender(const struct oracle_mail *m, char *out);
char *oracle_recipient_address(const struct oracle_mail *m, uint32_t recipient, char *out);
/* Tells the relay where mail for this address goes by the routes of now. */
/* Of the envelope of a mail: any of enum mail_flags. */
static inline uint32_t
oracle_flags(unsigned mail)
{
	return mail % 32;
}
/* `flags`: those of its mail, which must be the right ones. */
struct site_id oracle_site_of(struct span address, uint32_t flags);
/* The bytes of a body; and the check of a piece that was read. */
void oracle_body(const struct oracle_mail *m, uint64_t offset, uint8_t *out, size_t size);
void oracle_check_body(const struct oracle_mail *m, uint64_t offset, struct span bytes);

/* The put was confirmed: from here on the relay owes the mail. Checks the order of the writes. */
void oracle_put_kept(struct oracle_mail *m);
void oracle_put_failed(struct oracle_mail *m, bool in_doubt);
/* A recipient was seen, with this state, in the relay's hands. */
void oracle_saw(struct oracle_mail *m, uint32_t recipient, uint8_t state, uint16_t attempts);
void oracle_saw_notified(struct oracle_mail *m, uint32_t recipient, bool notified);
/* An outcome is about to be recorded; and it is confirmed. */
void oracle_recording(struct oracle_mail *m, const struct queue_result *r);
void oracle_recorded(struct oracle_mail *m, const struct queue_result *r);
/* The outcomes have a notice: where one is found after a crash, the other must be, too. */
void oracle_noticing(struct oracle_mail *notice, const struct oracle_mail *about,
		     const struct queue_result *results, uint32_t count);
/* ---- of the layer `relay`: contents are messages, judged where they arrive ---- */

/* The message that a client submits, lines ended with CRLF: its size is m->body_size, which must
 * be at least ORACLE_TEXT_LEAST. */
enum { ORACLE_TEXT_LEAST = 64 };
void oracle_text(const struct oracle_mail *m, uint8_t *out);
/* The mail's number in "s1+mail-000001@…"; NULL where it was never offered. */
struct oracle_mail *oracle_mail_of_sender(struct span address);
/* The number of the recipient in "r0.1@…"; fails where the mail has no such recipient. */
uint32_t oracle_recipient_of(const struct oracle_mail *m, struct span address);
/* The number of a sink's next answer. */
unsigned oracle_token(void);
/* A sink has taken the mail for this recipient; `data` is without dot-stuffing, with whatever the
 * relay has put in front. Fails where it may not come, or is not byte for byte what was offered. */
void oracle_arrived(struct oracle_mail *m, uint32_t recipient, struct span data, unsigned token,
		    const struct sim_traffic *stream);
/* The sink gives its answer to it, which ends at this byte of the stream. */
void oracle_answering(struct oracle_mail *m, uint32_t recipient, unsigned token,
		      uint64_t answer_end);
/* A sink has refused the recipient for good: the relay may fail it. */
void oracle_bounced(struct oracle_mail *m, uint32_t recipient);
/* The outcome with this token is durable on the disk. */
void oracle_token_durable(unsigned token);
/* A node begins: world->node. */
void oracle_node_up(void);
/* What this relay knew and had not recorded is forgotten. */
void oracle_crashed(unsigned node);
/* It has ended as planned: outcomes that the store has refused to the last are forgotten. */
void oracle_stopped(unsigned node);
/* Is the node that has put it still up? */
bool oracle_putter_lives(const struct oracle_mail *m);
/* A node is sure that it owns the mail, and is about to send the end of its data. is_its: it is the
 * owner of this copy. */
void oracle_ends_data(const struct oracle_mail *m, bool is_its);
/* The server has given it to a node (is_taken: from one whose lease was over). */
void oracle_moved(struct oracle_mail *m, unsigned node, bool is_taken);
/* Every recipient of every mail that was kept has arrived, or was refused by its sink; each outcome
 * has its event. */
void oracle_check_arrived(void);
/* A sink has taken a report to the sender of this mail. */
void oracle_notice_arrived(struct oracle_mail *m, struct span data);
/* Every recipient that failed was reported, once. */
void oracle_check_notices(void);

/* What the relay asks of the store, and what the store says. */
void oracle_putting(struct oracle_mail *m, const struct mail_envelope *e);
void oracle_put_done(struct oracle_mail *m, enum err e);
/* is_its: by whom the mail belongs to. What others say, but for deliveries, is not recorded. */
void oracle_outcome_asked(struct oracle_mail *m, const struct queue_result *result, bool is_its);
void oracle_outcome_done(struct oracle_mail *m, const struct queue_result *result);
/* Has the write with this token completed, and all before it? Tokens are noted where they are
 * written; false where this one never was. */
bool oracle_token_is_written(unsigned token);

/* A client was answered for a recipient. */
void oracle_recipient_answered(struct oracle_mail *m, uint32_t recipient, int code);
/* The recipient that a question is about. NULL: none that was ever offered. */
struct oracle_recipient *oracle_asked_for(struct span address);

/* ---- its times: oracle_times.c; of the layer `relay` ---- */

/* The configuration of this incarnation. */
void oracle_terms(const struct terms *t);
/* The wall clock, without looking at it, which takes time. */
uint64_t oracle_wall_ms(void);
bool oracle_wants(const struct oracle_recipient *r, unsigned what);
/* The mail is being put: the moment from which its time is counted. */
void oracle_accepted(struct oracle_mail *m, uint64_t accepted_at_ms);
/* It is in the relay's hands from now on, by a put or by a claim, as the store shows it. */
void oracle_taken_in(struct oracle_mail *m);
void oracle_claimed(struct oracle_mail *m, const struct queue_item *item, uint64_t now_ms);
/* Outcomes are asked to be recorded, at this time of the worker: each at its time? */
void oracle_judge_times(struct oracle_mail *m, const struct queue_result *results, uint32_t count,
			bool has_notice, uint64_t now_ms);
/* Likewise of a report on the mail: it is tried until its own time is over. */
void oracle_judge_report(struct oracle_mail *m, const struct queue_record *r, uint64_t now_ms);
void oracle_times_recorded(struct oracle_mail *m, const struct queue_result *result);
/* Another node has the mail: nothing of it was recorded, but for what was delivered. */
void oracle_lost(struct oracle_mail *m, const struct queue_result *results, uint32_t count);
/* The store could not record them. */
void oracle_times_failed(struct oracle_mail *m, const struct queue_result *results, uint32_t count);
/* The relay has ended: what was on its way to the disk may have got there. */
void oracle_times_ended(struct oracle_recipient *r);
/* An operator lets nothing be delivered to a site, or again. */
void oracle_suspended(unsigned site, bool suspended);
/* A connection to its sink: where it is suspended only what is under way may go on. */
void oracle_connects(unsigned site);
/* A mail is to be held, or let go; and the store has done so. */
void oracle_holding(struct mail_id id, bool hold);
void oracle_held(struct mail_id id, bool hold);
/* Called again and again: nobody may wait for long beyond the time at which he is due. */
void oracle_watch_times(void);

/* ---- a server that keeps the mails: oracle_redis.c; of the layer `relay` ---- */

/* It has executed a function of the store (sim_redis_watch_fn). */
void oracle_executed(const struct span *words, unsigned count, struct span reply);
/* The relay has ended: what the server has got of the outcome that was asked last is what is found
 * there. False: that is not certain. */
bool oracle_settle(struct oracle_recipient *r);
/* Likewise: a mail that the server has is one that lives, whoever has heard so. */
void oracle_server_keeps(struct oracle_mail *m);

/* ---- the log ---- */

/* The log has written this line. */
void oracle_logged(struct span line);
/* It has written all that it was given: nothing that happened may be without its event. */
void oracle_check_logged(void);

/* Is the state of this recipient known for certain, and which is it? */
bool oracle_is(const struct oracle_mail *m, uint32_t recipient, uint8_t state);
/* Fails where a mail is owed something: every recipient must have a final state, and no outcome may
 * be there without its notice. */
void oracle_check_done(void);

#endif
