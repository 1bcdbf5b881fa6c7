/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/idn.h"

#include <idn2.h>

#include "dns/name.h"

enum { TEXT_MAX = 1024 }; /* 253 bytes as A-labels are not more as U-labels */

size_t
idn_to_ascii(struct span domain, char out[DNS_NAME_MAX + 1])
{
	char text[TEXT_MAX];
	char *ascii = NULL;
	bool is_ascii = true;
	size_t size = 0;

	out[0] = 0;
	for (size_t i = 0; i < domain.size; i++)
		is_ascii &= domain.data[i] < 0x80;
	if (is_ascii)
		return name_normalize(domain, out);
	if (domain.size >= sizeof text || span_find(domain, 0, 0) < domain.size)
		return 0;
	memcpy(text, domain.data, domain.size);
	text[domain.size] = 0;
	/* Upper case and full-width dots are mapped as users expect (UTS 46), without the
	 * deviations of IDNA 2003. */
	if (idn2_to_ascii_8z(text, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK)
		size = name_normalize(span_of_string(ascii), out);
	idn2_free(ascii);
	return size;
}
