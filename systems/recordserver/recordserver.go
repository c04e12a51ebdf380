// Package recordserver puts a record store on the network: it reads requests in
// the project's frame protocol from TCP and unix sockets, appends and reads
// through a Store, and answers.
//
// Concurrency: one goroutine per connection reads; requests of one tenant on
// one connection run in the order of their arrival, those of different tenants
// side by side; one goroutine per connection writes and coalesces answers.
// A tenant holds a goroutine while it has requests under way, so idle tenants
// cost nothing; a few idle goroutines are kept for the next tenants.
//
// Memory is bounded by Options.ConnectionsMax × (Options.InFlightBytesMax and
// the read and write buffers).
package recordserver

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
)

// Store keeps records. All methods may be called concurrently.
type Store interface {
	// Append returns after the record is durable, with its sequence: the first
	// record of a tenant has sequence 1, the next one 2, and so on. The payload
	// belongs to the caller again when Append returns. After an error the record
	// may or may not be stored, except where the error says that it is not.
	Append(ctx context.Context, tenant uint32, payload []byte) (seq uint64, err error)
	// Close waits for appends that are under way. The store is unusable afterwards.
	Close() error
}

// Batcher is a Store that can make several records of one tenant durable
// together. The server hands it what a tenant has queued meanwhile.
type Batcher interface {
	// AppendBatch appends payloads in order and fills results, which is as long
	// as payloads. What Store.Append says of one record holds for each.
	AppendBatch(ctx context.Context, tenant uint32, payloads [][]byte, results []Result)
}

// Result is the outcome of one append of a batch.
type Result struct {
	Seq uint64
	Err error
}

// Reader is a Store that can give a record back.
type Reader interface {
	// Read returns the payload of one durable record, which belongs to the
	// caller, or an error that wraps ErrUnknown.
	Read(ctx context.Context, tenant uint32, seq uint64) ([]byte, error)
}

// Errors that a Store wraps to choose the status of the answer. Any other error
// is answered with frame.StatusUnavailable, ENOSPC and EDQUOT with
// frame.StatusDiskFull.
var (
	ErrTooLarge    = errors.New("record too large")
	ErrUnknown     = errors.New("no such tenant or sequence")
	ErrUnavailable = errors.New("store unavailable")
	ErrDiskFull    = errors.New("disk full, nothing stored")
	ErrOverloaded  = errors.New("overloaded, nothing stored")
	ErrRejected    = errors.New("record rejected, nothing stored")
)

// StatusOf is the frame status that answers err; nil is frame.StatusOK.
func StatusOf(err error) frame.Status {
	switch {
	case err == nil:
		return frame.StatusOK
	case errors.Is(err, ErrTooLarge):
		return frame.StatusTooLarge
	case errors.Is(err, ErrUnknown):
		return frame.StatusUnknown
	case errors.Is(err, ErrDiskFull), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return frame.StatusDiskFull
	case errors.Is(err, ErrOverloaded):
		return frame.StatusOverloaded
	case errors.Is(err, ErrRejected):
		return frame.StatusRejected
	}
	return frame.StatusUnavailable
}

// Options configure Serve. Zero values of the bounds and timeouts take the
// defaults named beside them.
type Options struct {
	Network string // tcp or unix
	Address string // host:port (port 0 picks one), or a socket path
	Store   Store  // closed by Serve before it returns
	// Ready, if set, is called once with the address that clients dial.
	Ready func(address string) error
	// Stat, if set, is called at the end for each counter (see Stats).
	Stat func(name string, value float64)

	RecordLenMax     int           // bytes of one record; 1 MiB
	TenantIDMax      uint32        // larger tenant ids are unknown; no bound
	ConnectionsMax   int           // more are closed at once; 1024
	TenantQueueMax   int           // queued requests of a tenant on a connection; 1024, more are answered overloaded
	BatchMax         int           // records handed to a Batcher at once; 256
	InFlightBytesMax int64         // queued request bytes of a connection, more wait in the socket; 8 MiB
	FrameTimeout     time.Duration // from the first to the last byte of a frame; 30 s
	WriteTimeout     time.Duration // a client that reads nothing for so long is dropped; 10 s
	DrainTimeout     time.Duration // for requests under way when ctx ends; 10 s
}

const (
	recordLenMaxDefault     = 1 << 20
	connectionsMaxDefault   = 1024
	tenantQueueMaxDefault   = 1024
	batchMaxDefault         = 256
	inFlightBytesMaxDefault = 8 << 20
)

func (o Options) withDefaults() (Options, error) {
	if o.Store == nil {
		return o, errors.New("recordserver: no store")
	}
	if o.Network != "tcp" && o.Network != "unix" {
		return o, errors.New("recordserver: network " + o.Network + " is not served, use tcp or unix")
	}
	if o.RecordLenMax < 0 || o.RecordLenMax > frame.BodyLenMax-4 { // KindTail adds a length
		return o, errors.New("recordserver: record length limit outside the frame protocol's")
	}
	setDefault(&o.RecordLenMax, recordLenMaxDefault)
	setDefault(&o.TenantIDMax, ^uint32(0))
	setDefault(&o.ConnectionsMax, connectionsMaxDefault)
	setDefault(&o.TenantQueueMax, tenantQueueMaxDefault)
	setDefault(&o.BatchMax, batchMaxDefault)
	setDefault(&o.InFlightBytesMax, inFlightBytesMaxDefault)
	setDefault(&o.FrameTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, 10*time.Second)
	setDefault(&o.DrainTimeout, 10*time.Second)
	// One record must always fit, or its connection would wait for ever.
	o.InFlightBytesMax = max(o.InFlightBytesMax, requestCost(o.RecordLenMax))
	return o, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// listen opens the listening socket. A unix socket file that nobody serves any
// more, left behind by a killed server, is replaced.
func listen(network, address string) (net.Listener, error) {
	listener, err := net.Listen(network, address)
	if err == nil || network != "unix" || !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	probe, dialErr := net.Dial(network, address)
	if dialErr == nil {
		probe.Close()
		return nil, err
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if err := syscall.Unlink(address); err != nil {
		return nil, err
	}
	return net.Listen(network, address)
}
