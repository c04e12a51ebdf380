package recordserver

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/nexuscore-labs/nexus/frame"
)

const (
	readBufferLen = 64 << 10
	// requestOverhead is charged for each queued request beside its body, so
	// that empty requests are bounded too.
	requestOverhead = 256
	// lingerLenMax and lingerTimeout bound what is read and thrown away after a
	// refusal: closing with unread input would reset a TCP connection and might
	// take the refusal with it.
	lingerLenMax  = 1 << 20
	lingerTimeout = time.Second
)

func requestCost(bodyLen int) int64 { return int64(bodyLen) + requestOverhead }

// conn is one client. Its reader owns everything but what is said otherwise.
type conn struct {
	server   *server
	socket   net.Conn
	answers  *answerWriter
	inFlight *semaphore.Weighted // bytes of queued requests
	stopping atomic.Bool

	mu      sync.Mutex
	tenants map[uint32]*tenantQueue // those with requests under way
	idle    []*worker
	ending  bool // no worker waits any more
	workers sync.WaitGroup
}

func newConn(s *server, socket net.Conn) *conn {
	return &conn{
		server:   s,
		socket:   socket,
		answers:  newAnswerWriter(s, socket),
		inFlight: semaphore.NewWeighted(s.opts.InFlightBytesMax),
		tenants:  make(map[uint32]*tenantQueue),
	}
}

// run serves the connection until its client leaves, breaks the protocol or the
// server drains. Everything it started has ended when it returns.
func (c *conn) run() {
	go c.answers.run()
	refused := c.read()
	c.endWorkers()
	c.answers.finish()
	if refused {
		c.linger()
	}
	c.socket.Close()
}

// stopReading makes read return soon. Any goroutine may call it.
func (c *conn) stopReading() {
	c.stopping.Store(true)
	c.socket.SetReadDeadline(time.Now())
}

// read dispatches requests until the connection ends, and reports whether it
// ended because the client was refused.
func (c *conn) read() (refused bool) {
	buf := make([]byte, 0, readBufferLen)
	for {
		n, err := c.socket.Read(buf[len(buf):cap(buf)])
		wasPartial := len(buf) > 0
		buf = buf[:len(buf)+n]
		rest, ok := c.dispatch(buf)
		if !ok {
			return true
		}
		if err != nil {
			return c.readEnded(err, len(rest) > 0)
		}
		buf = c.keep(buf, rest)
		if !c.setFrameDeadline(wasPartial, len(rest) > 0) {
			return false
		}
	}
}

// readEnded accounts for the end of input after partial, part of a frame.
func (c *conn) readEnded(err error, partial bool) (refused bool) {
	var timeout net.Error
	switch {
	case c.stopping.Load() || !partial:
		return false
	case errors.As(err, &timeout) && timeout.Timeout():
		c.server.stats.ClientsStuck.Add(1)
	default:
		c.server.stats.FramesTruncated.Add(1)
	}
	if errors.Is(err, io.EOF) {
		c.answers.answer(frame.Frame{Kind: frame.KindReply, Status: frame.StatusMalformed})
	}
	return false // nothing more will come: no need to linger
}

// keep moves rest, the unparsed end of buf, to the front of a buffer that has
// room for the frame that it begins.
func (c *conn) keep(buf, rest []byte) []byte {
	need := readBufferLen
	if len(rest) >= 4 {
		frameLen := 4 + int(binary.LittleEndian.Uint32(rest))
		need = max(need, min(frameLen, frame.HeaderLen+c.server.opts.RecordLenMax))
	}
	switch {
	case cap(buf) < need:
		buf = make([]byte, len(rest), need)
	case len(rest) == 0 && cap(buf) > readBufferLen:
		return make([]byte, 0, readBufferLen) // gives back what one large record took
	default:
		buf = buf[:len(rest)]
	}
	copy(buf, rest)
	return buf
}

// setFrameDeadline bounds the time that a frame may take to arrive; between
// frames a client may be silent. It reports false when the server drains.
func (c *conn) setFrameDeadline(wasPartial, isPartial bool) bool {
	switch {
	case isPartial && !wasPartial:
		c.socket.SetReadDeadline(time.Now().Add(c.server.opts.FrameTimeout))
	case !isPartial && wasPartial:
		c.socket.SetReadDeadline(time.Time{})
	}
	// After the deadline: stopReading sets its flag first, so whichever of the
	// two set the deadline last, this read ends.
	return !c.stopping.Load()
}

// dispatch takes the whole frames of buf and returns what is left of it, or
// false after a violation of the protocol, which it answered.
func (c *conn) dispatch(buf []byte) (rest []byte, ok bool) {
	for {
		if c.oversized(buf) {
			return nil, false
		}
		f, n, err := frame.Parse(buf)
		if err != nil {
			c.server.stats.FramesMalformed.Add(1)
			// The id can't be trusted, except where only the checksum failed to
			// hold, and then it may be what is wrong.
			c.answers.answer(frame.Frame{Kind: frame.KindReply, Status: frame.StatusMalformed})
			return nil, false
		}
		if n == 0 {
			return buf, true
		}
		if !c.request(f) {
			return nil, false
		}
		buf = buf[n:]
	}
}

// oversized refuses a frame by its header, before room is made for its body.
func (c *conn) oversized(buf []byte) bool {
	if len(buf) < 4 {
		return false
	}
	length := binary.LittleEndian.Uint32(buf)
	if length <= uint32(frame.HeaderLen-4+c.server.opts.RecordLenMax) {
		return false
	}
	if len(buf) < frame.HeaderLen && length <= frame.HeaderLen-4+frame.BodyLenMax {
		return false // wait for the id that the refusal should carry
	}
	refusal := frame.Frame{Kind: frame.KindReply, Status: frame.StatusTooLarge}
	if len(buf) >= frame.HeaderLen {
		refusal.Kind |= frame.Kind(buf[5])
		refusal.ID = binary.LittleEndian.Uint64(buf[8:])
		refusal.Tenant = binary.LittleEndian.Uint32(buf[16:])
	}
	c.server.stats.FramesOversized.Add(1)
	c.answers.answer(refusal)
	return true
}

// linger lets the client read the refusal before the connection is reset.
func (c *conn) linger() {
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	c.socket.SetReadDeadline(time.Now().Add(lingerTimeout))
	if c.stopping.Load() {
		return
	}
	io.CopyN(io.Discard, c.socket, lingerLenMax)
}
