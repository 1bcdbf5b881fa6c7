/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_eval: what the evaluator makes of the cases of a file (tests/spf/README.md), whatever they
 * expect. One line each: the line of the case, result, mechanism, explanation, lookups and voids,
 * parted by tabs.
 */
#include <stdio.h>

#include "dns/spf.h"
#include "tests/lib/spf_zone.h"

static void
run(const struct spf_case *c)
{
	struct spf *s = spf_new();
	struct spf_question q;

	spf_begin(s, &c->in, NULL, NULL);
	while (spf_next(s, &q)) {
		struct dns_answer *a = spf_zone_answer(c->zone, q.name, q.type, 0);
		spf_answer(s, a);
		dns_answer_put(a);
	}
	const struct spf_outcome *o = spf_outcome(s);
	printf("%u\t%s\t%.*s\t%.*s\t%u\t%u\n", c->line, spf_result_label(o->result),
	       SPAN_ARG(o->mechanism), SPAN_ARG(o->explanation), o->lookups, o->voids);
	spf_free(s);
}

int
main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	spf_zone_read(argv[1], run);
	return 0;
}
