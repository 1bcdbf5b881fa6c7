/* SPDX-License-Identifier: Apache-2.0
 *
 * sender_dialogues: what test_sender.c plays. One row a dialogue: name, options, mails, script.
 *
 * Lines of a script:
 *   S: text            the peer says a line            C: text   we say a line
 *   ready              the session is up               phase P   what is awaited
 *   ask N yes|no       BEFORE_END of transaction N     body N offset size [stuffed] [last]
 *   body-held N ...    the same, but `sent` comes later as a line of its own
 *   R N.I class next phase cause [code] [doubt]        outcome of recipient I of transaction N
 *   done N             close REASON
 *   start N | quit REASON | lost REASON | sent | can 0|1    what the caller does or asks
 *   wait               the machine says WAIT
 */
#ifndef TESTS_UNIT_SENDER_DIALOGUES_H
#define TESTS_UNIT_SENDER_DIALOGUES_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/smtp/sender.h"

struct mail {
	const char *from;
	const char *to; /* with blanks between; "+dsn" behind one sets NOTIFY and ORCPT */
	uint64_t size;
	bool eight_bit;
	bool utf8;
	uint8_t ret;
	const char *envid;
	bool require_tls;
};

struct dialogue {
	const char *name;
	struct sender_options options;
	struct mail mails[3];
	const char *script;
};

#define GREET "S: 220 mx\nC: EHLO me\n"
#define PIPE  GREET "S: 250-mx\nS: 250 PIPELINING\nready\n"
#define CHUNK GREET "S: 250-mx\nS: 250-PIPELINING\nS: 250 CHUNKING\nready\n"
#define PLAIN GREET "S: 250 mx\nready\n"

#define OFFER_TLS GREET "S: 250-mx\nS: 250-PIPELINING\nS: 250 STARTTLS\n"
#define SECURE    OFFER_TLS "C: STARTTLS\nS: 220 go\nstart-tls\nsecured\nC: EHLO me\nS: 250-mx\n"
#define IF_OFFERED                           \
	{                                    \
		.tls = SENDER_TLS_IF_OFFERED \
	}
#define REQUIRED                           \
	{                                  \
		.tls = SENDER_TLS_REQUIRED \
	}
#define KEEP_TLS                                                \
	{                                                       \
		.tls = SENDER_TLS_REQUIRED, .require_tls = true \
	}
#define NEEDY_MAIL(sender, recipients, bytes)                                        \
	{                                                                            \
		.from = sender, .to = recipients, .size = bytes, .require_tls = true \
	}
#define WITH_AUTH(mechanisms)                                  \
	{                                                      \
		.tls = SENDER_TLS_REQUIRED, .auth = mechanisms \
	}
#define ANY_AUTH (SASL_BIT(SASL_PLAIN) | SASL_BIT(SASL_LOGIN) | SASL_BIT(SASL_SCRAM_SHA_256))

#define DEFAULTS              \
	{                     \
		.lmtp = false \
	}
#define NO_MAIL              \
	{                    \
		.from = NULL \
	}
#define MAIL(sender, recipients, bytes)                         \
	{                                                       \
		.from = sender, .to = recipients, .size = bytes \
	}

static const struct dialogue dialogues[] = {
	{ "one mail in lockstep",
	  DEFAULTS,
	  { MAIL("a@x", "b@y c@y", 10) },
	  "start 0\nphase greeting\n" PLAIN "C: MAIL FROM:<a@x>\nphase mail\nS: 250 ok\n"
	  "C: RCPT TO:<b@y>\nphase rcpt\nS: 250 ok\nC: RCPT TO:<c@y>\nS: 251 ok\nC: DATA\n"
	  "phase data\nS: 354 go\nask 0 yes\nbody-held 0 0 10 stuffed last\nphase body\nsent\n"
	  "phase end_of_data\nS: 250 2.0.0 queued\nR 0.0 ok nothing end_of_data reply 250\n"
	  "R 0.1 ok nothing end_of_data reply 250\ndone 0\nphase idle\nquit idle\nC: QUIT\n"
	  "close idle" },
	{ "one mail with pipelining by DATA",
	  DEFAULTS,
	  { MAIL("", "b@y c@y", 10) },
	  PIPE "can 1\nstart 0\nC: MAIL FROM:<>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: DATA\n"
	       "S: 250 ok\nS: 550 5.1.1 who\nS: 250 ok\nS: 354 go\n"
	       "R 0.0 permanent nothing rcpt reply 550\nask 0 yes\nbody 0 0 10 stuffed last\n"
	       "S: 250 ok\nR 0.1 ok nothing end_of_data reply 250\ndone 0" },
	{ "a small body by BDAT leaves with its envelope",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0" },
	{ "a large body by BDAT waits for the recipients and is asked for before its last piece",
	  { .piece_max = 100 },
	  { MAIL("a@x", "b@y", 250) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nS: 250 ok\nS: 250 ok\n"
	  "C: BDAT 250 LAST\nbody 0 0 150\nask 0 yes\nbody 0 150 100 last\n"
	  "S: 250 ok\nR 0.0 ok nothing end_of_data reply 250\ndone 0" },
	{ "a large body by BDAT is not sent where nobody wants it, and RSET comes before the next",
	  { .piece_max = 100 },
	  { MAIL("a@x", "b@y", 250), MAIL("a@x", "c@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nS: 250 ok\nS: 550 no\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0\nstart 1\nC: RSET\nC: MAIL FROM:<a@x>\n"
	  "C: RCPT TO:<c@y>\nC: BDAT 10 LAST\nask 1 yes\nbody 1 0 10 last\nS: 250 reset\n"
	  "S: 250 ok\nS: 250 ok\nS: 250 ok\nR 1.0 ok nothing end_of_data reply 250\ndone 1" },
	{ "a small BDAT that nobody wanted is refused by the peer, and RSET comes before the next",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "c@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nS: 250 ok\nS: 550 no\nS: 503 none\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0\nstart 1\nC: RSET\nC: MAIL FROM:<a@x>\n"
	  "C: RCPT TO:<c@y>\nC: BDAT 10 LAST\nask 1 yes\nbody 1 0 10 last\nlost reset\n"
	  "R 1.0 temporary later rset lost doubt\ndone 1\nclose reset" },
	{ "CHUNKING without PIPELINING goes in lockstep",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 250-mx\nS: 250 CHUNKING\nready\nC: MAIL FROM:<a@x>\nS: 250 ok\n"
	  "C: RCPT TO:<b@y>\nS: 250 ok\nC: BDAT 10 LAST\nask 0 yes\nbody 0 0 10 last\nS: 250 ok\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0" },
	{ "an empty body goes by DATA",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 0) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 0 stuffed last\nS: 250 ok\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0" },
	{ "what we do not want is not used",
	  { .no_pipelining = true, .no_chunking = true },
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 550 no\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0" },
	{ "EHLO falls back to HELO, which offers nothing",
	  DEFAULTS,
	  { { .from = "a@x", .to = "b@y", .size = 10, .eight_bit = true } },
	  "start 0\n" GREET
	  "S: 502-no\nS: 502 PIPELINING\nC: HELO me\nphase helo\nS: 250 mx\nready\n"
	  "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\nS: 354 go\n"
	  "ask 0 yes\nbody 0 0 10 stuffed last\nS: 250 ok\nR 0.0 ok nothing end_of_data reply 250\n"
	  "done 0" },
	{ "a host that cannot be reached is about the host",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\nlost connect_failed\nR 0.0 temporary host greeting connect\ndone 0\n"
	  "close connect_failed" },
	{ "HELO refused is about the host",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 500 what\nC: HELO me\nS: 550 no\n"
	  "R 0.0 temporary host helo reply 550\ndone 0\nC: QUIT\nclose rejected" },
	{ "554 at EHLO is about the host",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 554 no\nR 0.0 temporary host ehlo reply 554\ndone 0\nC: QUIT\n"
	  "close rejected" },
	{ "a greeting of 554 is about the host, not the mail; also for the one ahead",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "c@y", 10) },
	  "start 0\nstart 1\ncan 0\nS: 554-no\nS: 554 mail\nR 0.0 temporary host greeting reply "
	  "554\n"
	  "R 1.0 temporary host greeting reply 554\ndone 0\ndone 1\nC: QUIT\nclose rejected" },
	{ "a greeting of 421 without a mail",
	  DEFAULTS,
	  { NO_MAIL },
	  "S: 421 busy\nclose unavailable" },
	{ "a peer that is no SMTP server",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\nS: SSH-2.0-OpenSSH\nR 0.0 temporary host greeting protocol\ndone 0\n"
	  "close protocol" },
	{ "354 as a greeting",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\nS: 354 go\nR 0.0 temporary host greeting reply 354\ndone 0\nclose protocol" },
	{ "mixed codes in one reply",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\nS: 220-mx\nS: 250 mx\nR 0.0 temporary host greeting protocol\ndone 0\n"
	  "close protocol" },
	{ "MAIL refused fails all, and the rest of the group is read",
	  DEFAULTS,
	  { MAIL("a@x", "b@y c@y", 10), MAIL("a@x", "d@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: DATA\n"
	  "S: 550 5.7.1 no\nS: 503 no\nS: 503 no\nS: 503 no\nR 0.0 permanent nothing mail reply "
	  "550\n"
	  "R 0.1 permanent nothing mail reply 550\ndone 0\nstart 1\nC: MAIL FROM:<a@x>\n"
	  "C: RCPT TO:<d@y>\nC: DATA\nS: 451 later\nS: 503 no\nS: 503 no\n"
	  "R 1.0 temporary host mail reply 451\ndone 1" },
	{ "MAIL refused, 354 all the same: the connection is given up",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 550 no\nS: 250 ok\n"
	  "S: 354 go\nR 0.0 permanent nothing mail reply 550\ndone 0\nclose protocol" },
	{ "354 although every recipient failed gets an empty message",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 550 no\n"
	  "S: 354 go\nR 0.0 permanent nothing rcpt reply 550\nC: .\nS: 554 none\ndone 0\nquit "
	  "shutdown\n"
	  "C: QUIT\nclose shutdown" },
	{ "452 behind an accepted recipient is for another transaction, alone it is for another "
	  "host",
	  DEFAULTS,
	  { MAIL("a@x", "b@y c@y d@y", 10) },
	  "start 0\n" PIPE
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: RCPT TO:<d@y>\n"
	  "C: DATA\nS: 250 ok\nS: 452 many\nS: 250 ok\nS: 552 many\nS: 354 go\n"
	  "R 0.0 temporary host rcpt reply 452\nR 0.2 temporary again rcpt reply 552\nask 0 yes\n"
	  "body 0 0 10 stuffed last\nS: 250 ok\nR 0.1 ok nothing end_of_data reply 250\ndone 0" },
	{ "421 on RCPT ends the connection; who was accepted goes to the next host",
	  DEFAULTS,
	  { MAIL("a@x", "b@y c@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: DATA\n"
	  "S: 250 ok\nS: 250 ok\nS: 421 4.3.2 bye\nR 0.0 temporary host rcpt reply 421\n"
	  "R 0.1 temporary host rcpt reply 421\ndone 0\nclose unavailable" },
	{ "421 on the first RCPT of a group with its body leaves no doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nS: 250 ok\nS: 421 bye\nR 0.0 temporary host rcpt reply 421\ndone 0\n"
	  "close unavailable" },
	{ "DATA refused",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10) },
	  "start 0\n" PLAIN "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\n"
	  "S: 451 no\nR 0.0 temporary host data reply 451\ndone 0\nstart 1\nC: RSET\nphase rset\n"
	  "S: 250 ok\nC: MAIL FROM:<a@x>\nS: 421 bye\nR 1.0 temporary again mail reply 421\ndone "
	  "1\n"
	  "close unavailable" },
	{ "250 in place of 354",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PLAIN "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\n"
	  "S: 250 ok\nR 0.0 temporary host data reply 250\ndone 0\nclose protocol" },
	{ "RSET refused: the connection is given up, the mail may go again",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10) },
	  "start 0\n" PLAIN "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 550 no\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0\nstart 1\nC: RSET\nS: 500 what\n"
	  "R 1.0 temporary again rset reply 500\ndone 1\nC: QUIT\nclose rejected" },
	{ "RSET refused while a body follows: no QUIT into the body",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nS: 250 ok\nS: 550 no\nS: 503 no\nR 0.0 permanent nothing rcpt reply "
	  "550\n"
	  "done 0\nstart 1\nC: RSET\nC: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\n"
	  "ask 1 yes\nbody-held 1 0 10 last\nS: 500 what\nR 1.0 temporary later body reply 500 "
	  "doubt\n"
	  "done 1\nclose rejected" },
	{ "the end of data refused for good, for now, and by 421",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 10 stuffed last\nS: 554 5.6.0 spam\n"
	  "R 0.0 permanent nothing end_of_data reply 554\ndone 0\nstart 1\nC: MAIL FROM:<a@x>\n"
	  "C: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\nask 1 yes\n"
	  "body 1 0 10 stuffed last\nS: 451 wait\nR 1.0 temporary host end_of_data reply "
	  "451\ndone 1\n"
	  "start 2\nC: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 "
	  "go\n"
	  "ask 2 yes\nbody 2 0 10 stuffed last\nS: 421 bye\n"
	  "R 2.0 temporary host end_of_data reply 421\ndone 2\nclose unavailable" },
	{ "a reply without a meaning to the end of data leaves doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 10 stuffed last\nS: 354 go\n"
	  "R 0.0 temporary later end_of_data reply 354 doubt\ndone 0\nclose protocol" },
	{ "junk in place of the last reply leaves doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 10 stuffed last\nS: hello\n"
	  "R 0.0 temporary later end_of_data protocol doubt\ndone 0\nclose protocol" },
	{ "lost behind the end of data leaves doubt for those accepted",
	  DEFAULTS,
	  { MAIL("a@x", "b@y c@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: DATA\n"
	  "S: 250 ok\nS: 550 no\nS: 250 ok\nS: 354 go\nR 0.0 permanent nothing rcpt reply 550\n"
	  "ask 0 yes\nbody 0 0 10 stuffed last\nlost timeout\n"
	  "R 0.1 temporary later end_of_data timeout doubt\ndone 0\nclose timeout" },
	{ "lost within the first piece leaves no doubt",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nbody-held 0 0 6 stuffed\nlost reset\nR 0.0 temporary host body lost\ndone 0\n"
	  "sent\nclose reset" },
	{ "lost within the last piece leaves doubt",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nbody 0 0 6 stuffed\nask 0 yes\nbody-held 0 6 4 stuffed last\nlost "
	  "peer_closed\n"
	  "R 0.0 temporary later body lost doubt\ndone 0\nclose peer_closed" },
	{ "lost before the greeting",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\nlost timeout\nR 0.0 temporary host greeting timeout\ndone 0\nclose timeout" },
	{ "an idle connection that has grown old",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "b@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nS: 250 ok\nS: 250 ok\nS: 250 ok\nR 0.0 ok nothing end_of_data reply "
	  "250\n"
	  "done 0\nstart 1\nC: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 1 no\n"
	  "R 1.0 temporary later body lease\ndone 1\nclose lease_lost" },
	{ "421 while idle", DEFAULTS, { NO_MAIL }, PIPE "S: 421 timeout\nclose unavailable" },
	{ "talk while idle", DEFAULTS, { NO_MAIL }, PIPE "S: 250 hello\nclose protocol" },
	{ "the lease is gone before the end",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nbody 0 0 6 stuffed\nask 0 no\nR 0.0 temporary later body lease\ndone 0\n"
	  "close lease_lost" },
	{ "the lease of the one ahead is gone: the first one's reply is awaited before the end",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10), MAIL("a@x", "c@y", 10) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 10 LAST\nask 0 yes\n"
	  "body 0 0 10 last\nstart 1\nC: RSET\nC: MAIL FROM:<a@x>\nC: RCPT TO:<c@y>\nC: BDAT 10 "
	  "LAST\n"
	  "ask 1 no\nS: 250 ok\nS: 250 ok\nS: 250 ok\nR 0.0 ok nothing end_of_data reply 250\ndone "
	  "0\n"
	  "R 1.0 temporary later body lease\ndone 1\nclose lease_lost" },
	{ "SIZE is said, and what is too big is not sent",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 1000), MAIL("a@x", "b@y c@y", 1001) },
	  "start 0\n" GREET "S: 250-mx\nS: 250 SIZE 1000\nready\nC: MAIL FROM:<a@x> SIZE=1000\n"
	  "S: 452 full\nR 0.0 temporary host mail reply 452\ndone 0\nstart 1\n"
	  "R 1.0 permanent nothing mail too_big\nR 1.1 permanent nothing mail too_big\ndone 1" },
	{ "SIZE 0 is no limit",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 99) },
	  "start 0\n" GREET "S: 250-mx\nS: 250 SIZE 0\nready\nC: MAIL FROM:<a@x> SIZE=99" },
	{ "8BITMIME and DSN are passed on where offered",
	  DEFAULTS,
	  { { .from = "a@x",
	      .to = "b@y+dsn c@y",
	      .size = 9,
	      .eight_bit = true,
	      .ret = SENDER_RET_HEADERS,
	      .envid = "q+20" } },
	  "start 0\n" GREET "S: 250-mx\nS: 250-8bitmime\nS: 250-DSN\nS: 250 SMTPUTF8\nready\n"
	  "C: MAIL FROM:<a@x> BODY=8BITMIME RET=HDRS ENVID=q+20\nS: 250 ok\n"
	  "C: RCPT TO:<b@y> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@y\nS: 250 ok\nC: RCPT TO:<c@y>" },
	{ "neither is said where not offered",
	  DEFAULTS,
	  { { .from = "a@x",
	      .to = "b@y+dsn",
	      .size = 9,
	      .eight_bit = true,
	      .ret = SENDER_RET_FULL,
	      .envid = "q" } },
	  "start 0\n" PLAIN "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>" },
	{ "SMTPUTF8 is said when an address needs it",
	  DEFAULTS,
	  { MAIL("a@x", "gr\xc3\xbc\xc3\x9f@y", 9), MAIL("a@x", "b@y", 9) },
	  "start 0\n" GREET
	  "S: 250-mx\nS: 250 SMTPUTF8\nready\nC: MAIL FROM:<a@x> SMTPUTF8\nS: 550 no\n"
	  "R 0.0 permanent nothing mail reply 550\ndone 0\nstart 1\nC: MAIL FROM:<a@x>" },
	{ "without SMTPUTF8 a recipient in UTF-8 fails alone",
	  DEFAULTS,
	  { MAIL("a@x", "b@y gr\xc3\xbc\xc3\x9f@y", 9) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\n"
	  "R 0.1 permanent nothing rcpt no_smtputf8\nC: DATA\nS: 250 ok\nS: 550 no\nS: 503 no\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0" },
	{ "without SMTPUTF8 a header or a sender in UTF-8 fails all",
	  DEFAULTS,
	  { { .from = "a@x", .to = "b@y c@y", .size = 9, .utf8 = true },
	    MAIL("\xc3\xbc@x", "b@y", 9) },
	  "start 0\nstart 1\n" PIPE "R 0.0 permanent nothing mail no_smtputf8\n"
	  "R 0.1 permanent nothing mail no_smtputf8\ndone 0\nR 1.0 permanent nothing mail "
	  "no_smtputf8\n"
	  "done 1" },
	{ "8-bit text fails where 8BITMIME is missing and wanted",
	  { .eight_bit_fails = true },
	  { { .from = "a@x", .to = "b@y", .size = 9, .eight_bit = true }, MAIL("a@x", "b@y", 9) },
	  "start 0\nstart 1\n" GREET "S: 250 mx\nready\n"
	  "R 0.0 permanent nothing mail no_eight_bit\ndone 0\nC: MAIL FROM:<a@x>\nS: 550 no\n"
	  "R 1.0 permanent nothing mail reply 550\ndone 1" },
	{ "8-bit text goes where 8BITMIME is offered",
	  { .eight_bit_fails = true },
	  { { .from = "a@x", .to = "b@y", .size = 9, .eight_bit = true } },
	  "start 0\n" GREET "S: 250-mx\nS: 250 8BITMIME\nready\n"
	  "C: MAIL FROM:<a@x> BODY=8BITMIME\nS: 550 no\n"
	  "R 0.0 permanent nothing mail reply 550\ndone 0" },
	{ "addresses that would break the command are not sent",
	  DEFAULTS,
	  { MAIL("a@x", "b@y>\rRSET \"b<>\"@y \"b\"\"", 9), MAIL("a>@x", "b@y", 9) },
	  "start 0\n" PLAIN
	  "C: MAIL FROM:<a@x>\nS: 250 ok\nR 0.0 permanent nothing rcpt bad_recipient\n"
	  "C: RCPT TO:<\"b<>\"@y>\nS: 550 no\nR 0.1 permanent nothing rcpt reply 550\n"
	  "R 0.2 permanent nothing rcpt bad_recipient\ndone 0\nstart 1\n"
	  "R 1.0 permanent nothing mail bad_sender\ndone 1" },
	{ "all recipients unfit: MAIL is answered, nothing more is said",
	  DEFAULTS,
	  { MAIL("a@x", "b> c>", 9) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nR 0.0 permanent nothing rcpt bad_recipient\n"
	  "R 0.1 permanent nothing rcpt bad_recipient\nS: 250 ok\ndone 0" },
	{ "all recipients unfit: the one ahead need not wait",
	  DEFAULTS,
	  { MAIL("a@x", "b>", 9), MAIL("c@x", "d> e>", 9) },
	  "start 0\nstart 1\n" PIPE
	  "C: MAIL FROM:<a@x>\nR 0.0 permanent nothing rcpt bad_recipient\n"
	  "C: RSET\nC: MAIL FROM:<c@x>\nR 1.0 permanent nothing rcpt bad_recipient\n"
	  "R 1.1 permanent nothing rcpt bad_recipient\nS: 250 ok\nS: 250 ok\nS: 550 no\ndone 0\n"
	  "done 1" },
	{ "LIMITS: recipients beyond RCPTMAX are for another transaction",
	  { .recipients_max = 9 },
	  { MAIL("a@x", "b@y c@y d@y", 9) },
	  "start 0\n" GREET
	  "S: 250-mx\nS: 250-PIPELINING\nS: 250 limits RCPTMAX=2 MAILMAX=1 X=1\nready\n"
	  "can 0\nC: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\n"
	  "R 0.2 temporary again rcpt recipient_limit\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 9 stuffed last\nS: 250 ok\n"
	  "R 0.0 ok nothing end_of_data reply 250\nR 0.1 ok nothing end_of_data reply 250\ndone 0\n"
	  "can 0\nquit used_up\nC: QUIT\nclose used_up" },
	{ "LIMITS: a second mail that was started before MAILMAX was known goes again",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("a@x", "b@y", 9) },
	  "start 0\nstart 1\n" GREET
	  "S: 250-mx\nS: 250 LIMITS MAILMAX=1\nready\nC: MAIL FROM:<a@x>\n"
	  "S: 550 no\nR 0.0 permanent nothing mail reply 550\ndone 0\n"
	  "R 1.0 temporary again mail mail_limit\ndone 1" },
	{ "our own limits",
	  { .recipients_max = 1, .mails_max = 1 },
	  { MAIL("a@x", "b@y c@y", 9) },
	  "start 0\ncan 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\n"
	  "R 0.1 temporary again rcpt recipient_limit\nC: DATA" },
	{ "one ahead by DATA: its envelope follows the end of data",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8), MAIL("e@x", "f@y", 7) },
	  "start 0\nstart 1\n" PIPE
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nask 0 yes\nbody-held 0 0 9 stuffed last\nsent\nC: MAIL FROM:<c@x>\n"
	  "C: RCPT TO:<d@y>\nC: DATA\nphase end_of_data\nS: 250 one\nS: 250 ok\nS: 250 ok\nS: 354 "
	  "go\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0\nask 1 yes\nbody-held 1 0 8 stuffed "
	  "last\n"
	  "start 2\nphase body\nsent\nC: MAIL FROM:<e@x>\nC: RCPT TO:<f@y>\nC: DATA\nlost reset\n"
	  "R 1.0 temporary later end_of_data lost doubt\nR 2.0 temporary again mail lost\ndone 1\n"
	  "done 2\nclose reset" },
	{ "one ahead by BDAT: RSET in front, both bodies on their way, replies to whom they belong",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y e@y", 8) },
	  "start 0\nstart 1\n" CHUNK
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body 0 0 9 last\nC: RSET\nC: MAIL FROM:<c@x>\nC: RCPT TO:<d@y>\nC: RCPT TO:<e@y>\n"
	  "C: BDAT 8 LAST\nask 1 yes\nbody 1 0 8 last\nS: 250 ok\nS: 250 ok\nS: 554 bad\nS: 250 "
	  "ok\n"
	  "S: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 two\nR 0.0 permanent nothing end_of_data reply "
	  "554\n"
	  "done 0\nR 1.0 permanent nothing rcpt reply 550\nR 1.1 ok nothing end_of_data reply 250\n"
	  "done 1" },
	{ "one ahead of a large BDAT: RSET in front",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8) },
	  "start 0\nstart 1\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nS: 250 ok\nS: 250 ok\n"
	  "C: BDAT 9 LAST\nbody 0 0 5\nask 0 yes\nbody 0 5 4 last\nC: RSET\nC: MAIL FROM:<c@x>\n"
	  "C: RCPT TO:<d@y>\nS: 451 no\nS: 250 ok\nS: 250 ok\nS: 550 no\n"
	  "R 0.0 temporary host end_of_data reply 451\ndone 0\n"
	  "R 1.0 permanent nothing rcpt reply 550\ndone 1" },
	{ "one ahead of a BDAT whose early reply is not yet looked at: RSET in front",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8) },
	  "start 0\nstart 1\n" CHUNK
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body-held 0 0 9 last\nS: 250 ok\nS: 250 ok\nS: 451 no\nwait\nsent\nC: RSET\n"
	  "C: MAIL FROM:<c@x>\nC: RCPT TO:<d@y>\nC: BDAT 8 LAST\nask 1 yes\nbody 1 0 8 last\n"
	  "R 0.0 temporary host end_of_data reply 451\ndone 0\nS: 250 ok\nS: 250 ok\nS: 250 ok\n"
	  "S: 250 ok\nR 1.0 ok nothing end_of_data reply 250\ndone 1" },
	{ "both ends sent, both replies missing: both in doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8) },
	  "start 0\nstart 1\n" CHUNK
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body 0 0 9 last\nC: RSET\nC: MAIL FROM:<c@x>\nC: RCPT TO:<d@y>\nC: BDAT 8 LAST\nask 1 "
	  "yes\n"
	  "body 1 0 8 last\nlost reset\nR 0.0 temporary later mail lost doubt\n"
	  "R 1.0 temporary later rset lost doubt\ndone 0\ndone 1\nclose reset" },
	{ "421 to the first one's end: the one ahead is not in doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8) },
	  "start 0\nstart 1\n" CHUNK
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body 0 0 9 last\nC: RSET\nC: MAIL FROM:<c@x>\nC: RCPT TO:<d@y>\nC: BDAT 8 LAST\nask 1 "
	  "yes\n"
	  "body 1 0 8 last\nS: 250 ok\nS: 250 ok\nS: 421 bye\n"
	  "R 0.0 temporary host end_of_data reply 421\nR 1.0 temporary again rset reply 421\ndone "
	  "0\n"
	  "done 1\nclose unavailable" },
	{ "the one ahead waits where there is no pipelining",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9), MAIL("c@x", "d@y", 8) },
	  "start 0\nstart 1\n" PLAIN
	  "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: DATA\n"
	  "S: 354 go\nask 0 yes\nbody 0 0 9 stuffed last\nS: 250 ok\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0\nC: MAIL FROM:<c@x>" },
	{ "a reply read before the end is known to be sent waits for that",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body-held 0 0 9 last\nS: 250 ok\nS: 250 ok\nS: 250 ok\nwait\nsent\n"
	  "R 0.0 ok nothing end_of_data reply 250\ndone 0" },
	{ "an acceptance before the end was sent, and then lost, leaves doubt",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body-held 0 0 9 last\nS: 250 ok\nS: 250 ok\nS: 250 ok\nwait\nlost reset\n"
	  "R 0.0 temporary later body lost doubt\ndone 0\nclose reset" },
	{ "a refusal before the end was sent, and then lost, counts",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\n" CHUNK "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: BDAT 9 LAST\nask 0 yes\n"
	  "body-held 0 0 9 last\nS: 250 ok\nS: 250 ok\nS: 552 big\nwait\nlost reset\n"
	  "R 0.0 permanent nothing end_of_data reply 552\ndone 0\nclose reset" },
	{ "a refusal amid the body ends the connection",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 9), MAIL("a@x", "b@y", 9) },
	  "start 0\nstart 1\n" PIPE
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nbody-held 0 0 5 stuffed\nS: 552 5.3.4 big\nR 0.0 permanent nothing body "
	  "reply 552\n"
	  "R 1.0 temporary again mail stopped\ndone 0\ndone 1\nclose rejected" },
	{ "an acceptance amid the body is no acceptance",
	  { .piece_max = 4 },
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\n" PIPE "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 250 ok\n"
	  "S: 354 go\nbody-held 0 0 5 stuffed\nS: 250 ok\nR 0.0 temporary host body protocol\ndone "
	  "0\n"
	  "close protocol" },
	{ "LMTP: a reply for each recipient",
	  { .lmtp = true },
	  { MAIL("a@x", "b@y c@y d@y e@y", 9) },
	  "start 0\nS: 220 lmtp\nC: LHLO me\nS: 250-lmtp\nS: 250-CHUNKING\nS: 250 "
	  "PIPELINING\nready\n"
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: RCPT TO:<c@y>\nC: RCPT TO:<d@y>\n"
	  "C: RCPT TO:<e@y>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 550 no\nS: 250 ok\nS: 250 ok\nS: "
	  "354 go\n"
	  "R 0.1 permanent nothing rcpt reply 550\nask 0 yes\nbody-held 0 0 9 stuffed last\n"
	  "S: 250 ok\nwait\nsent\nR 0.0 ok nothing end_of_data reply 250\nS: 452 full\n"
	  "R 0.2 temporary host end_of_data reply 452\nlost peer_closed\n"
	  "R 0.3 temporary later end_of_data lost doubt\ndone 0\nclose peer_closed" },
	{ "LMTP: no fall-back",
	  { .lmtp = true },
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\nS: 220 smtp\nC: LHLO me\nS: 500 what\nR 0.0 temporary host ehlo reply "
	  "500\ndone 0\n"
	  "C: QUIT\nclose rejected" },
	{ "LMTP: 354 for nobody is out of step",
	  { .lmtp = true },
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\nS: 220 lmtp\nC: LHLO me\nS: 250-lmtp\nS: 250 PIPELINING\nready\n"
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nS: 550 no\nS: 354 go\n"
	  "R 0.0 permanent nothing rcpt reply 550\ndone 0\nclose protocol" },
	{ "QUIT waits for the transactions that were started",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\nquit shutdown\ncan 0\n" PIPE
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 550 no\n"
	  "S: 503 no\nS: 503 no\nR 0.0 permanent nothing mail reply 550\ndone 0\nC: QUIT\n"
	  "close shutdown" },
	{ "QUIT before the greeting just closes",
	  DEFAULTS,
	  { NO_MAIL },
	  "quit shutdown\nclose shutdown" },
	{ "shutting down in the middle",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 9) },
	  "start 0\n" PIPE
	  "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@y>\nC: DATA\nS: 250 ok\nlost shutdown\n"
	  "R 0.0 temporary again rcpt stopped\ndone 0\nclose shutdown" },
	{ "STARTTLS where it is offered, and what was offered before it is forgotten",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nphase starttls\nS: 220 go\nstart-tls\nphase tls\n"
	  "secured\nC: EHLO me\nphase ehlo\nS: 250 mx\nready\nC: MAIL FROM:<a@x>\n"
	  "S: 250 ok\nC: RCPT TO:<b@y>\nS: 550 no\nR 0.0 permanent nothing rcpt reply 550\n"
	  "done 0" },
	{ "what comes between the 220 and the handshake is dropped",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 220 go\nS: 250-evil\nS: 250 AUTH LOGIN\nS: 2"
	  "\nstart-tls\nsecured\nC: EHLO me\nS: 250 mx\nready\nC: MAIL FROM:<a@x>" },
	{ "STARTTLS that is not wanted is not used",
	  DEFAULTS,
	  { MAIL("a@x", "b@y", 10) },
	  OFFER_TLS "ready" },
	{ "STARTTLS that is not offered is not missed where it may be used",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  PIPE "quit idle\nC: QUIT\nclose idle" },
	{ "STARTTLS that is not offered ends it where it is demanded",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 250 mx\nR 0.0 temporary host ehlo no_tls\ndone 0\nC: QUIT\n"
	  "close rejected" },
	{ "a server without EHLO has no TLS",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 500 what\nC: HELO me\nS: 250 mx\n"
	  "R 0.0 temporary host helo no_tls\ndone 0\nC: QUIT\nclose rejected" },
	{ "REQUIRETLS goes with each mail that has it, where TLS is and it is offered there",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250-SIZE 1000\nS: 250 REQUIRETLS\nready\n"
	  "C: MAIL FROM:<a@x> SIZE=10 REQUIRETLS" },
	{ "REQUIRETLS that is offered but not wanted is not said",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 REQUIRETLS\nready\nC: MAIL FROM:<a@x>\nS: 250 ok" },
	{ "REQUIRETLS that is not offered ends it where it is demanded, and the host is unfit",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 SIZE\nR 0.0 permanent host ehlo no_requiretls\ndone 0\n"
	  "C: QUIT\nclose rejected" },
	{ "REQUIRETLS that was offered before TLS is none",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 250-mx\nS: 250-REQUIRETLS\nS: 250 STARTTLS\nC: STARTTLS\n"
	  "S: 220 go\nstart-tls\nsecured\nC: EHLO me\nS: 250 mx\n"
	  "R 0.0 permanent host ehlo no_requiretls\ndone 0\nC: QUIT\nclose rejected" },
	{ "a host without STARTTLS is unfit for a mail that requires TLS, whatever it offers",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 250-mx\nS: 250 REQUIRETLS\n"
	  "R 0.0 permanent host ehlo tls_needed\ndone 0\nC: QUIT\nclose rejected" },
	{ "a host without EHLO is unfit for a mail that requires TLS",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 500 what\nC: HELO me\nS: 250 mx\n"
	  "R 0.0 permanent host helo tls_needed\ndone 0\nC: QUIT\nclose rejected" },
	{ "STARTTLS that is refused for now may do later, also for a mail that requires TLS",
	  KEEP_TLS,
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 454 4.7.0 no\n"
	  "R 0.0 temporary host starttls reply 454\ndone 0\nC: QUIT\nclose rejected" },
	{ "a mail that requires TLS says nothing of it to a local server in plain text",
	  { .lmtp = true },
	  { NEEDY_MAIL("a@x", "b@y", 10) },
	  "start 0\nS: 220 x\nC: LHLO me\nS: 250-x\nS: 250 REQUIRETLS\nready\n"
	  "C: MAIL FROM:<a@x>\nS: 250 ok" },
	{ "STARTTLS that is refused is not missed where it may be used",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  OFFER_TLS "C: STARTTLS\nS: 454 4.7.0 no\nready\nstart 0\nC: MAIL FROM:<a@x>\n"
		    "C: RCPT TO:<b@y>\nC: DATA" },
	{ "STARTTLS that is refused ends it where it is demanded",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 454 4.7.0 no\n"
	  "R 0.0 temporary host starttls reply 454\ndone 0\nC: QUIT\nclose rejected" },
	{ "421 to STARTTLS ends it in any case",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 421 no\n"
	  "R 0.0 temporary host starttls reply 421\ndone 0\nclose unavailable" },
	{ "only 220 begins a handshake",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 250 ok\n"
	  "R 0.0 temporary host starttls reply 250\ndone 0\nclose protocol" },
	{ "a handshake that fails is the host's trouble",
	  IF_OFFERED,
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS "C: STARTTLS\nS: 220 go\nstart-tls\nlost tls_failed\n"
	  "R 0.0 temporary host tls tls\ndone 0\nclose tls_failed" },
	{ "STARTTLS that is offered again under TLS is not used again",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  SECURE "S: 250 STARTTLS\nready" },
	{ "implicit TLS needs no STARTTLS",
	  REQUIRED,
	  { MAIL("a@x", "b@y", 10) },
	  "secured\nphase greeting\n" PLAIN },
	{ "LMTP with STARTTLS",
	  { .lmtp = true, .tls = SENDER_TLS_REQUIRED },
	  { MAIL("a@x", "b@y", 10) },
	  "S: 220 x\nC: LHLO me\nS: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nstart-tls\n"
	  "secured\nC: LHLO me\nS: 250 x\nready" },
	{ "AUTH PLAIN in one command",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH PLAIN LOGIN\nauth PLAIN first\nphase auth\nwait\n"
	  "say nobody knows\nC: AUTH PLAIN bm9ib2R5IGtub3dz\nS: 235 2.7.0 ok\nauth PLAIN over\n"
	  "say \nready\nC: MAIL FROM:<a@x>" },
	{ "AUTH LOGIN has no initial response",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  SECURE "S: 250 AUTH LOGIN CRAM-MD5\nauth LOGIN first\nsay \nC: AUTH LOGIN\n"
		 "S: 334 VXNlcm5hbWU6\nauth LOGIN Username:\nsay ann\nC: YW5u\n"
		 "S: 334 UGFzc3dvcmQ6\nauth LOGIN Password:\nsay x\nC: eA==\nS: 235 ok\n"
		 "auth LOGIN over\nsay \nready" },
	{ "AUTH SCRAM is preferred, and an empty answer is an empty line",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  SECURE "S: 250 AUTH=LOGIN PLAIN scram-sha-256\nauth SCRAM-SHA-256 first\nsay n,,\n"
		 "C: AUTH SCRAM-SHA-256 biws\nS: 334 cj0x\nauth SCRAM-SHA-256 r=1\nsay c\n"
		 "C: Yw==\nS: 334 dj0x\nauth SCRAM-SHA-256 v=1\nsay \nC: \nS: 235 ok\n"
		 "auth SCRAM-SHA-256 over\nsay \nready" },
	{ "a mechanism that we may not use is not used",
	  WITH_AUTH(SASL_BIT(SASL_SCRAM_SHA_256)),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH PLAIN LOGIN\nR 0.0 temporary host ehlo no_auth\ndone 0\n"
	  "C: QUIT\nclose rejected" },
	{ "no AUTH in plain text",
	  { .tls = SENDER_TLS_IF_OFFERED, .auth = ANY_AUTH },
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET
	  "S: 250-mx\nS: 250 AUTH PLAIN\nR 0.0 temporary host ehlo no_tls\ndone 0\n"
	  "C: QUIT\nclose rejected" },
	{ "what was offered in plain text does not count under TLS",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" GREET "S: 250-STARTTLS\nS: 250-STARTTLS\nS: 250 AUTH PLAIN\nC: STARTTLS\n"
	  "S: 220 go\nstart-tls\nsecured\nC: EHLO me\nS: 250 mx\n"
	  "R 0.0 temporary host ehlo no_auth\ndone 0\nC: QUIT\nclose rejected" },
	{ "a password that is refused is temporary",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH PLAIN\nauth PLAIN first\nsay x\nC: AUTH PLAIN eA==\n"
	  "S: 535 5.7.8 no\nR 0.0 temporary host auth reply 535\ndone 0\nC: QUIT\nclose rejected" },
	{ "a challenge that is no base64 ends it",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH LOGIN\nauth LOGIN first\nsay \nC: AUTH LOGIN\n"
	  "S: 334 what?\nR 0.0 temporary host auth auth\ndone 0\nclose protocol" },
	{ "a challenge that the caller cannot answer ends it",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH PLAIN\nauth PLAIN first\nsay x\nC: AUTH PLAIN eA==\n"
	  "S: 334 \nauth PLAIN\nfail\nR 0.0 temporary host auth auth\ndone 0\nclose protocol" },
	{ "a 235 that proves nothing ends it where the mechanism wants a proof",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" SECURE "S: 250 AUTH SCRAM-SHA-256\nauth SCRAM-SHA-256 first\nsay n\n"
	  "C: AUTH SCRAM-SHA-256 bg==\nS: 235 hello\nauth SCRAM-SHA-256 over\nfail\n"
	  "R 0.0 temporary host auth auth\ndone 0\nclose protocol" },
	{ "EHLO that is answered as AUTH would be is no AUTH",
	  WITH_AUTH(ANY_AUTH),
	  { MAIL("a@x", "b@y", 10) },
	  "start 0\n" OFFER_TLS
	  "C: STARTTLS\nS: 220 go\nstart-tls\nsecured\nC: EHLO me\nS: 235-mx\n"
	  "S: 235 AUTH PLAIN\nauth PLAIN first\nsay x\nC: AUTH PLAIN eA==" },
};

#endif
