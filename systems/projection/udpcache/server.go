// Package udpcache serves projections over UDP from a cache in user space: the
// same job as the cache in the driver, done as well as sockets allow. Several
// SO_REUSEPORT sockets each have a thread's worth of work, datagrams are received
// and sent by recvmmsg and sendmmsg, and a hit allocates nothing.
//
// A request is one frame of KindGet (package frame). Its answer is as long as it
// must be, whatever padding the request has.
package udpcache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	fold "github.com/nexuscore-labs/nexus/components/projection"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/projection"
)

const (
	// requestLenMax bounds a request: a frame with padding for any answer.
	requestLenMax = frame.HeaderLen + 4 + bodyHeaderLen + fold.EncodedLenMax
	answerLenMax  = frame.HeaderLen + bodyHeaderLen + fold.EncodedLenMax
	// socketBufferLen is asked for in both directions; the kernel may give less.
	socketBufferLen = 4 << 20
)

// Source rebuilds what is not in the cache. *projection.Engine is one.
type Source interface {
	Rebuild(ctx context.Context, tenant, projection uint32) (projection.Result, error)
}

// Options tune a server. The zero value works.
type Options struct {
	Sockets    int // default 1; one per CPU that the server has
	Batch      int // datagrams of one system call, default 64
	EntriesMax int // projections in the cache, default 1 << 20
	Rebuilders int // rebuilds at the same time, default 4
	MissesMax  int // misses that wait for a rebuilder, default 4096
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v  *int
		or int
	}{{&o.Sockets, 1}, {&o.Batch, 64}, {&o.EntriesMax, 1 << 20}, {&o.Rebuilders, 4}, {&o.MissesMax, 4096}} {
		if *d.v <= 0 {
			*d.v = d.or
		}
	}
	return o
}

// Stats are a server's counters.
type Stats struct {
	Hits, Misses atomic.Uint64
	Malformed    atomic.Uint64 // no well-formed Get: not answered, or as malformed
	Unknown      atomic.Uint64 // no such tenant or projection
	Failed       atomic.Uint64 // rebuilds that failed
	Overloaded   atomic.Uint64 // misses shed
	Unsent       atomic.Uint64 // answers that the kernel refused
}

// Server answers on its sockets. It is for concurrent use.
type Server struct {
	options Options
	source  Source
	cache   *Cache
	conns   []*net.UDPConn
	misses  chan miss
	stats   Stats
}

// miss is a request that waits for a rebuild.
type miss struct {
	conn   syscall.RawConn
	to     address
	get    frame.Frame
	number uint32
}

// Listen opens the sockets, all on one port; an address with port 0 gets a free one.
func Listen(network, address string, source Source, options Options) (*Server, error) {
	options = options.withDefaults()
	s := &Server{options: options, source: source, cache: NewCache(options.EntriesMax), misses: make(chan miss, options.MissesMax)}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	for range options.Sockets {
		conn, err := config.ListenPacket(context.Background(), network, address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s: %w", address, err), s.close())
		}
		udp := conn.(*net.UDPConn)
		s.conns = append(s.conns, udp)
		address = udp.LocalAddr().String()
		if err := errors.Join(udp.SetReadBuffer(socketBufferLen), udp.SetWriteBuffer(socketBufferLen)); err != nil {
			return nil, errors.Join(fmt.Errorf("size socket buffers: %w", err), s.close())
		}
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.conns[0].LocalAddr() }

// Cache is the server's cache.
func (s *Server) Cache() *Cache { return s.cache }

// Stats returns the live counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Serve answers until ctx ends. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	var sockets, rebuilders sync.WaitGroup
	errs := make(chan error, len(s.conns))
	for _, conn := range s.conns {
		sockets.Go(func() { errs <- s.serve(conn) })
	}
	for range s.options.Rebuilders {
		rebuilders.Go(func() {
			for m := range s.misses {
				s.rebuild(ctx, m)
			}
		})
	}
	stop := context.AfterFunc(ctx, func() { s.close() })
	defer stop()
	sockets.Wait()
	close(s.misses)
	rebuilders.Wait()
	var err error
	for range s.conns {
		if failed := <-errs; !errors.Is(failed, net.ErrClosed) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

func (s *Server) close() (err error) {
	for _, conn := range s.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// serve works on one socket.
func (s *Server) serve(conn *net.UDPConn) error {
	b, err := newBatch(conn, s.options.Batch, requestLenMax)
	if err != nil {
		return err
	}
	for {
		n, err := b.receive()
		if err != nil {
			return fmt.Errorf("receive requests: %w", err)
		}
		hits := uint64(0)
		for i := range n {
			if s.handle(b, i) {
				hits++
			}
		}
		s.stats.Hits.Add(hits)
		if _, refused := b.send(); refused > 0 {
			s.stats.Unsent.Add(uint64(refused))
		}
	}
}

// handle answers a request from the cache if it can, and says whether it did.
func (s *Server) handle(b *batch, i int) (hit bool) {
	data, whole := b.datagram(i)
	get, err := frame.ParseDatagram(data)
	if err != nil || !whole {
		s.stats.Malformed.Add(1)
		return false // whatever it is, an answer would have no id
	}
	if get.Kind != frame.KindGet || get.Status != 0 || len(get.Body) < 4 {
		s.stats.Malformed.Add(1)
		b.answer(i, refuse(b.room(), get, frame.StatusMalformed))
		return false
	}
	number := binary.LittleEndian.Uint32(get.Body)
	answer := append(b.room(), make([]byte, frame.HeaderLen)...)
	if answer, hit = s.cache.Append(answer, get.Tenant, number); hit {
		frame.Seal(answer, reply(get, frame.StatusOK))
		b.answer(i, answer)
		return true
	}
	s.stats.Misses.Add(1)
	get.Body = nil // the buffer is used again
	select {
	case s.misses <- miss{b.conn, b.address(i), get, number}:
	default:
		s.stats.Overloaded.Add(1)
		b.answer(i, refuse(b.room(), get, frame.StatusOverloaded))
	}
	return false
}

func reply(to frame.Frame, status frame.Status) frame.Frame {
	return frame.Frame{Kind: to.Kind | frame.KindReply, Status: status, Flags: to.Flags, Tenant: to.Tenant, ID: to.ID}
}

func refuse(dst []byte, to frame.Frame, status frame.Status) []byte {
	return frame.Append(dst, reply(to, status))
}

// rebuild answers a miss.
func (s *Server) rebuild(ctx context.Context, m miss) {
	answer := s.rebuilt(ctx, m)
	var sent error
	err := m.conn.Write(func(fd uintptr) bool {
		sent = sendTo(fd, answer, &m.to)
		return !errors.Is(sent, unix.EAGAIN)
	})
	if err != nil || sent != nil {
		s.stats.Unsent.Add(1)
	}
}

func (s *Server) rebuilt(ctx context.Context, m miss) []byte {
	r, err := s.source.Rebuild(ctx, m.get.Tenant, m.number)
	switch {
	case errors.Is(err, projection.ErrTenant), errors.Is(err, projection.ErrProjection):
		s.stats.Unknown.Add(1)
		return refuse(nil, m.get, frame.StatusUnknown)
	case err != nil:
		s.stats.Failed.Add(1)
		return refuse(nil, m.get, frame.StatusUnavailable)
	}
	answer := append(make([]byte, frame.HeaderLen), s.cache.Put(m.get.Tenant, m.number, r)...)
	frame.Seal(answer, reply(m.get, frame.StatusOK))
	return answer
}
