// Package seglog is an append-only segment log for many tenants: records are
// acknowledged when they are durable, and all tenants' records that arrive
// while one commit is under way share the next one (group commit over
// io_uring). Recovery cuts a torn tail and nothing else.
//
// # Layers
//
// Log is for concurrent use: Append blocks until durable. It drives an Engine
// from one committing thread. Engine is the same log without threads or locks,
// for a server with an event loop of its own (package ringserver). Below is a
// Device, the disk as the log sees it: Dir (a folder, by io_uring or pwrite),
// or the simulated disk of package faultdisk.
//
// # Files
//
// A log is a folder of segments, named by their number in 16 hexadecimal
// digits and ".seg", numbered without gaps. A segment is prepared ahead of
// need: created as ".tmp", filled with zeros, header written, synced, renamed,
// folder synced. So a name ending in ".seg" vouches for a good header; without
// one it is corrupt. All integers are little-endian.
//
//	segment header, one block of 4096 bytes
//	0   8  magic "NXSGLOG1"
//	8   4  format version, 1
//	12  4  block size, 4096
//	16  8  segment number
//	24  8  salt, random for each segment
//	32  8  base position: where the file begins in the endless log;
//	       the next segment's is this one's plus its capacity
//	40  8  capacity, bytes
//	48  8  creation time, Unix ns
//	56  4  CRC32C of bytes 0 to 55
//
// Batches follow, each starting at a block boundary and padded with zeros to
// the next, so that a block that holds acknowledged records is never written
// again and cannot be torn by a later write.
//
//	batch header
//	0   4  magic "NBTH"
//	4   4  CRC32C of bytes 8 to 39
//	8   8  position of this header
//	16  8  durable mark: all below was durable before this batch was submitted
//	24  4  length of the records, bytes
//	28  4  number of records
//	32  8  time of the commit, Unix ns
//
//	record, aligned to 8 bytes
//	0   4  CRC32C of bytes 4 to the end of the payload
//	4   4  payload length
//	8   4  tenant
//	12  4  offset in the segment of the tenant's previous record there, or 0
//	16  8  sequence in the tenant's log: 1, 2, 3 …
//	24     payload, padded with zeros
//
// Checksums of batches and records start from a mix of the segment's salt and
// their own position. Bytes of an earlier life of the disk's blocks, or of
// another place in the file, therefore do not verify.
//
// The file "retention" (see retention.go) exists once segments were removed:
// it holds the first kept segment and each tenant's first kept sequence.
//
// # What recovery accepts
//
// A batch counts when its header and all its records verify; records of a
// batch are thus found all or none. A segment's batches end at the first that
// doesn't verify. That end is a torn tail only if nothing behind it was ever
// acknowledged. The durable marks decide: the first batch of the following
// segment says exactly how far this one was durable; in the last segment it is
// the highest mark of any batch, those behind the broken place included. Valid
// data that ends below the mark is corruption: CorruptError with file and
// offset, and nothing on disk is changed. Numbers of segments, positions and
// every tenant's sequences must follow each other without gaps as well.
// A clean Close writes an empty batch whose mark covers the last records, too.
// The one thing that cannot be told apart is damage to the very last batch
// after a crash: it looks like the torn write that it may have been.
//
// After recovery appending goes on in a new segment.
//
// # Two commits in flight
//
// A server may write the next batch of a segment while the one before is being
// made durable, and the disk may finish them in any order. They are acknowledged
// in the order of the log. So a power cut leaves of two batches none, the first,
// both, or a torn first one and an intact second one. The last is a torn tail
// like any other: the second batch's mark was taken when it was submitted and
// lies at or below the first one's start, so nothing from there on was
// acknowledged, and the tail is cut with both. Batches of two segments are never
// in flight together, as the first mark in the next segment says exactly how far
// the one before is durable.
//
// # Failing disks
//
// Any error of a write or sync but a full disk is fatal to the segment: after
// a failed fsync the kernel may have dropped the dirty pages and report success
// next time, so a retry proves nothing. The segment is cut at its last durable
// position and sealed once no write to it is out any more, all records that were
// in flight or staged get ErrFailed,
// and appending continues in a fresh segment if one can be created and synced:
// that is safe, since nothing acknowledged depends on what failed. After three
// failed segments in a row the log takes no more records (it stays readable).
//
// A full disk is found when a segment is prepared, ahead of need, and refuses
// appends with ErrDiskFull: nothing was stored, reads go on, and the next
// append after a short pause tries again. A full disk under a commit (thin
// provisioning) is handled the same, after the segment was cut.
package seglog
