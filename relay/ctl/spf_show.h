/* SPDX-License-Identifier: Apache-2.0
 *
 * spf_show: the steps and the outcome of an SPF check, as text for people and as JSON. PURE, but
 * for the memory that jansson takes.
 *
 * Everything in them comes from the DNS or from the command line: bytes that are no printable ASCII
 * are shown as \xHH, so that they can neither steer a terminal nor break JSON. What is very long is
 * cut, and "..." says so.
 */
#ifndef RELAY_CTL_SPF_SHOW_H
#define RELAY_CTL_SPF_SHOW_H

#include <stdint.h>

#include "core/base/buf.h"
#include "dns/spf.h"

/* A line, or nothing where there is nothing new to people in it. */
void spf_show_step(const struct spf_step *step, struct buf *out);
void spf_show_outcome(const struct spf_outcome *o, uint64_t now_ms, struct buf *out);
/* A json_t object, to be given back by the caller; NULL without memory. */
void *spf_show_step_json(const struct spf_step *step);
/* The same; `steps` is a json_t array, whose reference is taken. */
void *spf_show_outcome_json(const struct spf_outcome *o, uint64_t now_ms, void *steps);
/* Appends a text that may have any byte. */
void spf_show_text(struct span text, struct buf *out);
/* The same as a json_t string. */
void *spf_show_json_text(struct span text);

#endif
