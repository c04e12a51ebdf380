// Package vectorstore keeps points (an id, a vector, a JSON payload) in
// collections, finds those nearest to a vector, and loses nothing that it
// acknowledged. Package qdrantserver beside it serves it to Qdrant's clients.
//
// # The life of a change
//
// All collections share one log (package seglog): changes of any number of
// tenants that come while a commit is under way are made durable by the next
// one, with one sync. A change is applied after it is durable, in the order of
// the log, and then acknowledged. So nothing is ever seen that a crash could
// take back, and what was acknowledged is seen by every search that begins
// afterwards. Filters are evaluated when a change is applied, not before.
//
// A new point goes to its collection's tail, which searches scan. An indexer
// moves points from the tail into the graph (package hnsw) and takes deleted
// ones out. Acknowledging therefore never waits for the graph; what grows
// instead while it falls behind is the scanned tail. Collections below
// CollectionConfig.IndexFromBytes have no graph: scanning them is faster.
//
// # Files
//
// The folder of the log, plus snapshots (see snapshot.go). A snapshot holds
// everything up to one change of the log; opening the store reads the newest and
// repeats the log from there. The graph is not stored but built again in the
// background, while scans answer: it costs time after a restart and no trust.
//
// # Failures
//
// A torn end of the log is cut off; other damage refuses to open (ErrCorrupt). A
// full disk refuses the change, and later ones may succeed. After a failed write
// or sync the store takes no more changes until it is opened again (ErrFailed):
// what the disk has then is unknown, and what is in memory is still right to
// read. A failed snapshot is counted, and the log kept instead.
//
// # Choosing how to search
//
// A filter on ids or on an indexed payload key leaves a few points: they are
// scanned. Otherwise a sample of 256 points estimates how many meet the filter,
// and the cheaper of a scan and of a walk through the graph that accepts only
// those is taken. Exact searches always scan.
package vectorstore
