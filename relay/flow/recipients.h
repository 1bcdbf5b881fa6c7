/* SPDX-License-Identifier: Apache-2.0
 *
 * recipients: the files of recipients that one configuration names, and what they say.
 *
 * Read by the main thread at the start, and by the control thread at a reload and when a file has
 * changed; a file that has not changed since is not read again. Immutable and shared by the
 * workers with the routing that it belongs to: a changed file is a new routing with the old
 * configuration. The paths are lent by the configuration.
 */
#ifndef RELAY_FLOW_RECIPIENTS_H
#define RELAY_FLOW_RECIPIENTS_H

#include "core/config.h"
#include "core/file.h"
#include "relay/flow/recipient_table.h"

enum { RECIPIENT_FILES_MAX = 10000 };

struct recipient_file {
	struct span path; /* with a NUL behind it */
	struct file_identity identity;
	struct recipient_table *table;
	uint64_t load_ms; /* that reading it took */
	bool fresh;       /* read for this set, not taken over from the one before */
};

struct recipients {
	size_t file_count;
	struct recipient_file *files;
	uint32_t *of_domain; /* by row of relay.domains: index in files, plus 1; 0: no file */
	size_t any_count;    /* domains that take mail for all */
	struct span any;     /* one of them */
};

/* `old`: the set in effect, or NULL. NULL with one line, `file:line: message; remedy`. */
struct recipients *recipients_load(const struct config *config, const struct recipients *old,
				   struct buf *why);
void recipients_free(struct recipients *r);
/* Does a row of relay.domains, one with a file, have this recipient? */
bool recipients_has(const struct recipients *r, const struct config *config,
		    const struct config_domain *domain, const struct address *a);

/* A number for the state of all files: as they were read, and as they are on disk now. */
uint64_t recipients_state(const struct recipients *r);
uint64_t recipients_state_on_disk(const struct recipients *r);

#endif
