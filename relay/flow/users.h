/* SPDX-License-Identifier: Apache-2.0
 *
 * users: who may log in, from the file that users.file names (its format: relay/smtp/user_line.h).
 *
 * Read by the main thread at the start, and by the control thread at a reload and when the file has
 * changed. A file that others can read is refused. Immutable, counted atomically, and read by all
 * workers: by name without regard to ASCII case, which the keyboards of phones change, and by the
 * fingerprint of a certificate. A session holds its user, and with it all the users of that file,
 * to its end.
 *
 * Memory with verifiers is wiped when it is freed.
 */
#ifndef RELAY_FLOW_USERS_H
#define RELAY_FLOW_USERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/config.h"
#include "core/file.h"
#include "relay/smtp/user_line.h"

enum { USERS_FILE_MAX = 1 << 28 };

struct users;

struct user {
	struct users *users;
	struct span name;
	bool has_verifier;
	bool disabled;
	struct sasl_verifier verifier;
	struct span
		from; /* user_line_item() takes it apart; empty: the name, if it is an address */
	uint32_t limits[USER_LIMITS]; /* or USER_LIMIT_STANDARD, USER_LIMIT_NONE */
};

struct user_certificate {
	uint8_t fingerprint[USER_FINGERPRINT_SIZE];
	uint32_t user; /* index */
};

struct users {
	atomic_uint references;
	struct file_identity identity; /* of the file; zero where none is named */
	size_t count;
	struct user *all;
	uint32_t *slots; /* by hash of the name: index plus 1; 0 is empty */
	size_t mask;
	struct user_certificate *certificates; /* by fingerprint, in order */
	size_t certificate_count;
	char *text; /* of the file: names and lists point into it */
	size_t text_size;
	/* What a user who does not exist seems to have. */
	uint8_t secret[USER_SECRET_MAX];
	size_t secret_size;
	uint32_t iterations; /* of most users' passwords */
	uint64_t load_ms;
};

/* Of a file's text, which is copied. NULL with `name:line: message; remedy`. */
struct users *users_parse(struct span name, struct span text, struct buf *why);
/* Of the file that the configuration names, or none; `old` where that has not changed. NULL with
 * one line, `file:line: message; remedy`. */
struct users *users_load(const struct config *config, struct users *old, struct buf *why);
struct users *users_get(struct users *u);
void users_put(struct users *u);

/* NULL: there is none. Disabled ones are found. */
const struct user *users_find(const struct users *u, struct span name);
const struct user *users_find_certificate(const struct users *u,
					  const uint8_t fingerprint[USER_FINGERPRINT_SIZE]);
/* One user who stands in no file, with a reference of his own (user_put). NULL: no memory. */
const struct user *user_alone(struct span name);
/* Keeps it, and all that it came with. */
const struct user *user_get(const struct user *u);
void user_put(const struct user *u);
/* For a name that nobody has, or nobody with a password. */
void users_fake(const struct users *u, struct span name, struct sasl_verifier *out);

/* A number for the state of the file: as it was read, and as it is on disk now. */
uint64_t users_state(const struct users *u);
uint64_t users_state_on_disk(const struct config *config);

#endif
