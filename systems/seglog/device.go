package seglog

import "io"

// Device is the disk as the log sees it: a flat folder of files. All names are
// plain file names. Methods may be called from several goroutines.
type Device interface {
	// List returns the names of all files, in any order.
	List() ([]string, error)
	// Create makes a new file of the given size that reads as zeros, or fails
	// with an error that wraps syscall.ENOSPC; an existing file is replaced.
	// Its blocks are reserved. While ahead says so they are also written piece by
	// piece, which costs the disk their size now and makes small commits to them
	// cheaper later; nil is never.
	// The file's data is not durable before its Sync, its name not before Rename.
	Create(name string, size int64, ahead func() bool) (File, error)
	// Open opens an existing file.
	Open(name string) (File, error)
	// Rename gives a file its name, replacing another; durable when it returns.
	Rename(from, to string) error
	// Remove deletes a file; durable when it returns.
	Remove(name string) error
	// NewCommitter returns the path of group commits with count staging
	// buffers of size bytes (a multiple of BlockBytes). It is called on the
	// thread that will use it.
	NewCommitter(count, size int) (Committer, error)
}

// File is one open file of a Device.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes everything written and the size durable. After an error
	// nothing is known of what was written since the last success.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

// Committer writes staged batches. It has one user: the committing thread.
type Committer interface {
	// Buffer returns staging buffer i.
	Buffer(i int) []byte
	// Commit writes the first n bytes of buffer i at the offset and returns
	// when they are durable. A short write is continued. After an error
	// nothing is known of these n bytes, and bytes committed earlier stand.
	Commit(f File, i, n int, offset int64) error
	// Close frees the buffers.
	Close() error
}
