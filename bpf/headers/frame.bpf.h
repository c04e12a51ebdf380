/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef NEXUS_FRAME_BPF_H
#define NEXUS_FRAME_BPF_H

#include "vmlinux.h"

/* The header of package frame, little-endian. */
struct frame_header {
	u32 length; /* of everything behind this field */
	u8 version;
	u8 kind;
	u8 status;
	u8 flags;
	u32 id[2];
	u32 tenant;
	u32 checksum;
} __attribute__((packed));

enum {
	FRAME_VERSION = 1,
	KIND_GET = 5,
	KIND_QUERY = 6,
	KIND_REPLY = 0x80,
	FLAG_UNCHECKED = 1,
	LENGTH_REST =
		sizeof(struct frame_header) - sizeof(u32), /* behind the length, without a body */
};

/* The four bytes from version to flags, as one number. */
#define FRAME_WORD(kind) (FRAME_VERSION | (kind) << 8 | FLAG_UNCHECKED << 24)

#endif
