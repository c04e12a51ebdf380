// Package graphserver puts a store of document graphs on the network: it reads
// frame.KindQuery from TCP and unix sockets or UDP datagrams, asks the store, and
// answers.
//
// Concurrency: one goroutine per connection reads, asks and writes, and sends
// together what was asked together; one goroutine serves all datagrams. With
// Options.PerRequest each request is a goroutine of its own instead.
//
// Memory is bounded by Options.ConnectionsMax × the buffers below, and by
// requestsMax goroutines.
package graphserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/graphstore"
)

const (
	readBufferLen  = 64 << 10
	writeBufferLen = 256 << 10 // answers of one turn are sent when they reach it
	connectionsMax = 1024
	requestsMax    = 4096 // goroutines of PerRequest
)

// Options configure Serve.
type Options struct {
	Network string // tcp, unix or udp
	Address string // host:port (port 0 picks one), or a socket path
	Store   graphstore.Store
	// PerRequest answers each request in a goroutine of its own.
	PerRequest bool
	// Driver, if set, takes queries over udp from the network driver.
	Driver *Driver
	// Ready, if set, is called once with the address that clients dial.
	Ready func(address string) error
	// Stat, if set, is called at the end for each counter.
	Stat func(name string, value float64)
}

// Stats count what was answered and what was refused.
type Stats struct {
	Queries        atomic.Uint64 // answered with a chunk
	Refused        atomic.Uint64 // answered with a status other than OK
	Malformed      atomic.Uint64 // frames that ended their connection, datagrams without an answer
	SendErrors     atomic.Uint64 // datagrams that could not be sent
	Lost           atomic.Uint64 // queries that a perf buffer had no room for
	ConnectionsMax atomic.Uint64 // connections closed at once
}

type server struct {
	opts     Options
	stats    Stats
	wg       sync.WaitGroup
	requests chan struct{} // tokens of PerRequest

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	draining bool
}

// Serve listens and serves until ctx ends, then closes the store, on every path.
func Serve(ctx context.Context, opts Options) (err error) {
	s := &server{opts: opts, conns: map[net.Conn]struct{}{}, requests: make(chan struct{}, requestsMax)}
	defer func() {
		s.wg.Wait()
		err = errors.Join(err, opts.Store.Close())
		s.report()
	}()
	switch opts.Network {
	case "udp":
		if opts.Driver != nil {
			return s.serveDriver(ctx)
		}
		return s.serveDatagrams(ctx, s.ready)
	case "tcp", "unix":
		return s.serveStreams(ctx)
	}
	return fmt.Errorf("graphserver: network %s is not served", strconv.Quote(opts.Network))
}

func (s *server) report() {
	if s.opts.Stat == nil {
		return
	}
	s.opts.Stat("queries_count", float64(s.stats.Queries.Load()))
	s.opts.Stat("refused_count", float64(s.stats.Refused.Load()))
	s.opts.Stat("malformed_count", float64(s.stats.Malformed.Load()))
	s.opts.Stat("send_errors_count", float64(s.stats.SendErrors.Load()))
}

// answer appends the answer to one request.
func (s *server) answer(dst []byte, f frame.Frame) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, frame.HeaderLen)...)
	dst, status := s.ask(dst, f)
	if status != frame.StatusOK {
		s.stats.Refused.Add(1)
		dst = dst[:start+frame.HeaderLen]
	} else {
		s.stats.Queries.Add(1)
	}
	frame.Seal(dst[start:], frame.Frame{Kind: f.Kind | frame.KindReply, Status: status, Flags: f.Flags, Tenant: f.Tenant, ID: f.ID})
	return dst
}

func (s *server) ask(dst []byte, f frame.Frame) ([]byte, frame.Status) {
	switch f.Kind {
	case frame.KindPing:
		return append(dst, f.Body...), frame.StatusOK
	case frame.KindQuery:
	default:
		return dst, frame.StatusUnknown
	}
	q, err := graph.ParseQuery(f.Body)
	if err != nil {
		return dst, frame.StatusMalformed
	}
	dst, err = s.opts.Store.Query(f.Tenant, q, dst)
	return dst, StatusOf(err)
}

// StatusOf is the frame status that answers a store's error; nil is frame.StatusOK.
func StatusOf(err error) frame.Status {
	switch {
	case err == nil:
		return frame.StatusOK
	case errors.Is(err, graph.MalformedQuery):
		return frame.StatusMalformed
	case errors.Is(err, graphstore.ErrUnknownTenant), errors.Is(err, graph.UnknownNode):
		return frame.StatusUnknown
	case errors.Is(err, graph.SmallChunk):
		return frame.StatusTooLarge
	}
	return frame.StatusUnavailable
}

// ready announces the address.
func (s *server) ready(packets net.PacketConn) error { return s.announce(packets.LocalAddr()) }

func (s *server) announce(address net.Addr) error {
	if s.opts.Ready == nil {
		return nil
	}
	if err := s.opts.Ready(address.String()); err != nil {
		return fmt.Errorf("announce %s: %w", address, err)
	}
	return nil
}

// unusable says that an error will not pass.
func unusable(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EBADF)
}
