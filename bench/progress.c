/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/progress.h"

#include <stdio.h>
#include <unistd.h>

enum { BAR_WIDTH = 20, SAMPLES_A_LINE = 10 };

void
progress_init(struct progress *p, const char *what)
{
	*p = (struct progress){ .what = what, .terminal = isatty(STDERR_FILENO) == 1 };
}

static void
show_bar(double done)
{
	int full = (int)(done * BAR_WIDTH);

	if (done < 0)
		return;
	full = full > BAR_WIDTH ? BAR_WIDTH : full;
	fputc('[', stderr);
	for (int i = 0; i < BAR_WIDTH; i++)
		fputc(i < full ? '#' : '.', stderr);
	fprintf(stderr, "] %3.0f%% ", done > 1 ? 100 : done * 100);
}

static void
show_ms(uint64_t us)
{
	if (us == RESULT_NONE)
		fputc('-', stderr);
	else
		fprintf(stderr, "%.1f", (double)us / 1e3);
}

void
progress_show(struct progress *p, const struct result_sample *s, double done)
{
	if (!p->terminal && p->lines++ % SAMPLES_A_LINE != 0)
		return;
	fputs(p->terminal ? "\r\033[K" : "", stderr);
	fprintf(stderr, "%-6s %6.1f s ", p->what, s->t_s);
	if (p->terminal)
		show_bar(done);
	fprintf(stderr, "accepted %.0f/s, delivered %.0f/s, queued %llu, p99 ",
		(double)s->accepted / s->seconds, (double)s->delivered / s->seconds,
		(unsigned long long)s->queued);
	show_ms(s->accept_p99_us);
	fputs(" / ", stderr);
	show_ms(s->end_to_end_p99_us);
	fprintf(stderr, " ms, errors %llu", (unsigned long long)s->errors);
	fputs(p->terminal ? "" : "\n", stderr);
	p->shown = p->terminal;
}

void
progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
