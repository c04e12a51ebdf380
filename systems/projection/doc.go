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
//	0   8  magic "NXCKPT1\0"
//	8   4  tenant
//	12  4  number of snapshots, oldest first
//	16  4  next version
//	20  4  CRC32C of bytes 0 to 19
//	then each snapshot
//	0   4  version
//	4   4  length of the state
//	8   8  sequence: events folded
//	16  8  record: of the log, whose last event that is
//	24     state, and CRC32C of all of the snapshot before it
//
// A checkpoint that doesn't verify is not used: the newest snapshot before the
// broken place is, or all events are replayed. Its versions can't be known then,
// so the next one is taken from the versions file, see checkpoint.go.
//
// # Versions
//
// Each snapshot and each rollback gives the tenant a version that was never used
// before and never will be again. Caches key by it: what was built from a
// snapshot that was rolled back has another version and is never found again.
package projection
