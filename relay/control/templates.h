/* SPDX-License-Identifier: Apache-2.0
 *
 * templates: reads the texts of reports to senders from the directory of bounces.templates.
 *
 * Main or control thread, for --check-config, at start and at each reload. A file that is not there
 * leaves the built-in text; a directory without any of them is an error, since its name was meant.
 */
#ifndef RELAY_CONTROL_TEMPLATES_H
#define RELAY_CONTROL_TEMPLATES_H

#include "core/base/buf.h"
#include "core/config.h"
#include "relay/message/dsn.h"

/* *out: by enum dsn_action, those without a file zeroed; one piece of memory, free() ends it. NULL
 * where no directory is configured. False with "file:line: message; remedy" in `why`. */
bool templates_load(const struct config *config, struct dsn_template **out, struct buf *why);

#endif
