/* SPDX-License-Identifier: Apache-2.0
 *
 * queue_suite_turns: whose mail comes first, where more is due at a site than can be delivered.
 */
#ifndef TESTS_LIB_QUEUE_SUITE_TURNS_H
#define TESTS_LIB_QUEUE_SUITE_TURNS_H

#include "tests/lib/queue_suite.h"

int queue_suite_turns_run(const struct queue_suite_store *kind);

#endif
