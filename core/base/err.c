/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/err.h"

#include <errno.h>
#include <stddef.h>

#include "core/base/assert.h"

enum err_class { CLASS_OK, CLASS_TEMPORARY, CLASS_PERMANENT };

static const struct {
	const char *name;
	const char *enhanced;
	const char *text;
	enum err_class class;
} rows[ERR_COUNT] = {
#define ERROR(name, label, class, enhanced, text) { label, enhanced, text, CLASS_##class },
#include "core/tables/errors.def"
#undef ERROR
};

const char *
err_name(enum err e)
{
	ASSERT(e < ERR_COUNT);
	return rows[e].name;
}

const char *
err_text(enum err e)
{
	ASSERT(e < ERR_COUNT);
	return rows[e].text;
}

const char *
err_enhanced(enum err e)
{
	ASSERT(e < ERR_COUNT);
	return rows[e].enhanced;
}

bool
err_is_temporary(enum err e)
{
	ASSERT(e < ERR_COUNT);
	return rows[e].class == CLASS_TEMPORARY;
}

enum err
err_of_errno(int number)
{
	switch (number < 0 ? -number : number) {
	case 0:
		return ERR_OK;
	case ENOMEM:
	case ENOBUFS:
		return ERR_NO_MEMORY;
	case ENOSPC:
	case EDQUOT:
		return ERR_NO_ROOM;
	case EIO:
	case EROFS:
		return ERR_STORAGE;
	case ECANCELED:
		return ERR_CANCELLED;
	case ETIMEDOUT:
	case ETIME:
		return ERR_TIMEOUT;
	case ECONNREFUSED:
		return ERR_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EADDRNOTAVAIL:
		return ERR_UNREACHABLE;
	case ECONNRESET:
	case EPIPE:
	case ECONNABORTED:
		return ERR_RESET;
	case EMFILE:
	case ENFILE:
		return ERR_NO_DESCRIPTORS;
	default:
		return ERR_SYSTEM;
	}
}
