/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in texts of reports: dsn_built_in() of dsn.h.
 */
#include "core/base/assert.h"
#include "relay/message/dsn.h"

#define BEGINNING                                   \
	"This is the mail system at ${hostname}.\n" \
	"\n"                                        \
	"Your message of ${arrival_date}\n"
#define ENDING \
	"\n"   \
	"${returned} Our reference is ${queue_id}.\n"

static const struct dsn_template failed = {
	SPAN("Your message could not be delivered"),
	SPAN(BEGINNING "could not be delivered to:\n"
		       "\n"
		       "${recipients}\n"
		       "\n"
		       "It will not be tried again. Please check each address and what is said\n"
		       "about it. If the address is right, send this report to the postmaster of\n"
		       "the recipient's domain, or reach the recipient in another way.\n" ENDING),
};

static const struct dsn_template delayed = {
	SPAN("Your message is delayed"),
	SPAN(BEGINNING "could not be delivered yet to:\n"
		       "\n"
		       "${recipients}\n"
		       "\n"
		       "You need not do anything, and need not send the message again: it will be\n"
		       "tried until ${retry_until}.\n"
		       "If it cannot be delivered by then, you will be told.\n" ENDING),
};

static const struct dsn_template relayed = {
	SPAN("Your message was passed on"),
	SPAN(BEGINNING "was passed on to a mail system that does not confirm deliveries, for:\n"
		       "\n"
		       "${recipients}\n"
		       "\n"
		       "You asked to be told of the delivery. This is all that will be known of\n"
		       "it, unless a later system reports that it failed.\n" ENDING),
};

static const struct dsn_template delivered = {
	SPAN("Your message was delivered"),
	SPAN(BEGINNING "was delivered to:\n"
		       "\n"
		       "${recipients}\n"
		       "\n"
		       "You asked to be told. Whether it was read is not known.\n" ENDING),
};

#define WITHHELD                                                                  \
	"This is the mail system at ${hostname}.\n"                               \
	"\n"                                                                      \
	"There is a report about a message of yours that required TLS\n"          \
	"(REQUIRETLS). It must be protected as the message was, and cannot be\n"  \
	"sent so to:\n"                                                           \
	"\n"                                                                      \
	"${recipients}\n"                                                         \
	"\n"                                                                      \
	"What it says is left out here. The postmaster of this system can tell\n" \
	"it to you. Our reference is ${queue_id}.\n"

static const struct dsn_template withheld[DSN_ACTIONS] = {
	[DSN_FAILED] = { SPAN("A report to you is withheld"), SPAN(WITHHELD) },
};

const struct dsn_template *
dsn_withheld(void)
{
	return withheld;
}

const struct dsn_template *
dsn_built_in(enum dsn_action a)
{
	static const struct dsn_template *const words[DSN_ACTIONS] = {
		[DSN_FAILED] = &failed,
		[DSN_DELAYED] = &delayed,
		[DSN_RELAYED] = &relayed,
		[DSN_DELIVERED] = &delivered,
	};

	ASSERT(a < DSN_ACTIONS);
	return words[a];
}
