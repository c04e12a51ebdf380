// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * A program without any library that calls functions with RocksDB's signatures
 * and has its batches, classes and vtables where a stripped RocksDB has them: what
 * the probe is proved with on kernels that boot without a file system, and what
 * the walk from a class's name to its functions is tested on. It stores nothing.
 * Each byte of standard input is a command, and is answered with the same byte:
 *
 *   c  a write that succeeds: a put, a put into column family 300, a delete
 *   r  a write that is refused
 *   m  a write of one put with a value of 100,000 bytes
 *   u  a write whose batch holds a record that does not exist
 *   p  Put    k  Commit    b  Rollback
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

struct status {
	u8 code, rest[15];
};

struct batch {
	u8 other[64];
	const u8 *text;
	u64 len;
};

typedef struct status *write_fn(struct status *, void *, void *, struct batch *);

/* Where the engine would do its work; the compiler must not look through it. */
#define KEEP __attribute__((noinline, used)) static

static volatile u64 sequence = 0;
static volatile u8 refuse = 0;
static u8 text[100100];

KEEP struct status *db_write(struct status *s, void *db, void *options, struct batch *b)
{
	s->code = refuse ? 11 : 0;
	if (!refuse) {
		u64 first = sequence + 1;
		u32 count;

		__builtin_memcpy(&count, text + 8, 4);
		__builtin_memcpy(text, &first, 8);
		sequence += count;
	}
	__asm__ volatile("" ::"r"(db), "r"(options), "r"(b) : "memory");
	return s;
}

KEEP void put(void)
{
	__asm__ volatile("nop");
}

KEEP void commit(void)
{
	__asm__ volatile("nop; nop");
}

KEEP void rollback(void)
{
	__asm__ volatile("nop; nop; nop");
}

KEEP void other(void)
{
	__asm__ volatile("nop; nop; nop; nop");
}

/* As the compiler of C++ lays them out: offset to the top, typeinfo, functions;
 * and in the typeinfo its own vtable, the name. */
struct typeinfo {
	const void *vtable;
	const char *name;
};

#define CLASS(id, mangled, ...)                                                                    \
	static const char id##_name[] = "\0" mangled;                                              \
	static const struct typeinfo id##_type = {&other, id##_name + 1};                          \
	__attribute__((used)) static const struct {                                                \
		long top;                                                                          \
		const struct typeinfo *type;                                                       \
		void *slots[4];                                                                    \
		long end;                                                                          \
	} id##_table = {0, &id##_type, {__VA_ARGS__}, 1}

CLASS(db, "N7rocksdb6DBImplE", other, other, db_write, other);
CLASS(batch, "N7rocksdb10WriteBatchE", other, other, put, other);
CLASS(transaction, "N7rocksdb21OptimisticTransactionE", other, other, commit, rollback);

static long call3(long n, long a, long b, long c)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return r;
}

static u64 append(u64 at, const char *bytes, u64 n)
{
	for (u64 i = 0; i < n; i++)
		text[at + i] = bytes[i];
	return at + n;
}

static void write(u32 count, u64 len, u8 refused)
{
	struct batch b = {.text = text, .len = len};
	struct status s;

	__builtin_memcpy(text + 8, &count, 4);
	refuse = refused;
	db_write(&s, &b, &b, &b);
}

static void write_three(u8 refused)
{
	u64 at = 12;

	at = append(at, "\x01\x04key1\x06value1", 13);
	at = append(at, "\x05\xac\x02\x04key2\x06value2", 15);
	at = append(at, "\x00\x04key1", 6);
	write(3, at, refused);
}

/* 100000 is a0 8d 06 as a varint. */
static void write_large(void)
{
	u64 at = append(12,
			"\x01\x03"
			"big\xa0\x8d\x06",
			8);

	for (u64 i = 0; i < 100000; i++)
		text[at++] = 'x';
	write(1, at, 0);
}

static void write_unknown(void)
{
	u64 at = append(12,
			"\x01\x01"
			"a\x01"
			"b\x7f\x01"
			"c",
			8);

	write(2, at, 0);
}

static void obey(char command)
{
	switch (command) {
	case 'c':
	case 'r':
		return write_three(command == 'r');
	case 'm':
		return write_large();
	case 'u':
		return write_unknown();
	case 'p':
		return put();
	case 'k':
		return commit();
	case 'b':
		return rollback();
	}
}

__attribute__((noreturn, used)) void run(void)
{
	char command;

	while (call3(0, 0, (long)&command, 1) == 1) {
		obey(command);
		call3(1, 1, (long)&command, 1);
	}
	call3(60, 0, 0, 0);
	__builtin_unreachable();
}

/* The stack must be aligned as for a call. */
__attribute__((naked, noreturn)) void _start(void)
{
	__asm__("and $-16, %rsp; call run");
}
