/* SPDX-License-Identifier: Apache-2.0
 *
 * admin_site: what the commands of the admin socket about sites share: asking all workers for their
 * reports, which arrive joined, one whole a site, by name. Control thread.
 */
#ifndef RELAY_CONTROL_ADMIN_SITE_H
#define RELAY_CONTROL_ADMIN_SITE_H

#include "relay/control/admin.h"
#include "relay/flow/report.h"

/* Asks for up to `wanted` sites behind the name `after` (no data: from the start), or for the one
 * of the name `only`. on_reports ends the client's request; it is not called where the request was
 * refused before. The names are lent as long as the request. */
void admin_ask_sites(struct admin_client *c, struct span after, struct span only, size_t wanted,
		     void (*on_reports)(struct admin_client *c, const struct report_set *r));
/* The list "hosts" of an answer, of the one that was asked for by its name. */
void admin_write_hosts(struct admin_client *c, const struct report_set *r);

#endif
