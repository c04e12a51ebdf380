package vectorstore

import "errors"

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: the collection, or a point that an operation needs, is not there.
	ErrNotFound = errors.New("vectorstore: not found")
	// ErrExists: the collection is there already.
	ErrExists = errors.New("vectorstore: exists already")
	// ErrInvalid: the request can't be carried out whatever the state.
	ErrInvalid = errors.New("vectorstore: invalid")
	// ErrDiskFull: nothing was stored; it may work later.
	ErrDiskFull = errors.New("vectorstore: disk is full, nothing was stored")
	// ErrFailed: the disk failed under a change, whose outcome is unknown. The
	// store takes no more changes until it is opened again; reads go on.
	ErrFailed = errors.New("vectorstore: disk failed, no more changes are taken")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("vectorstore: closed")
	// ErrCorrupt: stored bytes are not what was written.
	ErrCorrupt = errors.New("vectorstore: corrupt")
)
