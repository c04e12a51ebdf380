package seglog

import (
	"errors"
	"fmt"
	"time"
)

// Errors of a log. ErrCorrupt is in format.go.
var (
	// ErrClosed: the log was closed. Nothing was stored.
	ErrClosed = errors.New("seglog: log is closed")
	// ErrDiskFull: nothing was stored; the log stays readable and takes
	// records again when space comes back.
	ErrDiskFull = errors.New("seglog: disk is full, nothing was stored")
	// ErrFailed: the disk failed under this record, which may or may not be
	// found after a restart. It was never acknowledged.
	ErrFailed = errors.New("seglog: disk failed, record not acknowledged")
	// ErrTooLarge: the record exceeds Options.RecordBytesMax. Nothing was stored.
	ErrTooLarge = errors.New("seglog: record too large")
	// ErrTenants: one tenant more than Options.TenantsMax. Nothing was stored.
	ErrTenants = errors.New("seglog: too many tenants")
	// ErrNotFound: no durable record has this tenant and sequence (yet).
	ErrNotFound = errors.New("seglog: no such record")
	// ErrRetired: retention removed this record.
	ErrRetired = errors.New("seglog: record was removed by retention")
	// ErrBusy: Engine.Stage has no room until a commit or a segment
	// preparation ends. Log waits instead of returning it.
	ErrBusy = errors.New("seglog: no room in the open batch")
)

// Options tune a log. The zero value works.
type Options struct {
	SegmentBytes   int64         // size of one segment file; default 64 MiB
	BatchBytes     int           // size of one staging buffer and so of the largest commit; default 1 MiB
	RecordBytesMax int           // largest payload; default 256 KiB
	TenantsMax     int           // bound of memory per tenant; default 1<<20
	Linger         time.Duration // wait this long for more records before a commit; default 0: commit when the last one completed

	RetainBytes int64         // keep at most about this many bytes of segments; 0: all
	RetainAge   time.Duration // remove segments whose newest record is older; 0: none

	// AppendDelay is a planted regression: Engine.Stage burns so much CPU time
	// with each record. Only the tests of the gate set it.
	AppendDelay time.Duration

	// Now is the clock of retention and file times; default time.Now.
	Now func() time.Time
	// Random returns the salt of a new segment; default crypto/rand.
	Random func() uint64
}

func (o Options) withDefaults() (Options, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.BatchBytes == 0 {
		o.BatchBytes = int(min(1<<20, o.SegmentBytes-segmentHeaderLen))
	}
	if o.RecordBytesMax == 0 {
		o.RecordBytesMax = min(256<<10, o.BatchBytes-batchHeaderLen-recordHeaderLen-recordAlign)
	}
	if o.TenantsMax == 0 {
		o.TenantsMax = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = randomSalt
	}
	switch {
	case o.SegmentBytes < SegmentBytesMin || o.SegmentBytes > SegmentBytesMax || o.SegmentBytes%BlockBytes != 0:
		return o, fmt.Errorf("seglog: SegmentBytes %d: want a multiple of %d from %d to %d", o.SegmentBytes, BlockBytes, SegmentBytesMin, SegmentBytesMax)
	case o.BatchBytes < BatchBytesMin || o.BatchBytes > BatchBytesMax || o.BatchBytes%BlockBytes != 0:
		return o, fmt.Errorf("seglog: BatchBytes %d: want a multiple of %d from %d to %d", o.BatchBytes, BlockBytes, BatchBytesMin, BatchBytesMax)
	case int64(o.BatchBytes) > o.SegmentBytes-segmentHeaderLen:
		return o, fmt.Errorf("seglog: BatchBytes %d do not fit a segment of %d", o.BatchBytes, o.SegmentBytes)
	case o.RecordBytesMax < 1 || batchHeaderLen+recordExtent(o.RecordBytesMax) > o.BatchBytes:
		return o, fmt.Errorf("seglog: RecordBytesMax %d does not fit a batch of %d", o.RecordBytesMax, o.BatchBytes)
	case o.TenantsMax < 1 || o.AppendDelay < 0 || o.AppendDelay > time.Millisecond || o.Linger < 0 || o.Linger > time.Second || o.RetainBytes < 0 || o.RetainAge < 0:
		return o, fmt.Errorf("seglog: option out of range: TenantsMax %d, Linger %v, RetainBytes %d, RetainAge %v", o.TenantsMax, o.Linger, o.RetainBytes, o.RetainAge)
	}
	return o, nil
}
