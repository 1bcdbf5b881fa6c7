/* SPDX-License-Identifier: Apache-2.0
 *
 * dialogue: plays the other side of the receiver and of the sender, as a flow and a peer would.
 *
 * The client's bytes come as it would send them: with PIPELINING up to DATA or BDAT, then the body.
 * The peer's replies come where the sender waits for input. Every question is answered with yes, at
 * once. The hook (NULL: none) sees each action before the dialogue goes on.
 */
#ifndef BENCH_MICRO_DIALOGUE_H
#define BENCH_MICRO_DIALOGUE_H

#include "relay/smtp/receiver.h"
#include "relay/smtp/sender.h"

/* One mail as a client sends it: two flights of bytes where DATA waits for its 354. */
struct client_mail {
	struct span flights[2]; /* the second may be empty */
};

enum client_way { CLIENT_DATA, CLIENT_BDAT };

/* Where a mail is written to: envelope and MATERIAL_BODY_SIZE bytes at most, with its dots. */
enum { CLIENT_MEMORY = 512 * 1024 };

void client_mail_make(struct client_mail *out, void *memory, enum client_way way, struct span body);

typedef void (*receiver_hook)(void *context, const struct receiver_action *a);
typedef void (*sender_hook)(void *context, const struct sender_action *a);

const struct receiver_options *dialogue_receiver_options(void);
/* A receiver behind the greeting and EHLO. */
void dialogue_greet(struct receiver *r);
/* All of `in`, in pieces of at most piece_max. */
void dialogue_receive(struct receiver *r, struct span in, size_t piece_max, receiver_hook hook,
		      void *context);

enum peer_kind { PEER_CHUNKING, PEER_PIPELINING, PEER_LOCKSTEP, PEER_KINDS };

struct peer {
	enum peer_kind kind;
	struct sender_options options;
	struct buf scratch;
	uint8_t memory[16384];
};

/* A sender behind the greeting and EHLO of a peer of this kind. */
void dialogue_connect(struct sender *s, struct peer *p, enum peer_kind kind);
/* One transaction, from sender_start to DONE. */
void dialogue_send(struct sender *s, const struct peer *p, struct sender_transaction *t,
		   sender_hook hook, void *context);

#endif
