/* SPDX-License-Identifier: Apache-2.0
 *
 * report_page: the template of the report's page, as bytes in the program.
 *
 * Made at build time from bench/page/ by bench/page/embed.cmake. It holds the mark @RESULTS@ once,
 * where the results belong, as JSON inside of a script element.
 */
#ifndef BENCH_REPORT_PAGE_H
#define BENCH_REPORT_PAGE_H

#include <stddef.h>

extern const unsigned char report_page[];
extern const size_t report_page_size;

#endif
