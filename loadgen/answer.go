package loadgen

import (
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/loadgen/codec"
)

// Received implements ring.Handler.
func (w *worker) Received(i int, data []byte) {
	c := &w.conns[i]
	kept := len(c.partial) > 0
	if kept {
		c.partial = append(c.partial, data...)
		data = c.partial
	}
	for len(data) > 0 {
		response, n, err := w.codec.Parse(data)
		if c.trace != nil {
			c.trace.received += uint64(n)
		}
		if err == nil && n > 0 && !response.Push {
			err = w.answer(c, &response)
		}
		if err == nil && n == 0 {
			err = w.incomplete(len(data))
		}
		if err != nil {
			w.violated(c, err)
			return
		}
		if n == 0 {
			break
		}
		data = data[n:]
	}
	if kept || len(data) > 0 {
		c.partial = append(c.partial[:0], data...)
	}
	if w.closed || c.blocked {
		w.pump(c)
	}
}

// incomplete judges the beginning of an answer: the rest follows on a stream,
// within bounds, but never in another datagram.
func (w *worker) incomplete(length int) error {
	if w.datagram {
		return errPartial
	}
	if length > partialLenMax {
		return codec.ErrTooLarge
	}
	return nil
}

var (
	errPartial = errors.New("a datagram ends within an answer")
	errUnasked = errors.New("an answer to no request that is in flight")
	errTwice   = errors.New("a second answer to one request, or one with a made-up id")
)

// answer matches a response with its request and has it judged.
func (w *worker) answer(c *conn, r *codec.Response) error {
	i := c.head
	if !w.ordered {
		i = int32(uint32(r.ID))
		if i < 0 || int(i) >= len(c.slots) {
			return errUnasked
		}
		s := &c.slots[i]
		if uint32(r.ID>>32) != s.generation || s.status == slotFree {
			if s.late == 0 || uint32(r.ID>>32) > s.generation {
				return errTwice
			}
			s.late--
			w.rec.late++
			return nil
		}
	}
	if i == none {
		return errUnasked
	}
	s := &c.slots[i]
	if s.status == slotEncoded {
		return errUnasked
	}
	w.judge(c, i, s, r)
	c.release(i)
	return nil
}

func (w *worker) judge(c *conn, i int32, s *slot, r *codec.Response) {
	w.reply = Reply{Status: r.Status, Body: r.Body}
	switch w.source.Check(s.stream, s.token, &w.reply) {
	case Right:
		w.rec.pace.answered(w.nowNs, w.nowNs-s.intendedNs)
		if w.nowNs >= w.measureNs && w.nowNs < w.endNs {
			w.rec.arrived++
		}
		if s.measured {
			w.rec.answered(s, w.nowNs)
			if c.trace != nil {
				w.tracer.answered(c, i, s, w.nowNs)
			}
		}
	case Refused:
		if s.measured {
			w.rec.errors++
		}
		if w.rec.firstError == "" {
			w.rec.firstError = fmt.Sprintf("stream %d token %d: refused with status %d: %.80q", s.stream, s.token, r.Status, r.Body)
		}
	default:
		w.wrong(s, fmt.Sprintf("stream %d token %d: status %d body %.80q", s.stream, s.token, r.Status, r.Body))
	}
	if w.closed {
		c.pushReady(s.stream, w.nowNs)
	}
}

func (w *worker) wrong(s *slot, what string) {
	if s.measured {
		w.rec.wrong++
	} else {
		w.rec.wrongUnmeasured++
	}
	if w.rec.firstWrong == "" {
		w.rec.firstWrong = what
	}
}

// violated ends a connection whose server broke the protocol. The request that
// was next to be answered got an answer that can't be; the others got none.
func (w *worker) violated(c *conn, err error) {
	w.rec.strays++
	what := fmt.Sprintf("connection %d: %v", c.id, err)
	if w.rec.firstWrong == "" {
		w.rec.firstWrong = what
	}
	for i := c.head; i != none; i = c.slots[i].next {
		s := &c.slots[i]
		if s.status != slotSent {
			continue
		}
		w.wrong(s, what)
		w.source.Check(s.stream, s.token, nil)
		if w.closed {
			c.pushReady(s.stream, w.nowNs)
		}
		c.release(i)
		break
	}
	w.set.Drop(c.id)
	w.lost(c)
}

func (w *worker) noteError(what string) {
	if w.rec.firstError == "" {
		w.rec.firstError = what
	}
}
