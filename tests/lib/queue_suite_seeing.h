/* SPDX-License-Identifier: Apache-2.0
 *
 * queue_suite_seeing: filters, one mail with its recipients, counts.
 */
#ifndef TESTS_LIB_QUEUE_SUITE_SEEING_H
#define TESTS_LIB_QUEUE_SUITE_SEEING_H

#include "tests/lib/queue_suite.h"

int queue_suite_seeing_run(const struct queue_suite_store *kind);

#endif
