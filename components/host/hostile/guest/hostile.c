// One honest export, and one for each way in which a guest can misbehave.

#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))

static volatile uint32_t kept;

EXPORT("add") uint32_t add(uint32_t a, uint32_t b)
{
	return a + b;
}

// keep returns what it was given last: state that no other instance may see.
EXPORT("keep") uint32_t keep(uint32_t v)
{
	uint32_t before = kept;
	kept = v;
	return before;
}

// count takes exactly n turns of a loop.
EXPORT("count") uint32_t count(uint32_t n)
{
	uint32_t i = 0;
	while (i < n) {
		i++;
		__asm__ volatile("" : "+r"(i));
	}
	return i;
}

EXPORT("spin") void spin(void)
{
	for (;;)
		kept++;
}

// tree recurses without a loop: shallow, and for longer than anybody waits.
EXPORT("tree") __attribute__((noinline)) uint32_t tree(uint32_t depth)
{
	kept++;
	return depth == 0 ? kept : tree(depth - 1) ^ tree(depth - 1);
}

EXPORT("deep") __attribute__((noinline)) uint32_t deep(uint32_t v)
{
	kept++;
	return deep(v + 1) + kept;
}

// descend goes down n calls and comes back, out of the middle of a loop.
EXPORT("descend") __attribute__((noinline)) uint32_t descend(uint32_t n)
{
	for (uint32_t i = 0;; i++) {
		kept++;
		if (n == 0)
			return 0;
		if (i == 1) {
			uint32_t below = descend(n - 1);
			kept++; // or the compiler makes a loop of it
			return below + 1;
		}
	}
}

EXPORT("trap") void trap(void)
{
	__builtin_trap();
}

EXPORT("wild") void wild(void)
{
	*(volatile uint32_t *)0xfffffff0 = 1;
}

// grow asks for memory page by page and returns how many pages it has.
EXPORT("grow") uint32_t grow(void)
{
	while (__builtin_wasm_memory_grow(0, 1) != -1ul)
		;
	return __builtin_wasm_memory_size(0);
}

static uint8_t area[512 << 10];

// fill clears half a megabyte n times: few turns, much work.
EXPORT("fill") void fill(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		__builtin_memset(area, (int)i, sizeof area);
}

// move is the same with memory.copy, a quarter of a megabyte at a time.
EXPORT("move") void move(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		__builtin_memmove(area, area + sizeof area / 2, sizeof area / 2);
}
