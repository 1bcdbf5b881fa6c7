/* SPDX-License-Identifier: Apache-2.0
 *
 * script: a dialogue of tests/script/README.md, read from its file. A test tool: it allocates
 * freely, and ends the program with file and line where the script is wrong.
 */
#ifndef TESTS_SCRIPT_SCRIPT_H
#define TESTS_SCRIPT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/span.h"
#include "relay/smtp/receiver.h"

enum {
	SCRIPT_GROUPS_MAX = 128,
	SCRIPT_REPLIES_MAX = 512,
	SCRIPT_POLICIES_MAX = 64,
	SCRIPT_EXPECTS_MAX = 64,
};

/* Bytes that grow. */
struct text {
	uint8_t *data;
	size_t size;
	size_t capacity;
};

void text_append(struct text *t, struct span s);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct span text_span(const struct text *t);
void text_free(struct text *t);

/* What the client sends before it reads, and how many reply lines have come by then in all. */
struct script_group {
	size_t end; /* offset in script.input behind its last byte */
	size_t replies;
};

struct script_reply {
	struct text text;
	bool exact;
	unsigned line;
};

struct script_policy {
	char question[16];
	struct text argument;
	enum reply_row row;
	struct text text;
};

enum script_expect_kind { EXPECT_EVENT, EXPECT_NO_EVENT, EXPECT_BODY };

struct script_expect {
	enum script_expect_kind kind;
	struct text text;
	unsigned line;
};

struct script {
	const char *file;
	struct text input;
	struct script_group groups[SCRIPT_GROUPS_MAX];
	size_t group_count;
	struct script_reply replies[SCRIPT_REPLIES_MAX];
	size_t reply_count;
	struct script_policy policies[SCRIPT_POLICIES_MAX];
	size_t policy_count;
	struct script_expect expects[SCRIPT_EXPECTS_MAX];
	size_t expect_count;
	enum close_reason close;
	struct receiver_options options;
	bool implicit; /* TLS came before the greeting */
	bool external; /* a certificate maps to a user */
};

struct script *script_read(const char *file);
void script_free(struct script *s);

#endif
