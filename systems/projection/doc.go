// Package projection keeps tenants' events in a log (systems/seglog) and rebuilds
// projections of them in WebAssembly guests (components/projection).
//
// # Rebuild
//
// Rebuild answers with everything that was durable when it was called. It takes
// the tenant's warm guest, if it still has one, or a fresh guest with the
// tenant's newest snapshot, applies the events behind it and encodes the view.
// Rebuilds of one projection that arrive while another runs share the next one.
//
// # Snapshots
//
// After SnapshotEvents events or SnapshotRecords log records a tenant's state is
// written to its checkpoint, durably, off the path of reads and writes: what a
// rebuild has to replay is bounded in both, however the events were batched. A
// checkpoint is one file a tenant, replaced as a whole:
//
//	0   8  magic "NXCKPT1" and a zero byte
//	8   4  tenant
//	12  4  number of snapshots, oldest first
//	16  4  version of the tenant
//	20  4  CRC32C of bytes 0 to 19
//	then each snapshot
//	0   4  version
//	4   4  length of the state
//	8   8  sequence: events folded
//	16  8  record of the log that the last of them is in
//	24     state, then CRC32C of the snapshot so far, 4 bytes
//
// What doesn't verify is not used: an older snapshot is, or all events are
// replayed, under a new version.
//
// # Versions
//
// Each snapshot and each rollback gives the tenant a version that it never had,
// and caches key by it: what was built before a rollback has another version and
// is never found again. A tenant without a checkpoint has version 1; its first
// other one is the time in seconds, later ones count on. When a checkpoint is
// corrupt they go on at the time and 65,536, which is new as long as a tenant
// makes fewer than one snapshot a second over its life.
package projection
