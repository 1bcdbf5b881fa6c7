/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_zone: a zone and questions about it, read from the files in tests/spf. See README.md there.
 */
#ifndef TESTS_LIB_SPF_ZONE_H
#define TESTS_LIB_SPF_ZONE_H

#include <stdbool.h>

#include "dns/spf.h"

enum { SPF_CASE_LINE_MAX = 70000 };

struct spf_zone;

struct spf_case {
	const struct spf_zone *zone;
	const char *file;
	unsigned line;
	char name[200];
	char helo[300];
	char from[600];
	struct spf_inputs in;
	/* What is expected; what is empty or -1 does not matter. */
	enum spf_result result;
	bool has_explanation;
	char explanation[SPF_EXPLANATION_MAX + 1];
	char mechanism[300];
	char of[300];
	char problem[300];
	int lookups;
	int voids;
	int security; /* enum dns_security */
	long ttl_s;
};

/* Calls `run` for each case of the file, with what the lines in front of it said. Fails the test
 * where the file cannot be understood. */
void spf_zone_read(const char *path, void (*run)(const struct spf_case *c));
/* With a reference for the caller. `now_ms` is what the lives of answers count from. */
struct dns_answer *spf_zone_answer(const struct spf_zone *z, struct span name, enum dns_type type,
				   uint64_t now_ms);

#endif
