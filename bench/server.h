/* SPDX-License-Identifier: Apache-2.0
 *
 * server: the sink's side of one connection, SMTP (RFC 5321) or LMTP (RFC 2033). PURE.
 *
 * It takes what it gets: it looks at no address and keeps no mail, knows PIPELINING, 8BITMIME,
 * SMTPUTF8, DSN, SIZE, CHUNKING and enhanced codes, and no TLS. It is no model of a careful server
 * (relay/smtp/receiver.h is); it must be fast: well under a microsecond for a mail of 1 KiB.
 *
 * The loop: give server_step() all bytes that are held and an empty `replies` with room for
 * SERVER_REPLY_MAX or more. Send what it has written there, act on its one action, then drop the
 * bytes it consumed. It gathers the replies of a whole pipelined group before it acts. Spans of an
 * action are good until the input is dropped or the next step. What was not consumed is given again
 * with more behind it: less than SERVER_LINE_MAX bytes at NEED_INPUT. What comes out does not
 * depend on how the bytes were cut, nor on the room in `replies`.
 *
 * Faults: at each phase (fault.h) the rules are asked once; what they say is done before the reply
 * to that phase leaves. Rules about the recipients of a mail need what each matched, so a mail has
 * at most SERVER_RECIPIENTS_MAX; memory for more than a few is asked for when needed (ROOM).
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include "bench/fault.h"
#include "bench/scan.h"

enum {
	SERVER_LINE_MAX = 4096, /* bytes of a command with its line end */
	SERVER_REPLY_MAX = 512, /* bytes of the longest reply, to EHLO */
	SERVER_HOSTNAME_MAX = 255,
	SERVER_RECIPIENTS_FEW = 6, /* kept without further memory */
	SERVER_RECIPIENTS_MAX = 4096,
};

enum server_offer_index {
#define SERVER_OFFER(name, keyword) SERVER_OFFER_INDEX_##name,
#include "bench/server_offers.def"
#undef SERVER_OFFER
	SERVER_OFFER_COUNT
};

enum server_offer {
#define SERVER_OFFER(name, keyword) SERVER_OFFER_##name = 1 << SERVER_OFFER_INDEX_##name,
#include "bench/server_offers.def"
#undef SERVER_OFFER
	SERVER_OFFER_ALL = (1 << SERVER_OFFER_COUNT) - 1,
};

/* Lent for the life of all servers that are given it. */
struct server_options {
	struct span hostname; /* 1 to SERVER_HOSTNAME_MAX bytes */
	uint32_t offers;      /* SERVER_OFFER_… bits */
	bool lmtp;
	const struct fault_rules *faults; /* NULL: none */
};

enum server_action_kind {
	SERVER_NONE, /* never leaves server_step() */
	SERVER_NEED_INPUT,
	SERVER_FLUSH, /* `replies` is full: send, and step again */
	SERVER_ROOM,  /* memory for more recipients is asked for: server_give_room() */
	/* A mail is taken: id, size, recipients by server_recipient(). Its 250 is written in the
	 * next step, so that it is counted before anybody knows. */
	SERVER_MAIL,
	SERVER_SLOW,  /* rate: from here on read no faster */
	SERVER_WAIT,  /* wait_ms, then server_resume(). SERVER_FOR_EVER: read no more */
	SERVER_CLOSE, /* end in order, when the replies have left */
	SERVER_DROP,  /* reset */
	SERVER_ACTION_COUNT
};

#define SERVER_FOR_EVER UINT64_MAX

struct server_action {
	enum server_action_kind kind;
	uint32_t rate;            /* SLOW: bytes a second */
	uint32_t recipient_count; /* MAIL: that were taken, at least one */
	uint64_t wait_ms;         /* WAIT */
	uint64_t size;            /* MAIL: bytes as they came, without the line that ends DATA */
	struct span id;           /* MAIL: value of TRACK_FIELD, or empty */
};

/* Where the dialogue stands; which verb is legal where is a column of the table of verbs. */
enum server_state {
	SERVER_START,   /* the banner is to be sent */
	SERVER_GREETED, /* no HELO yet */
	SERVER_READY,   /* no transaction */
	SERVER_IN_MAIL, /* MAIL, no recipient */
	SERVER_IN_RCPT, /* at least one recipient */
	SERVER_CHUNKS,  /* between two BDATs of one mail */
	SERVER_DATA,    /* in a body, up to CRLF.CRLF */
	SERVER_CHUNK,   /* in a chunk, chunk_left bytes to come */
	SERVER_LINE,    /* in a line that is too long, up to its LF */
	SERVER_ANSWERS, /* LMTP: a reply for each recipient */
	SERVER_ENDED,   /* CLOSE or DROP was said, and is said again */
	SERVER_STATE_COUNT
};

struct server_recipient {
	uint32_t number;  /* K of rK.…, SERVER_NO_NUMBER where it is written otherwise */
	uint32_t matched; /* rules; once the mail has ended, the row of its reply */
};

#define SERVER_NO_NUMBER UINT32_MAX

/* Embedded by value, never moved; the members are server's own. */
struct server {
	uint32_t magic;
	uint8_t state;   /* enum server_state */
	uint8_t resume;  /* state behind what is dropped: a line that is too long */
	uint8_t due;     /* phase whose reply is due, FAULT_PHASE_COUNT: none */
	uint8_t row;     /* of that reply */
	uint8_t end;     /* ENDED: enum server_action_kind */
	uint8_t refused; /* row of the reply to a chunk that is dropped, or the count of rows */
	bool last;       /* this chunk is the last one */
	bool body_began; /* its first byte was seen */
	bool no_room;    /* for more recipients of this mail */
	const struct server_options *options;
	uint32_t offered; /* in this session: none of HELO's */
	uint32_t matched; /* rules that match the mail */
	uint64_t random;
	uint64_t size; /* of the body so far */
	uint64_t chunk_left;
	struct fault_verdict verdict; /* of the phase that is due */
	uint32_t struck;
	uint32_t recipient_count;
	uint32_t recipient_room;
	uint32_t answered; /* recipients, in ANSWERS */
	struct server_recipient *recipients;
	struct server_recipient rcpt; /* whose reply is due */
	struct server_recipient few[SERVER_RECIPIENTS_FEW];
	struct scan scan;
};

/* seed: of the faults by share, another one for each connection. */
void server_init(struct server *s, const struct server_options *options, uint64_t seed);
void server_fini(struct server *s);
/* Consumes a prefix of `in`, appends replies and emits one action. */
size_t server_step(struct server *s, struct span in, struct buf *replies,
		   struct server_action *out);
/* Answers SERVER_ROOM: memory for `count` recipients, more than there were, lent until
 * server_fini(). NULL: there is none, and further recipients get 452. */
void server_give_room(struct server *s, struct server_recipient *memory, uint32_t count);
/* Answers SERVER_WAIT with an end. */
void server_resume(struct server *s);

/* Right behind SERVER_MAIL: the recipients from *at on that were taken, one a call,
 * SERVER_NO_NUMBER among them. False behind the last. *at begins with 0. */
bool server_recipient(const struct server *s, uint32_t *at, uint32_t *number);
/* How many rules have struck since it was asked last. */
uint32_t server_take_struck(struct server *s);
/* "PIPELINING" and so on, in any case; 0 where it is none of server_offers.def. */
uint32_t server_offer_of(struct span keyword);

#endif
