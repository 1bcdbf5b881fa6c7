/* SPDX-License-Identifier: Apache-2.0
 *
 * user_line: one line of a file of users, which ringpostd reads and ringpostctl writes.
 *
 *   name verifier [word ...]          a user
 *   secret BASE64                     see below
 *   # ...                             nothing, and so is an empty line
 *
 * name: what a client gives as its user name, 1 to 255 bytes of UTF-8 without blanks; most often an
 * address. verifier: "SCRAM-SHA-256$iterations:salt$storedkey:serverkey" (sasl.h), or "-" for a
 * user without a password. Words, each at most once:
 *
 *   from=LIST             what the user may send from, with commas: ann@example.org, @example.org
 *                         (all of the domain), * (anything). Without it: the name, if it is an
 *                         address
 *   certificate=LIST      SHA-256 fingerprints of certificates that are as good as a password
 *                         (EXTERNAL), in hexadecimal, with or without colons
 *   mails_per_hour=N  mails_per_day=N  recipients_per_hour=N  recipients_per_day=N  connections=N
 *                         in place of what the configuration says; none: no limit
 *   disabled              may not log in
 *
 * The secret keys the salts that users who do not exist seem to have. Without it they change with
 * each start of the process, which tells who exists.
 *
 * PURE. Spans point into the line. What follows an unknown word is an error: a limit that is spelt
 * wrong must not be a user without one.
 */
#ifndef RELAY_SMTP_USER_LINE_H
#define RELAY_SMTP_USER_LINE_H

#include "relay/smtp/sasl.h"

enum {
	USER_LINE_MAX = 8192,
	USER_SECRET_MAX = 64,
	USER_FINGERPRINT_SIZE = 32,
	/* Of a limit: what the configuration says, and none. */
	USER_LIMIT_STANDARD = 0,
};
#define USER_LIMIT_NONE UINT32_MAX

enum user_line_kind { USER_LINE_NOTHING, USER_LINE_USER, USER_LINE_SECRET };

/* In the order of `user_limits`, whose names the file uses. */
enum user_limit {
	USER_MAILS_PER_HOUR,
	USER_MAILS_PER_DAY,
	USER_RECIPIENTS_PER_HOUR,
	USER_RECIPIENTS_PER_DAY,
	USER_CONNECTIONS,
	USER_LIMITS
};

struct user_line {
	enum user_line_kind kind;
	struct span name;
	bool has_verifier;
	struct sasl_verifier verifier;
	bool disabled;
	struct span from;         /* a list; empty: not given */
	struct span certificates; /* likewise */
	uint32_t limits[USER_LIMITS];
	uint8_t secret[USER_SECRET_MAX]; /* of a secret line */
	size_t secret_size;
};

/* Without its line end. NULL, or what is wrong with it: "is no ...; write ...". */
const char *user_line_parse(struct span line, struct user_line *out);
/* Cuts the next item off a list; false at its end. */
bool user_line_item(struct span *list, struct span *item);
bool user_line_fingerprint(struct span text, uint8_t out[USER_FINGERPRINT_SIZE]);
/* May it be the name of a user? */
bool user_line_is_name(struct span name);

#endif
