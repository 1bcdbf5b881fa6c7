/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/spool/crc32c.h"

#include <string.h>

/* Remainders of the 16 nibbles for the reflected polynomial 0x82f63b78. */
static const uint32_t nibbles[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t
crc32c_portable(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *p = data;

	crc = ~crc;
	for (size_t i = 0; i < size; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ nibbles[crc & 15];
		crc = crc >> 4 ^ nibbles[crc & 15];
	}
	return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
crc32c_processor(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t value = ~crc;

	for (; size >= 8; size -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, sizeof word);
		value = _mm_crc32_u64(value, word);
	}
	for (; size > 0; size--, p++)
		value = _mm_crc32_u8((uint32_t)value, *p);
	return ~(uint32_t)value;
}

uint32_t
crc32c(uint32_t crc, const void *data, size_t size)
{
	/* A load and a test of what the start-up code found out; no state of ours. */
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_processor(crc, data, size);
	return crc32c_portable(crc, data, size);
}

#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>

uint32_t
crc32c(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint32_t value = ~crc;

	for (; size >= 8; size -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, sizeof word);
		value = __crc32cd(value, word);
	}
	for (; size > 0; size--, p++)
		value = __crc32cb(value, *p);
	return ~value;
}

#else

uint32_t
crc32c(uint32_t crc, const void *data, size_t size)
{
	return crc32c_portable(crc, data, size);
}

#endif
