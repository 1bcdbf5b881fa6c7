/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_mx: a modelled DNS behind the symbols of dns/mx.h, in place of the library `dns`.
 *
 * "siteN.example" has one MX host, which is 127.0.0.1 with port first_port + N. Answers come after
 * a random virtual time, live for a random TTL, and now and then fail or are bogus instead.
 * "from.example" has the host of "site0.example"; all other names do not exist.
 */
#ifndef TESTS_FAULT_SIM_MX_H
#define TESTS_FAULT_SIM_MX_H

#include <stdint.h>

#include "core/worker.h"
#include "dns/mx.h"

struct resolver *sim_resolver_new(struct worker *w, uint16_t first_port);
/* No lookup is under way. */
void sim_resolver_free(struct resolver *r);
/* For the other lookups: whose it is, and that one more is under way, or one less. */
struct worker *sim_resolver_worker(struct resolver *r);
void sim_resolver_count(struct resolver *r, bool begins);
/* From now on nothing fails, but for what was lost. */
void sim_resolver_calm(void);
/* The domain of this site cannot be resolved until this time; UINT64_MAX: for ever. Of this
 * incarnation. */
void sim_resolver_lose(unsigned site, uint64_t until_us);

#endif
