/* SPDX-License-Identifier: Apache-2.0
 *
 * dovecot: the lines that a client and Dovecot's auth service exchange (auth-client protocol,
 * version 1), as far as asking for a name and a password needs them, and passing SCRAM through.
 *
 * PURE. A line is fields with tabs between them, and ends in LF; bytes that may not stand in one
 * are escaped. The service greets with its version and mechanisms up to DONE. Questions carry a
 * number of ours, and answers come in any order.
 */
#ifndef RELAY_SMTP_DOVECOT_H
#define RELAY_SMTP_DOVECOT_H

#include "relay/smtp/sasl.h"

enum {
	DOVECOT_LINE_MAX = 8192, /* of the service, with its LF; as long as its own are */
	/* Of ours: name, password and address, in base64 and escaped. */
	DOVECOT_QUESTION_MAX = 2048,
	DOVECOT_VERSION_MAJOR = 1,
};

enum dovecot_kind {
	DOVECOT_OTHER, /* of no use here */
	DOVECOT_VERSION,
	DOVECOT_MECHANISM, /* it knows one that we know */
	DOVECOT_DONE,      /* the greeting is over */
	DOVECOT_OK,
	DOVECOT_FAIL,
	DOVECOT_CONTINUE, /* it asks back, which PLAIN does not */
};

struct dovecot_line {
	enum dovecot_kind kind;
	uint32_t number;  /* VERSION: the major one; OK, FAIL, CONTINUE: of the question */
	struct span user; /* OK, FAIL: escaped; empty: not told */
	struct span data; /* CONTINUE: what it says, in base64 */
	enum sasl_mechanism mechanism;
	bool temporary; /* FAIL: it could not be checked */
	bool disabled;  /* FAIL: the user may not log in now */
};

/* Without its LF. False: broken. */
bool dovecot_read(struct span line, struct dovecot_line *out);
/* Appends what an escaped text means; false where it does not fit, or is broken. */
bool dovecot_unescape(struct span text, struct buf *out);

/* Our greeting; `number` tells the clients of one host apart. */
void dovecot_greet(uint32_t number, struct buf *out);
/* Is this the name's password? number: not 0; address: the client's IP, or empty. */
void dovecot_ask_plain(uint32_t number, struct span name, struct span password, struct span address,
		       struct buf *out);
/* What does the mechanism make of this first message of a client's? At most SASL_MESSAGE_MAX bytes.
 */
void dovecot_ask_mechanism(uint32_t number, enum sasl_mechanism m, struct span message,
			   struct span address, struct buf *out);
/* The client's next one; nobody will send one. */
void dovecot_continue(uint32_t number, struct span message, struct buf *out);
void dovecot_cancel(uint32_t number, struct buf *out);

#endif
