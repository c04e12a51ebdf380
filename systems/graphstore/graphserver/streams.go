package graphserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
)

func (s *server) serveStreams(ctx context.Context) error {
	listener, err := net.Listen(s.opts.Network, s.opts.Address)
	if err != nil {
		return fmt.Errorf("listen on %s %s: %w", s.opts.Network, s.opts.Address, err)
	}
	stop := context.AfterFunc(ctx, func() { s.drain(listener) })
	defer stop()
	defer listener.Close()
	if err := s.announce(listener.Addr()); err != nil {
		return err
	}
	for {
		socket, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				socket.Close()
			}
			return nil
		case err == nil:
			s.start(socket)
		case unusable(err):
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// drain ends all connections, between two requests or within one's reading.
func (s *server) drain(listener net.Listener) {
	listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for socket := range s.conns {
		socket.Close()
	}
}

func (s *server) start(socket net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || len(s.conns) == connectionsMax {
		s.stats.ConnectionsMax.Add(1)
		socket.Close()
		return
	}
	s.conns[socket] = struct{}{}
	s.wg.Go(func() {
		c := conn{server: s, socket: socket}
		c.run()
		s.mu.Lock()
		delete(s.conns, socket)
		s.mu.Unlock()
	})
}

// conn is one client.
type conn struct {
	server *server
	socket net.Conn
	out    []byte // answers to send

	mu      sync.Mutex // of socket's writing, with PerRequest
	pending sync.WaitGroup
}

// run serves the client until it leaves, breaks the protocol or the server drains.
func (c *conn) run() {
	defer c.socket.Close()
	defer c.pending.Wait()
	buf := make([]byte, 0, readBufferLen)
	for {
		n, err := c.socket.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest, ok := c.dispatch(buf)
		if c.flush() != nil || !ok || err != nil {
			return
		}
		buf = buf[:copy(buf[:cap(buf)], rest)]
	}
}

// dispatch answers the whole frames of buf and returns what is left of it, or
// false after a frame that can't be read.
func (c *conn) dispatch(buf []byte) (rest []byte, ok bool) {
	for {
		if len(buf) >= 4 && binary.LittleEndian.Uint32(buf) > readBufferLen-4 {
			return nil, c.refuse(frame.StatusTooLarge)
		}
		f, n, err := frame.Parse(buf)
		if err != nil {
			return nil, c.refuse(frame.StatusMalformed)
		}
		if n == 0 {
			return buf, true
		}
		if c.server.opts.PerRequest {
			c.spawn(f)
		} else {
			c.out = c.server.answer(c.out, f)
		}
		if len(c.out) >= writeBufferLen-graph.ChunkLenMax && c.flush() != nil {
			return nil, false
		}
		buf = buf[n:]
	}
}

// refuse answers a frame that can't be read, whose id can't be trusted.
func (c *conn) refuse(status frame.Status) bool {
	c.server.stats.Malformed.Add(1)
	c.out = frame.Append(c.out, frame.Frame{Kind: frame.KindReply, Status: status})
	return false
}

// flush sends the answers.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.socket.Write(c.out)
	c.out = c.out[:0]
	return err
}

// spawn answers a request in a goroutine of its own.
func (c *conn) spawn(f frame.Frame) {
	body := append([]byte(nil), f.Body...)
	f.Body = body
	c.server.requests <- struct{}{}
	c.pending.Go(func() {
		answer := c.server.answer(nil, f)
		<-c.server.requests
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = c.socket.Write(answer) // the reader meets the same error
	})
}
