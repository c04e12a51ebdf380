package ringserver

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/systems/seglog"
	"golang.org/x/sys/unix"
)

// Bounds of one answer to KindTail.
const (
	tailRecordsMax = 4096
	tailBytesMax   = 1 << 20
)

// request handles one frame. It returns false when the open batch has no room:
// the same frame must be given again later.
func (s *server) request(c *conn, f frame.Frame) bool {
	switch {
	case f.Status != 0:
		s.counts.framesMalformed++
		s.refuse(c, f, frame.StatusMalformed)
	case f.Kind == frame.KindAppend:
		return s.append(c, f)
	case f.Kind == frame.KindPing:
		s.counts.pings++
		s.reply(c, f, frame.StatusOK, f.Body)
	case f.Kind == frame.KindRead && len(f.Body) == 8:
		s.readRecord(c, f)
	case f.Kind == frame.KindTail && len(f.Body) == 12:
		s.tail(c, f)
	case f.Kind == frame.KindRead, f.Kind == frame.KindTail:
		s.counts.framesMalformed++
		s.refuse(c, f, frame.StatusMalformed)
	default:
		s.counts.framesUnknown++
		s.refuse(c, f, frame.StatusUnknown)
	}
	return true
}

func (s *server) append(c *conn, f frame.Frame) bool {
	seq, err := s.e.Stage(f.Tenant, f.Body)
	if err == seglog.ErrBusy {
		s.background()
		return false
	}
	if err != nil {
		s.counts.appendsRefused++
		s.refuse(c, f, statusOf(err))
		return true
	}
	b := s.e.OpenBuffer()
	s.pending[b] = append(s.pending[b], pending{to: c, id: f.ID, seq: seq, tenant: f.Tenant})
	c.waiting++
	return true
}

func (s *server) readRecord(c *conn, f frame.Frame) {
	s.counts.reads++
	record, err := s.load(s.read[:0], f.Tenant, binary.LittleEndian.Uint64(f.Body))
	s.read = record
	if err != nil {
		s.refuse(c, f, statusOf(err))
		return
	}
	s.reply(c, f, frame.StatusOK, record)
}

// tail answers with the records there are, as many as fit; none is an empty body.
func (s *server) tail(c *conn, f frame.Frame) {
	s.counts.tails++
	first := binary.LittleEndian.Uint64(f.Body)
	most := min(binary.LittleEndian.Uint32(f.Body[8:]), tailRecordsMax)
	if kept, _ := s.e.Range(f.Tenant); first < kept && first != 0 {
		s.refuse(c, f, frame.StatusUnknown)
		return
	}
	body := s.read[:0]
	for i := range uint64(most) {
		start := len(body)
		grown, err := s.load(append(body, 0, 0, 0, 0), f.Tenant, max(first, 1)+i)
		if errors.Is(err, seglog.ErrNotFound) || err == nil && start > 0 && len(grown) > tailBytesMax {
			break
		}
		if err != nil {
			s.refuse(c, f, statusOf(err))
			return
		}
		body = grown
		binary.LittleEndian.PutUint32(body[start:], uint32(len(body)-start-4))
	}
	s.read = body
	s.reply(c, f, frame.StatusOK, body)
}

// load appends a record to dst.
func (s *server) load(dst []byte, tenant uint32, seq uint64) ([]byte, error) {
	at, err := s.e.Find(tenant, seq)
	if err != nil {
		return dst, err
	}
	defer at.Release()
	return at.Read(dst)
}

func statusOf(err error) frame.Status {
	switch {
	case err == nil:
		return frame.StatusOK
	case errors.Is(err, seglog.ErrDiskFull):
		return frame.StatusDiskFull
	case errors.Is(err, seglog.ErrTooLarge):
		return frame.StatusTooLarge
	case errors.Is(err, seglog.ErrNotFound), errors.Is(err, seglog.ErrRetired):
		return frame.StatusUnknown
	case errors.Is(err, seglog.ErrTenants):
		return frame.StatusOverloaded
	default:
		return frame.StatusUnavailable
	}
}

// acknowledge answers a durable record.
func (s *server) acknowledge(p pending) {
	p.to.waiting--
	var body [8]byte
	binary.LittleEndian.PutUint64(body[:], p.seq)
	s.reply(p.to, frame.Frame{Kind: frame.KindAppend, ID: p.id, Tenant: p.tenant}, frame.StatusOK, body[:])
}

func (s *server) refuse(c *conn, f frame.Frame, status frame.Status) {
	s.reply(c, f, status, nil)
}

func (s *server) reply(c *conn, f frame.Frame, status frame.Status, body []byte) {
	if int(status) < len(s.counts.answers) {
		s.counts.answers[status]++
	}
	if c.dead {
		return
	}
	c.out = frame.Append(c.out, frame.Frame{
		Kind: f.Kind | frame.KindReply, Status: status, Tenant: f.Tenant, ID: f.ID, Body: body,
	})
	if !c.dirty {
		c.dirty = true
		s.dirty = append(s.dirty, c)
	}
}

// flush starts one send per connection that has answers and none under way.
func (s *server) flush() {
	for i, c := range s.dirty {
		c.dirty = false
		s.send(c)
		s.dirty[i] = nil
	}
	s.dirty = s.dirty[:0]
}

func (s *server) send(c *conn) {
	if c.dead || len(c.sending) > 0 || len(c.out) == 0 {
		return
	}
	if c.reply != nil {
		c.reply.send(s, c)
		return
	}
	c.sending, c.out = c.out, c.sending[:0]
	c.sendingSince = time.Now()
	s.submitSend(c, c.sending)
}

func (s *server) submitSend(c *conn, p []byte) {
	s.counts.sends++
	s.sqe().Send(c.fd, p, unix.MSG_WAITALL|unix.MSG_NOSIGNAL).Data(tag(opSend, c.slot))
	c.ops++
}

func (s *server) sent(c *conn, res int32) {
	c.ops--
	if c.dead {
		s.free(c)
		return
	}
	if res < 0 {
		s.counts.connectionErrors++
		s.kill(c)
		return
	}
	s.counts.sentBytes += uint64(res)
	if int(res) < len(c.sending) { // interrupted: send the rest
		c.sending = c.sending[:copy(c.sending, c.sending[res:])]
		c.sendingSince = time.Now()
		s.submitSend(c, c.sending)
		return
	}
	c.sending = c.sending[:0]
	s.send(c)
	if len(c.out)+len(c.sending) == 0 {
		s.closeIfDone(c)
	}
	if c.stalled {
		s.resume()
	}
}
