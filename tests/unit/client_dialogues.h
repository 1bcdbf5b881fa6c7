/* SPDX-License-Identifier: Apache-2.0
 *
 * client_dialogues: what test_client.c plays. One row a dialogue: name, options, script.
 *
 * Lines of a script:
 *   S: text        the peer says a line
 *   C: text        we say a line
 *   offer K        there is a place, and a mail of K recipients is offered; mails count from 0
 *   full           there is no place for a mail
 *   body N         the message of mail N is to be sent
 *   mail N FATE [code] [-RECIPIENTS]     its outcome; behind '-' the numbers that are rejected
 *   tls            the handshake is to begin
 *   quit | lost | secured     what the caller does
 *   close [code] [why]
 */
#ifndef TESTS_UNIT_CLIENT_DIALOGUES_H
#define TESTS_UNIT_CLIENT_DIALOGUES_H

#include "bench/client.h"

enum { BODY_SIZE = 1000 };

struct dialogue {
	const char *name;
	struct client_options options;
	const char *script;
};

#define LOCKSTEP                        \
	{                               \
		.mode = CLIENT_LOCKSTEP \
	}
#define PIPELINED                        \
	{                                \
		.mode = CLIENT_PIPELINED \
	}
#define BDAT                                          \
	{                                             \
		.mode = CLIENT_LOCKSTEP, .bdat = true \
	}
#define PIPELINED_BDAT                                 \
	{                                              \
		.mode = CLIENT_PIPELINED, .bdat = true \
	}
#define LMTP                                          \
	{                                             \
		.mode = CLIENT_LOCKSTEP, .lmtp = true \
	}
#define PIPELINED_LMTP                                 \
	{                                              \
		.mode = CLIENT_PIPELINED, .lmtp = true \
	}
#define LMTP_BDAT                                                    \
	{                                                            \
		.lmtp = true, .mode = CLIENT_PIPELINED, .bdat = true \
	}
#define TWO_MAILS                                       \
	{                                               \
		.mode = CLIENT_LOCKSTEP, .mails_max = 2 \
	}
#define PIPELINED_TWO_MAILS                              \
	{                                                \
		.mode = CLIENT_PIPELINED, .mails_max = 2 \
	}
#define STARTTLS                                          \
	{                                                 \
		.mode = CLIENT_LOCKSTEP, .starttls = true \
	}
#define STARTTLS_PIPELINED       \
	{                        \
		.starttls = true \
	}
#define AUTH                                                       \
	{                                                          \
		.mode = CLIENT_LOCKSTEP, .login = SPAN("AHUAcA==") \
	}
#define LOGIN                                                                                     \
	{                                                                                         \
		.mode = CLIENT_LOGIN, .login = SPAN("AHUAcA=="), .starttls = true, .mails_max = 1 \
	}
#define CONNECT                                        \
	{                                              \
		.mode = CLIENT_CONNECT, .mails_max = 1 \
	}

#define HELLO(verb) "S: 220 mx ready\nC: " verb " me\nS: 250-mx\nS: 250-SIZE 0\n"
#define EHLO        HELLO("EHLO") "S: 250-PIPELINING\nS: 250 CHUNKING\n"
#define LHLO        HELLO("LHLO") "S: 250-pipelining\nS: 250 chunking\n"
#define MAIL        "C: MAIL FROM:<s@x>\n"
#define RCPT(i)     "C: RCPT TO:<r" #i "@y>\n"
#define OK          "S: 250 ok\n"
#define GO          "S: 354 go on\n"
#define NO          "S: 550 5.1.1 no\n"
/* The groups of pipelining. */
#define ONE MAIL RCPT(0) "C: DATA\n"
#define TWO MAIL RCPT(0) RCPT(1) "C: DATA\n"
#define BYE "quit\nC: QUIT\nS: 221 bye\nclose"

static const struct dialogue dialogues[] = {
	/* ---- lockstep ---- */
	{ "one mail in lockstep", LOCKSTEP,
	  EHLO "offer 2\n" MAIL "full\n" OK RCPT(0) OK RCPT(1) OK "C: DATA\n" GO "body 0\nfull\n" OK
								  "mail 0 accepted\n" BYE },
	{ "two mails in lockstep, no RSET between them", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\n" OK "mail 0 accepted\n"
					      "offer 1\n" MAIL OK RCPT(0) OK
	  "C: DATA\n" GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "MAIL is refused in lockstep", LOCKSTEP,
	  EHLO "offer 1\n" MAIL NO "mail 0 refused 550\noffer 1\n" MAIL OK RCPT(0) OK
	  "C: DATA\n" GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "one recipient is refused in lockstep", LOCKSTEP,
	  EHLO "offer 3\n" MAIL OK RCPT(0) OK RCPT(1) NO RCPT(2) OK "C: DATA\n" GO "body 0\n" OK
								    "mail 0 accepted -1\n" BYE },
	{ "all recipients are refused in lockstep: RSET before the next mail", LOCKSTEP,
	  EHLO "offer 2\n" MAIL OK RCPT(0) NO RCPT(1) "S: 450 later\nmail 0 refused 450 -01\n"
						      "offer 1\nC: RSET\n" OK MAIL OK RCPT(0) OK
	  "C: DATA\n" GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "DATA is refused in lockstep: RSET before the next mail", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\nS: 451 no\nmail 0 refused 451\n"
					      "offer 1\nC: RSET\n" OK MAIL
					      "lost\nmail 1 refused\nclose lost" },
	{ "the end of data is refused in lockstep", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\nS: 554 no\n"
					      "mail 0 refused 554\noffer 1\n" MAIL
					      "lost\nmail 1 refused\nclose lost" },
	{ "a reply of several lines is one", LOCKSTEP,
	  EHLO "offer 1\n" MAIL "S: 250-a\nS: 250-b\nS: 250 c\n" RCPT(0) OK
	  "C: DATA\nS: 354-x\n" GO "body 0\nS: 250-a\nS: 250 b\nmail 0 accepted\n" BYE },
	{ "a peer without PIPELINING is spoken to in lockstep", PIPELINED,
	  HELLO("EHLO") "S: 250 CHUNKING\noffer 2\n" MAIL "full\n" OK RCPT(0) OK RCPT(1) OK
	  "C: DATA\n" GO "body 0\nfull\n" OK "mail 0 accepted\n" BYE },
	{ "CHUNKING alone does not make BDAT where it was not asked for", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\n" OK
					      "mail 0 accepted\n" BYE },

	/* ---- pipelined ---- */
	{ "a mail leaves as one group", PIPELINED,
	  EHLO "offer 2\n" TWO "full\n" OK OK OK "full\n" GO "body 0\n" OK
	       "mail 0 accepted\n" BYE },
	{ "the next group follows the end of data without waiting", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 2\n" TWO "full\n" OK "mail 0 accepted\n"
	       "full\n" OK OK OK GO "body 1\noffer 1\n" ONE OK "mail 1 accepted\n" OK OK GO
	       "body 2\n" OK "mail 2 accepted\n" BYE },
	{ "replies to a mail and the one behind it in one read", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 1\n" ONE OK OK OK GO "mail 0 accepted\n"
	       "body 1\nquit\n" OK "mail 1 accepted\nC: QUIT\nS: 221 bye\nclose" },
	{ "MAIL is refused in a group", PIPELINED,
	  EHLO "offer 2\n" TWO NO "S: 503 a\nS: 503 b\nS: 503 c\nmail 0 refused 503 -01\n"
	       "offer 1\nC: RSET\n" ONE OK OK OK GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "a recipient is refused in a group", PIPELINED,
	  EHLO "offer 2\n" TWO OK NO OK GO "body 0\n" OK "mail 0 accepted -0\n" BYE },
	{ "all recipients are refused in a group", PIPELINED,
	  EHLO "offer 2\n" TWO OK NO NO "S: 554 none\nmail 0 refused 554 -01\n"
	       "offer 1\nC: RSET\n" ONE OK OK OK GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "DATA is taken although all recipients were refused (RFC 2920 3.1)", PIPELINED,
	  EHLO "offer 1\n" ONE OK NO GO "body 0\nfull\nS: 554 none\nmail 0 refused 554 -0\n"
	       "offer 1\nC: RSET\n" ONE "lost\nmail 1 refused\nclose lost" },
	{ "a 250 for nobody is no acceptance", PIPELINED,
	  EHLO "offer 1\n" ONE OK NO GO "body 0\n" OK "mail 0 refused 250 -0\n" BYE },
	{ "DATA is refused in a group", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK
	       "S: 451 no\nmail 0 refused 451\noffer 1\nC: RSET\n" ONE OK OK OK GO "body 1\n" OK
	       "mail 1 accepted\n" BYE },
	{ "the end of data is refused while the next group is out", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 1\n" ONE
	       "S: 452 full\nmail 0 refused 452\n" OK OK GO "body 1\n" OK "mail 1 accepted\n" BYE },
	{ "RSET is refused, which changes nothing", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK "S: 451 no\nmail 0 refused 451\noffer 1\nC: RSET\n" ONE
	       "S: 500 what\n" OK OK GO "body 1\n" OK "mail 1 accepted\n" BYE },

	/* ---- BDAT ---- */
	{ "BDAT in lockstep: the chunk follows its command", BDAT,
	  EHLO "offer 2\n" MAIL OK RCPT(0) OK RCPT(1) OK "C: BDAT 1000 LAST\nbody 0\nfull\n" OK
							 "mail 0 accepted\n" BYE },
	{ "BDAT in a group with its envelope", PIPELINED_BDAT,
	  EHLO "offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 0\nfull\n" OK "full\n" OK
					"offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 1\n" OK
								 "mail 0 accepted\n" OK OK OK
								 "mail 1 accepted\n" BYE },
	{ "all recipients are refused in front of a BDAT in lockstep", BDAT,
	  EHLO "offer 1\n" MAIL OK RCPT(0) NO "mail 0 refused 550 -0\noffer 1\nC: RSET\n" OK MAIL
					      "lost\nmail 1 refused\nclose lost" },
	{ "all recipients are refused in front of a BDAT in a group", PIPELINED_BDAT,
	  EHLO "offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 0\n" OK NO "full\nS: 503 none\n"
					"mail 0 refused 503 -0\noffer 1\nC: RSET\n" MAIL RCPT(
						0) "C: BDAT 1000 LAST\n"
						   "body 1\n" OK OK OK OK "mail 1 accepted\n" BYE },
	{ "MAIL is refused in front of a BDAT in a group", PIPELINED_BDAT,
	  EHLO "offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 0\nS: 421 no\n"
					"mail 0 doubt\nclose 421 the server ended it" },
	{ "BDAT is refused", BDAT,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: BDAT 1000 LAST\nbody 0\nS: 552 big\n"
					      "mail 0 refused 552\n" BYE },
	{ "BDAT needs CHUNKING", BDAT,
	  HELLO("EHLO") "S: 250 PIPELINING\nclose CHUNKING is not offered, which --bdat "
			"needs" },

	/* ---- LMTP ---- */
	{ "LMTP: a reply a recipient", LMTP,
	  LHLO "offer 2\n" MAIL OK RCPT(0) OK RCPT(1) OK "C: DATA\n" GO "body 0\n" OK "full\n" OK
							 "mail 0 accepted\n" BYE },
	{ "LMTP: those refused at RCPT have no reply at the end", PIPELINED_LMTP,
	  LHLO "offer 3\n" MAIL RCPT(0) RCPT(1) RCPT(2) "C: DATA\n" OK NO OK NO GO "body 0\n" OK
							"mail 0 accepted -02\n" BYE },
	{ "LMTP: each may be refused at the end", PIPELINED_LMTP,
	  LHLO "offer 3\n" MAIL RCPT(0) RCPT(1) RCPT(2) "C: DATA\n" OK OK OK OK GO
							"body 0\nS: 450 later\n" OK
							"S: 550 no\nmail 0 accepted -02\n" BYE },
	{ "LMTP: all refused at the end is a refusal", PIPELINED_LMTP,
	  LHLO "offer 2\n" TWO OK OK OK GO "body 0\nS: 450 later\nS: 550 no\n"
	       "mail 0 refused 550 -01\n" BYE },
	{ "LMTP: the next group is out while replies come", PIPELINED_LMTP,
	  LHLO "offer 2\n" TWO OK OK OK GO "body 0\noffer 2\n" TWO OK "full\n" NO
	       "mail 0 accepted -1\n" OK OK NO GO "body 1\n" OK "mail 1 accepted -1\n" BYE },
	{ "LMTP: no recipient at all", PIPELINED_LMTP,
	  LHLO "offer 1\n" ONE OK NO "S: 503 none\nmail 0 refused 503 -0\n" BYE },
	{ "LMTP by BDAT", LMTP_BDAT,
	  LHLO "offer 2\n" MAIL RCPT(0) RCPT(1) "C: BDAT 1000 LAST\nbody 0\n" OK NO OK OK
						"mail 0 accepted -0\n" BYE },
	{ "LMTP: lost before any reply at the end", LMTP,
	  LHLO "offer 2\n" MAIL OK RCPT(0) OK RCPT(1) OK "C: DATA\n" GO
							 "body 0\nlost\nmail 0 doubt\nclose lost" },
	{ "LMTP: lost between the replies at the end", LMTP,
	  LHLO "offer 3\n" MAIL OK RCPT(0) OK RCPT(1) OK RCPT(2) OK
	  "C: DATA\n" GO "body 0\n" OK "lost\nmail 0 accepted -12\nclose lost" },
	{ "LMTP: lost between the replies at the end, none of them good", LMTP,
	  LHLO "offer 2\n" MAIL OK RCPT(0) OK RCPT(1) OK "C: DATA\n" GO "body 0\n" NO
							 "lost\nmail 0 doubt -0\nclose lost" },

	/* ---- ends ---- */
	{ "no more than mails_max on one connection", TWO_MAILS,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\n" OK "mail 0 accepted\n"
					      "offer 1\n" MAIL NO
					      "mail 1 refused 550\nC: QUIT\nS: 221 bye\nclose" },
	{ "no more than mails_max, pipelined", PIPELINED_TWO_MAILS,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 1\n" ONE OK "mail 0 accepted\n" OK OK GO
	       "body 1\nfull\n" OK "mail 1 accepted\nC: QUIT\nS: 221 bye\nclose" },
	{ "quit before any mail", PIPELINED, EHLO BYE },
	{ "quit during the greeting", PIPELINED,
	  "quit\nS: 220 mx\nC: EHLO me\nS: 250 mx\nC: QUIT\nS: 221 bye\nclose" },
	{ "quit lets the mail in hand end", PIPELINED,
	  EHLO "offer 1\n" ONE "quit\n" OK OK GO "body 0\nfull\n" OK
	       "mail 0 accepted\nC: QUIT\nS: 221 bye\nclose" },
	{ "a connection that goes instead of a reply to QUIT ends in peace", PIPELINED,
	  EHLO "quit\nC: QUIT\nlost\nclose" },
	{ "the greeting is a refusal", PIPELINED,
	  "S: 554 no\nclose 554 the greeting was a refusal" },
	{ "EHLO is refused", PIPELINED,
	  "S: 220 mx\nC: EHLO me\nS: 502 no\nclose 502 EHLO was refused" },
	{ "421 to EHLO", PIPELINED,
	  "S: 220 mx\nC: EHLO me\nS: 421 no\nclose 421 EHLO was refused" },
	{ "no SMTP at all", PIPELINED, "S: HTTP/1.1 400\nclose the peer does not speak SMTP" },
	{ "no SMTP in a mail", PIPELINED,
	  EHLO "offer 1\n" ONE OK "S: hello\nmail 0 refused\nclose the peer does not speak SMTP" },
	{ "no SMTP behind a body", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\nS: hello\nmail 0 doubt\n"
	       "close the peer does not speak SMTP" },
	{ "a reply without a command", PIPELINED,
	  EHLO OK "close 250 a reply came without a command" },
	{ "421 without a command", PIPELINED,
	  EHLO "S: 421 idle\nclose 421 a reply came without a command" },
	{ "421 to MAIL", LOCKSTEP,
	  EHLO "offer 1\n" MAIL "S: 421 bye\nmail 0 refused 421\nclose 421 the server ended it" },
	{ "421 to RCPT", LOCKSTEP,
	  EHLO "offer 2\n" MAIL OK RCPT(
		  0) "S: 421 bye\nmail 0 refused -0\nclose 421 the server ended it" },
	{ "421 to DATA", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\nS: 421 bye\nmail 0 refused 421\n"
					      "close 421 the server ended it" },
	{ "421 to the end of data", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\nS: 421 bye\n"
					      "mail 0 refused 421\nclose 421 the server ended it" },
	{ "421 to the end of data while the next group is out", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 1\n" ONE "S: 421 bye\nmail 0 refused 421\n"
	       "mail 1 refused\nclose 421 the server ended it" },

	/* ---- TLS and AUTH ---- */
	{ "STARTTLS", STARTTLS,
	  EHLO
	  "C: STARTTLS\nS: 220 go\ntls\nsecured\nC: EHLO me\nS: 250 mx\noffer 1\n" MAIL OK RCPT(0)
		  OK "C: DATA\n" GO "body 0\n" OK "mail 0 accepted\n" BYE },
	{ "what was offered in plain text does not count", STARTTLS_PIPELINED,
	  EHLO
	  "C: STARTTLS\nS: 220 go\ntls\nsecured\nC: EHLO me\nS: 250 mx\noffer 1\n" MAIL OK RCPT(0)
		  OK "C: DATA\n" GO "body 0\nfull\n" OK "mail 0 accepted\n" BYE },
	{ "STARTTLS is refused", STARTTLS,
	  EHLO "C: STARTTLS\nS: 454 no\nclose 454 STARTTLS was refused" },
	{ "lost in the handshake", STARTTLS, EHLO "C: STARTTLS\nS: 220 go\ntls\nlost\nclose lost" },
	{ "AUTH", AUTH,
	  EHLO "C: AUTH PLAIN AHUAcA==\nS: 235 in\noffer 1\n" MAIL OK RCPT(0) OK
	  "C: DATA\n" GO "body 0\n" OK "mail 0 accepted\n" BYE },
	{ "AUTH is refused", AUTH,
	  EHLO "C: AUTH PLAIN AHUAcA==\nS: 535 no\nclose 535 AUTH was refused" },
	{ "a login", LOGIN,
	  EHLO "C: STARTTLS\nS: 220 go\ntls\nsecured\nC: EHLO me\nS: 250 mx\noffer 1\n"
	       "C: AUTH PLAIN AHUAcA==\nS: 235 in\nmail 0 accepted\nC: QUIT\nS: 221 bye\nclose" },
	{ "a login that is refused", LOGIN,
	  EHLO
	  "C: STARTTLS\nS: 220 go\ntls\nsecured\nC: EHLO me\nS: 250 mx\noffer 1\n"
	  "C: AUTH PLAIN AHUAcA==\nS: 535 no\nmail 0 refused 535\nC: QUIT\nS: 221 bye\nclose" },
	{ "a connection", CONNECT, EHLO "offer 1\nC: QUIT\nS: 221 bye\nmail 0 accepted\nclose" },

	/* ---- losses: in doubt is what had its end of data sent ---- */
	{ "lost before the greeting", PIPELINED, "lost\nclose lost" },
	{ "lost in EHLO", PIPELINED, "S: 220 mx\nC: EHLO me\nlost\nclose lost" },
	{ "lost while idle", PIPELINED, EHLO "lost\nclose lost" },
	{ "lost in MAIL", LOCKSTEP, EHLO "offer 1\n" MAIL "lost\nmail 0 refused\nclose lost" },
	{ "lost in RCPT", LOCKSTEP,
	  EHLO "offer 2\n" MAIL OK RCPT(0) OK RCPT(1) "lost\nmail 0 refused\nclose lost" },
	{ "lost in DATA", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\nlost\nmail 0 refused\nclose lost" },
	{ "lost behind the end of data", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\nlost\nmail 0 doubt\n"
					      "close lost" },
	{ "lost in a group", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK "lost\nmail 0 refused\nclose lost" },
	{ "lost with the next group out", PIPELINED,
	  EHLO "offer 1\n" ONE OK OK GO "body 0\noffer 1\n" ONE "lost\nmail 0 doubt\n"
	       "mail 1 refused\nclose lost" },
	{ "lost in a group with a chunk", PIPELINED_BDAT,
	  EHLO "offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 0\nlost\nmail 0 doubt\n"
					"close lost" },
	{ "lost with two chunks out", PIPELINED_BDAT,
	  EHLO "offer 1\n" MAIL RCPT(0) "C: BDAT 1000 LAST\nbody 0\n" OK OK "offer 1\n" MAIL RCPT(
		  0) "C: BDAT 1000 LAST\nbody 1\nlost\nmail 0 doubt\nmail 1 doubt\nclose "
		     "lost" },
	{ "lost in front of a chunk in lockstep", BDAT,
	  EHLO "offer 1\n" MAIL OK RCPT(0) "lost\nmail 0 refused\nclose lost" },
	{ "lost in the middle of a reply", LOCKSTEP,
	  EHLO "offer 1\n" MAIL OK RCPT(0) OK "C: DATA\n" GO "body 0\nS: 250-a\nlost\n"
					      "mail 0 doubt\nclose lost" },
};

#endif
