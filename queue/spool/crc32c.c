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
#include <immintrin.h>

#define PROCESSOR __attribute__((target("sse4.2,pclmul")))

/* The instruction takes three cycles but one can begin every cycle, so three lanes side by side
 * take the time of one. */
enum { LANE = 256 };

/* x^(8 n - 33) modulo the polynomial, reflected, for n of one and of two lanes: the product with
 * it, taken through the instruction once more, is the remainder moved over n bytes. */
static const uint32_t over_one_lane = 0xb9e02b86;
static const uint32_t over_two_lanes = 0xdd7e3b0c;

static inline uint64_t
load(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof word);
	return word;
}

PROCESSOR static inline uint64_t
multiply(uint64_t a, uint32_t b)
{
	__m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)a),
					       _mm_cvtsi64_si128((long long)b), 0);

	return (uint64_t)_mm_cvtsi128_si64(product);
}

PROCESSOR static uint64_t
three_lanes(uint64_t value, const uint8_t *p)
{
	uint64_t second = 0;
	uint64_t third = 0;

	for (const uint8_t *end = p + LANE; p < end; p += 8) {
		value = _mm_crc32_u64(value, load(p));
		second = _mm_crc32_u64(second, load(p + LANE));
		third = _mm_crc32_u64(third, load(p + 2 * LANE));
	}
	uint64_t moved = multiply(value, over_two_lanes) ^ multiply(second, over_one_lane);
	return _mm_crc32_u64(0, moved) ^ third;
}

PROCESSOR static uint32_t
crc32c_processor(uint32_t crc, const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t value = ~crc;

	for (; size >= 3 * LANE; size -= 3 * LANE, p += 3 * LANE)
		value = three_lanes(value, p);
	for (; size >= 8; size -= 8, p += 8)
		value = _mm_crc32_u64(value, load(p));
	for (; size > 0; size--, p++)
		value = _mm_crc32_u8((uint32_t)value, *p);
	return ~(uint32_t)value;
}

uint32_t
crc32c(uint32_t crc, const void *data, size_t size)
{
	/* A load and a test of what the start-up code found out; no state of ours. */
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
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
